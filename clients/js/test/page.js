// A page with the plain script in it, for which pauses are a thousand times as short, and what
// watches over a connection waits until a test lets it strike; and a server on the loopback
// interface that answers as a test says.

import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import vm from "node:vm";
import { WebSocket, WebSocketServer } from "ws";

const script = new vm.Script(
  readFileSync(new URL("../dist/sinapse.js", import.meta.url), "utf8") + ";sinapse",
);

const SPEED = 1_000;

// What a page waits for, in ms: to be let in, the first event, any sign of life, a better transport,
// the same where that may be known sooner, a token.
export const TAKEN = 60_000;
export const FIRST_EVENT = 10_000;
export const SILENCE = 45_000;
export const CONTENT = 1_800_000;
export const SOON = 120_000;
export const ASKING = 20_000;
const WATCHES = [TAKEN, FIRST_EVENT, SILENCE, CONTENT, SOON, ASKING];

const PATIENCE = 30_000; // ms: a bound, not an expectation

// The package throws what a browser writes to its console: that a connection failed.
class QuietWebSocket extends WebSocket {
  constructor(...options) {
    super(...options);
    this.on("error", () => {});
  }
}

// Waits until a condition holds; `changed` is given what to call when something changes.
export async function eventually(condition, told = () => undefined, changed = () => {}) {
  const deadline = Date.now() + PATIENCE;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`never: ${condition}: ${JSON.stringify(told())}`);
    await new Promise((resolve) => {
      changed(resolve);
      setTimeout(resolve, 10);
    });
  }
}

export class Page {
  log = []; // data of messages, and resets
  states = []; // each with its code, if there is one
  pauses = []; // ms, watches too
  watches = new Map(); // those that are set: id -> {delay, run}
  listeners = new Map();

  constructor(url, options = {}, globals = {}) {
    const sinapse = script.runInNewContext({
      ...{ AbortController, BroadcastChannel, TextDecoder, URL, crypto, fetch, queueMicrotask },
      ...{ setInterval, clearInterval },
      WebSocket: QuietWebSocket,
      setTimeout: (run, delay) => {
        this.pauses.push(delay);
        if (!WATCHES.includes(delay)) return setTimeout(run, delay / SPEED);
        const watch = Symbol();
        this.watches.set(watch, { delay, run });
        return watch;
      },
      clearTimeout: (timer) => this.watches.delete(timer) || clearTimeout(timer),
      addEventListener: (type, listener, { signal }) => {
        this.listeners.set(type, listener);
        signal.addEventListener("abort", () => this.listeners.delete(type));
      },
      ...globals,
    });
    this.client = sinapse.connect(url, {
      onReset: (reset) => {
        this.log.push(reset);
        this.#changed();
      },
      onState: (state, code) => {
        this.states.push(code === undefined ? state : `${state} ${code}`);
        this.#changed();
      },
      ...options,
    });
    this.on("message");
  }

  on(type) {
    return this.client.on(type, ({ event, data, id }) => {
      this.log.push(id ? [event, data, id] : [event, data]);
      this.#changed();
    });
  }

  until(condition) {
    const { states, log } = this;
    return eventually(condition, () => ({ states, log }), (changed) => (this.#changed = changed));
  }

  // Lets so many milliseconds pass, as soon as somebody waits for just that.
  async strike(delay) {
    const isSet = () => [...this.watches].find(([, watch]) => watch.delay === delay);
    await this.until(isSet);
    const [watch, { run }] = isSet();
    this.watches.delete(watch);
    run();
  }

  has(count) {
    return this.until(() => this.log.length >= count);
  }

  is(state) {
    return this.until(() => this.states.at(-1)?.startsWith(state));
  }

  #changed = () => {};
}

// Calls `answer(visit)` for each request and each WebSocket.
export class Server {
  visits = [];
  #http = createServer();
  #sockets = new WebSocketServer({ noServer: true, handleProtocols: () => "sinapse.v1" });

  async start(answer, port = 0) {
    const visit = (request, more) => {
      const { searchParams } = new URL(request.url, "http://localhost");
      const { headers } = request;
      const offered = headers["sec-websocket-protocol"]?.split(/, ?/) ?? [];
      const each = {
        path: request.url,
        headers,
        transport: offered.length ? "websocket" : TRANSPORTS[headers.accept],
        token:
          headers.authorization?.slice(7) ??
          offered[1]?.slice("sinapse.token.".length) ??
          searchParams.get("access_token") ??
          undefined,
        last:
          headers["last-event-id"] ??
          searchParams.get("last_event_id") ??
          searchParams.get("lastEventId") ??
          undefined,
        ...more,
      };
      this.visits.push(each);
      answer(each, this.visits.length);
    };
    this.#http.on("request", (request, response) => visit(request, answers(response)));
    this.#http.on("upgrade", (request, socket, head) => {
      const refuse = (status) => socket.end(`HTTP/1.1 ${status} Refused\r\n\r\n`);
      let connection;
      const open = () =>
        (connection ??= (() => {
          let opened;
          this.#sockets.handleUpgrade(request, socket, head, (made) => (opened = made));
          return opened;
        })());
      visit(request, {
        refuse,
        send: (...items) => items.forEach((item) => open().send(JSON.stringify(json(item)))),
        end: (code) => open().close(code),
        cut: () => socket.destroy(),
        heard: () => once(open(), "message").then(([data]) => String(data)),
      });
    });
    this.#http.listen(port, "127.0.0.1");
    await once(this.#http, "listening");
    this.port = this.#http.address().port;
    this.url = `http://127.0.0.1:${this.port}/`;
    return this;
  }

  has(count) {
    return eventually(() => this.visits.length >= count, () => this.visits);
  }

  async stop() {
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#http.closeAllConnections();
    this.#http.close();
    await once(this.#http, "close");
  }
}

const TRANSPORTS = { "text/event-stream": "eventsource", "application/json": "longpoll" };

function answers(response) {
  const isStream = TRANSPORTS[response.req.headers.accept] === "eventsource";
  const head = { "Content-Type": response.req.headers.accept };
  return {
    // As Sinapse does, or as something between.
    refuse(status, isOwn = true) {
      if (isOwn) response.writeHead(status, { "Cache-Control": "no-store" });
      else response.writeHead(status, { "Content-Type": "text/html" });
      response.end(status === 204 ? undefined : isOwn ? `${status} no\n` : `<h1>${status} no</h1>`);
    },
    // Several items for a long poll are one answer.
    send(...items) {
      if (!response.headersSent) response.writeHead(200, head);
      if (isStream) items.forEach((item) => response.write(block(item)));
      else response.end(JSON.stringify(items.map(json)));
    },
    write(text) {
      if (!response.headersSent) response.writeHead(200, head);
      response.write(text);
    },
    end: () => response.end(),
    cut: () => response.destroy(),
    closed: once(response, "close"),
  };
}

// An item is a message unless it is an opening, has nothing but an id, or says `by: "server"`.
const json = ({ by, ...item }) =>
  by || item.data === undefined || (item.event === "authentication" && item.data === "ok")
    ? item
    : { channel: "room:1", ...item };

const block = (item) => {
  const { id, ...object } = json(item);
  return `data: ${JSON.stringify(object)}\n${id ? `id: ${id}\n` : ""}\n`;
};
