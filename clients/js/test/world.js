// A world in which time, the network and the browser do what a seed says: tabs run the plain script
// that is shipped, each in a realm of its own, and whatever may come late comes late.
//
// What is to happen waits in queues. Each queue keeps its order, as connections and channels do;
// which queue is next is drawn. Time stands still while anybody has something to do.

import { readFileSync } from "node:fs";
import vm from "node:vm";

const script = new vm.Script(
  readFileSync(new URL("../dist/sinapse.js", import.meta.url), "utf8") + ";sinapse",
);

const settled = () => new Promise((resolve) => setImmediate(resolve));

// Mulberry32: a small generator of pseudo-random numbers.
function generator(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class World {
  now = 0;
  setBack = 0; // by how much the clock was
  tabs = [];
  server;
  #queues = new Map();
  #timers = new Set();
  #channels = new Set();
  #locks = new Map();
  #number = 0;

  // isOrdered: what is posted first on a channel comes first, whoever posted it, as in browsers.
  // shards: how many Redis the server has.
  constructor(seed, isOrdered, shards = 1) {
    this.isOrdered = isOrdered;
    this.random = generator(seed);
    this.server = new Server(this, shards);
  }

  // Returns one of `items`.
  draw(items) {
    return items[Math.floor(this.random() * items.length)];
  }

  number() {
    return ++this.#number;
  }

  // Lets something happen, after what was put into the same queue before; `tab` has to be able to.
  later(key, tab, run, from) {
    const queue = this.#queues.get(key) ?? [];
    this.#queues.set(key, queue);
    queue.push({ tab, run, from });
  }

  // Does one thing; returns whether there was one.
  async step() {
    const able = [...this.#queues].filter(([, [head]]) => !head.tab || head.tab.runs);
    if (able.length === 0) return false;
    const [key, queue] = this.draw(able);
    const { run } = queue.shift();
    if (queue.length === 0) this.#queues.delete(key);
    run();
    await settled();
    return true;
  }

  // Does what there is to do in so many milliseconds.
  async pass(milliseconds) {
    const end = this.now + milliseconds;
    for (;;) {
      while (await this.step());
      const next = [...this.#timers].filter(({ tab }) => tab.runs).sort((a, b) => a.at - b.at)[0];
      if (next === undefined || next.at > end) break;
      this.now = Math.max(this.now, next.at);
      if (next.every === undefined) this.#timers.delete(next);
      else next.at = this.now + next.every;
      next.run();
      await settled();
    }
    this.now = end;
  }

  open(options, url, console) {
    const tab = new Tab(this, options, url, console);
    this.tabs.push(tab);
    return tab;
  }

  // What ends with a tab. What it has said may still be on its way, or be lost.
  bury(tab) {
    for (const [key, queue] of this.#queues) {
      const isLost = this.random() < 0.5;
      const left = queue.filter((each) => each.tab !== tab && !(isLost && each.from === tab));
      if (left.length === 0) this.#queues.delete(key);
      else this.#queues.set(key, left);
    }
    for (const timer of this.#timers) if (timer.tab === tab) this.#timers.delete(timer);
    for (const channel of this.#channels) if (channel.tab === tab) this.#channels.delete(channel);
    for (const [name, lock] of this.#locks) {
      lock.waiting = lock.waiting.filter((each) => each.tab !== tab);
      if (lock.holder?.tab === tab) {
        lock.holder = undefined;
        this.#grant(name);
      }
    }
    this.server.forget(tab);
  }

  #grant(name) {
    const lock = this.#locks.get(name);
    if (lock.holder !== undefined || lock.waiting.length === 0) return;
    const next = (lock.holder = lock.waiting.shift());
    this.later(`lock ${this.number()}`, next.tab, () => {
      const release = () => {
        if (lock.holder !== next) return;
        lock.holder = undefined;
        this.#grant(name);
      };
      Promise.resolve(next.held()).then(release);
    });
  }

  #request(tab, name, { signal, steal }, held) {
    if (!tab.mayLock) return Promise.reject({ name: "SecurityError" });
    return new Promise((resolve, reject) => {
      const lock = this.#locks.get(name) ?? { holder: undefined, waiting: [] };
      this.#locks.set(name, lock);
      const request = { tab, held, reject };
      if (steal) {
        const robbed = lock.holder;
        lock.holder = undefined;
        lock.waiting.unshift(request);
        if (robbed) this.later(`lock ${this.number()}`, robbed.tab, () => robbed.reject({ name: "AbortError" }));
      } else {
        lock.waiting.push(request);
      }
      signal?.addEventListener("abort", () => {
        if (!lock.waiting.includes(request)) return;
        lock.waiting.splice(lock.waiting.indexOf(request), 1);
        reject({ name: "AbortError" });
      });
      this.#grant(name);
    });
  }

  #timer(tab, run, delay, every) {
    const timer = { tab, run, every, at: this.now + delay };
    this.#timers.add(timer);
    return timer;
  }

  // What a page finds in its realm.
  globals(tab) {
    const world = this;
    return {
      AbortController,
      TextDecoder,
      URL,
      crypto,
      queueMicrotask,
      Date: { now: () => world.now - world.setBack },
      Math: Object.assign(Object.create(Math), { random: world.random }),
      location: { href: "https://example.org/" },
      fetch: (url, request) => world.server.fetch(tab, request),
      setTimeout: (run, delay) => world.#timer(tab, run, delay),
      setInterval: (run, every) => world.#timer(tab, run, every, every),
      clearTimeout: (timer) => world.#timers.delete(timer),
      clearInterval: (timer) => world.#timers.delete(timer),
      addEventListener(type, listener, { signal }) {
        const each = { type, listener };
        tab.listeners.add(each);
        signal.addEventListener("abort", () => tab.listeners.delete(each));
      },
      navigator: {
        locks: { request: (name, options, held) => world.#request(tab, name, options, held) },
      },
      BroadcastChannel: class {
        constructor(name) {
          Object.assign(this, { name, tab });
          world.#channels.add(this);
        }
        postMessage(data) {
          const copy = structuredClone(data);
          for (const other of world.#channels) {
            if (other.name !== this.name || other === this) continue;
            const sender = world.isOrdered ? "" : tab.name;
            const hear = () => world.#channels.has(other) && other.onmessage({ data: copy });
            world.later(`${sender} > ${other.tab.name}`, other.tab, hear, tab);
          }
        }
        close() {
          world.#channels.delete(this);
        }
      },
    };
  }
}

// One that does not know what a client is due, and the client tells nobody what it got but here.
class Tab {
  runs = true;
  isOpen = true;
  listeners = new Set();
  log = []; // what was received: data, or "reset"
  states = [];
  wasLiveAt; // how many messages were published when it was live first, or its position was taken

  constructor(
    world,
    { mayLock = true, ...options } = {},
    url = "https://push.example.org/",
    console = undefined,
  ) {
    this.world = world;
    this.mayLock = mayLock;
    this.name = `tab ${world.number()}`;
    const sinapse = script.runInNewContext({ ...world.globals(this), console });
    this.client = sinapse.connect(url, {
      token: "token",
      onReset: () => this.log.push("reset"),
      onState: (state) => {
        this.states.push(state);
        if (state === "live") this.wasLiveAt ??= world.server.published.length;
      },
      ...options,
    });
    this.client.channel("room").on("message", ({ data }) => this.log.push(data));
  }

  dispatch(type) {
    for (const each of [...this.listeners]) if (each.type === type) each.listener();
  }

  // As a browser closes a tab.
  close() {
    this.dispatch("pagehide");
    this.crash();
  }

  crash() {
    this.runs = this.isOpen = false;
    this.world.bury(this);
  }

  // As mobile browsers do with tabs that are not seen.
  freeze() {
    this.dispatch("freeze");
    this.runs = false;
  }

  // A loop, a dialogue, a debugger: nobody is told.
  hang() {
    this.runs = false;
  }

  wake() {
    this.runs = true;
    this.dispatch("resume");
  }
}

// What one Redis of a server has.
class Shard {
  epoch = 1;
  ended = new Map(); // former epochs, and the counter that is left of each
  counter = 100;
  retained = [];
  forgotten = 0; // all up to this counter are not retained any more

  get position() {
    return `${this.epoch}-${this.counter}`;
  }
}

// What Sinapse promises, in its smallest form: one user, and a channel in each Redis.
export class Server {
  published = []; // all messages ever: {data, shard, counter, isLost}
  connections = new Set();
  isUp = true;
  hasPast = false; // whether new streams get what is retained
  hasNames = false; // whether some of its nodes have names for the Redis
  #shards;

  constructor(world, shards) {
    this.world = world;
    this.#shards = Array.from({ length: shards }, () => new Shard());
  }

  // What an application takes before it reads the state of a page.
  get position() {
    return this.#id(this.#shards.map(({ position }) => position));
  }

  // The id of these parts. While the list of Redis gets names, every node has its own form of it.
  #id(parts) {
    if (!this.hasNames || this.world.random() < 0.3) return parts.join(".");
    const named = parts.map((part, number) => `${number}_${part}`);
    return (this.world.random() < 0.5 ? named : named.reverse()).join(".");
  }

  #parts(id) {
    const parts = id.split(".");
    if (!id.includes("_")) return parts;
    return parts.sort().map((part) => part.split("_")[1]);
  }

  get #any() {
    return this.world.draw(this.#shards);
  }

  publishEverywhere() {
    for (const shard of this.#shards) this.publish(shard);
  }

  publish(shard = this.#any) {
    const counter = ++shard.counter;
    const message = { data: `message ${this.published.length}`, shard, counter };
    this.published.push(message);
    shard.retained.push(message);
    for (const connection of this.connections) {
      this.#send(connection, told(message.data), shard, shard.position);
    }
  }

  publishPlain() {
    const plain = told(`plain ${this.world.number()}`);
    for (const connection of this.connections) this.#send(connection, plain);
  }

  // Messages of others: the counter goes on.
  count() {
    this.#any.counter++;
  }

  // Cuts all connections.
  cut() {
    for (const connection of [...this.connections]) this.#end(connection);
  }

  trim() {
    const shard = this.#any;
    for (const message of shard.retained) message.isTrimmed = true;
    shard.retained = [];
    shard.forgotten = shard.counter;
  }

  restart() {
    const shard = this.#any;
    shard.ended.set(shard.epoch++, shard.counter);
  }

  // Loses what came last, and goes on from there.
  lose() {
    const shard = this.#any;
    const left = Math.max(shard.counter - Math.floor(this.world.random() * 4), shard.forgotten);
    for (const message of shard.retained) if (message.counter > left) message.isLost = true;
    shard.retained = shard.retained.filter(({ isLost }) => !isLost);
    for (const [epoch, end] of shard.ended) shard.ended.set(epoch, Math.min(end, left));
    shard.ended.set(shard.epoch++, left);
    shard.counter = left;
    for (const connection of this.connections) {
      this.#send(connection, reset("data-lost"), shard, shard.position);
    }
  }

  forget(tab) {
    for (const connection of [...this.connections]) {
      if (connection.tab === tab) this.connections.delete(connection);
    }
  }

  fetch(tab, { headers, signal }) {
    return new Promise((resolve, reject) => {
      const connection = { tab, key: `connection ${this.world.number()}`, chunks: [] };
      connection.fail = () => {
        connection.read?.reject(new Error("network"));
        reject(new Error("network"));
        connection.failed = true;
      };
      signal.addEventListener("abort", () => {
        connection.fail();
        this.connections.delete(connection);
      });
      this.world.later(connection.key, undefined, () => {
        if (connection.failed || !tab.isOpen) return;
        if (!this.isUp) return this.world.later(connection.key, tab, connection.fail);
        this.connections.add(connection);
        this.world.later(connection.key, tab, () =>
          resolve({ status: 200, body: { getReader: () => reader(connection) } }),
        );
        this.#welcome(connection, headers["Last-Event-ID"]);
      });
    });
  }

  #welcome(connection, last) {
    const isNew = last === undefined;
    const isAway = (shard) => this.isLastAway && shard === this.#shards.at(-1);
    const beforePast = (shard) => (this.hasPast || isAway(shard) ? "-0-0" : "");
    connection.place = isNew
      ? this.#shards.map((shard) => shard.position + beforePast(shard))
      : this.#parts(last);
    const hello = `retry: 100\n${block({ event: "authentication", data: "ok" })}`;
    this.#send(connection, isNew ? `${hello}\nid: ${this.#id(connection.place)}` : hello);
    if (isNew && !this.hasPast) return;
    const waiting = this.#shards.filter((shard) => !isAway(shard));
    while (waiting.length > 0) {
      const shard = this.world.draw(waiting);
      waiting.splice(waiting.indexOf(shard), 1);
      this.#replay(connection, shard);
    }
  }

  #replay(connection, shard) {
    const place = connection.place[this.#shards.indexOf(shard)];
    const [epoch, after, past] = place.split("-").map(Number);
    const end = shard.ended.get(epoch) ?? shard.counter;
    if (after > end) {
      this.#send(connection, reset("data-lost"), shard, shard.position);
      return;
    }
    const isGone = after < shard.forgotten;
    if (isGone) this.#send(connection, reset("not-retained"));
    const start = this.hasPast ? (past ?? after) : after;
    for (const { data, counter } of shard.retained) {
      if (counter <= start) continue;
      const id = counter <= after ? `${epoch}-${after}-${counter}-0` : `${shard.epoch}-${counter}`;
      this.#send(connection, told(data), shard, id);
    }
    if (isGone || past !== undefined) this.#send(connection, block({}), shard, shard.position);
  }

  // Sends a block; `id` is that of the last message of `shard`.
  #send(connection, block, shard, id) {
    if (shard) {
      connection.place[this.#shards.indexOf(shard)] = id;
      block += `\nid: ${this.#id(connection.place)}`;
    }
    this.world.later(connection.key, connection.tab, () => {
      connection.chunks.push(new TextEncoder().encode(`${block}\n\n`));
      connection.read?.();
    });
  }

  #end(connection) {
    this.connections.delete(connection);
    this.world.later(connection.key, connection.tab, connection.fail);
  }
}

const block = (object) => `data: ${JSON.stringify(object)}`;

const told = (data) => block({ data, channel: "room" });

const reset = (reason) =>
  block({ event: "reset", data: JSON.stringify({ reason, channels: ["room"] }) });

const reader = (connection) => ({
  read: () =>
    new Promise((resolve, reject) => {
      const answer = () => {
        if (connection.chunks.length === 0) return;
        connection.read = undefined;
        resolve({ done: false, value: connection.chunks.shift() });
      };
      if (connection.failed) return reject(new Error("network"));
      connection.read = Object.assign(answer, { reject });
      answer();
    }),
});
