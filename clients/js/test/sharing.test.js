// Tabs that come and go, hang and crash, over a network and on a server that do the same.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { World } from "./world.js";

// To look for more: STORIES=10000 node --test test/sharing.test.js; to see one again: STORY=17.
const FIRST = Number(process.env.STORY ?? 1);
// A tab was ahead of the leader in one Redis, and another one lost data.
const KEPT = [1235];
const STORIES = Number(process.env.STORIES ?? (process.env.STORY ? 1 : 30));

const EVENTS = {
  publish: ({ server }) => server.publish(),
  publishPlain: ({ server }) => server.publishPlain(),
  burst: async (world) => {
    for (let size = world.draw([2, 5, 10]); size > 0; size--) {
      world.draw([() => world.server.publish(), () => world.server.publishPlain()])();
      for (let steps = world.draw([0, 1, 2, 3]); steps > 0; steps--) await world.step();
    }
  },
  count: ({ server }) => server.count(),
  cut: ({ server }) => server.cut(),
  down: ({ server }) => {
    server.isUp = false;
    server.cut();
  },
  up: ({ server }) => (server.isUp = true),
  trim: ({ server }) => server.trim(),
  restart: ({ server }) => server.restart(),
  lose: ({ server }) => server.lose(),
  open: (world) => world.tabs.filter(({ isOpen }) => isOpen).length < 5 && world.open(),
  render: async (world) => {
    const { position, published } = world.server;
    const taken = published.length;
    for (let size = world.draw([0, 1, 3]); size > 0; size--) {
      world.server.publish();
      for (let steps = world.draw([0, 1, 5]); steps > 0; steps--) await world.step();
    }
    if (world.tabs.filter(({ isOpen }) => isOpen).length < 5)
      world.open({ lastEventId: position }).wasLiveAt = taken;
  },
  close: (world) => one(world, "close"),
  crash: (world) => one(world, "crash"),
  freeze: (world) => one(world, "freeze"),
  hang: (world) => one(world, "hang"),
  wake: (world) => world.draw(world.tabs.filter(sleeps))?.wake(),
  wait: (world) => world.pass(world.draw([10, 100, 1_000, 10_000, 40_000])),
  setClock: (world) => (world.setBack += world.draw([1_000, 100_000])),
};

const sleeps = ({ isOpen, runs }) => isOpen && !runs;

const one = (world, what) => world.draw(world.tabs.filter(({ runs }) => runs))?.[what]();

// A tab must have got what it was due: each retained message once, or a reset; and in order, if it
// came from one Redis.
function check(tab, published, isCalm) {
  const numbers = [];
  const plain = [];
  for (const entry of tab.log) {
    const number = Number(entry.split(" ")[1]);
    if (entry.startsWith("plain")) plain.push(number);
    else if (entry !== "reset") {
      assert(!numbers.includes(number), `${entry} came twice`);
      numbers.push(number);
    }
  }
  if (isCalm) assert.deepEqual(plain, [...new Set(plain)], "a plain message came twice");
  const at = (number) => tab.log.indexOf(`message ${number}`);
  published.forEach(({ data, shard, isLost, isTrimmed }, number) => {
    const alike = numbers.filter((each) => published[each].shard === shard);
    assert.deepEqual(alike, [...alike].sort((a, b) => a - b), "out of order");
    const first = Math.min(tab.wasLiveAt, alike[0] ?? Infinity);
    if (number < first || isLost || numbers.includes(number)) return;
    // Of a past nobody is promised more than what is retained when it is read.
    if (number < tab.wasLiveAt && isTrimmed) return;
    const before = alike.findLast((each) => each < number);
    const after = alike.find((each) => each > number);
    const gap = tab.log.slice(before === undefined ? 0 : at(before), after === undefined ? undefined : at(after));
    assert(gap.includes("reset"), `${data} is missing, and nobody said so`);
  });
}

async function story(seed, events, hasNames = false) {
  const world = new World(seed, seed % 2 === 0, seed % 4 < 2 && !hasNames ? 1 : 2);
  world.server.hasPast = seed % 3 === 0;
  world.server.hasNames = hasNames;
  world.open();
  const told = [];
  try {
    for (let length = 20 + world.random() * 60; length > 0; length--) {
      const event = world.draw(events);
      told.push(event);
      await EVENTS[event](world);
      for (let steps = world.draw([0, 1, 2, 5, 20, 100]); steps > 0; steps--) await world.step();
    }
    world.server.isUp = true;
    world.tabs.filter(sleeps).forEach((tab) => tab.wake());
    await world.pass(300_000);
    const open = world.tabs.filter(({ isOpen }) => isOpen);
    world.server.publishEverywhere();
    await world.pass(1_000);
    // Who catches up knows by the next messages at the latest that it has.
    assert.equal(world.server.connections.size, Math.min(open.length, 1));
    world.server.publish();
    world.server.publishPlain();
    await world.pass(0);
    for (const tab of open) {
      assert.equal(tab.client.state, "live");
      assert(tab.log.at(-1)?.startsWith("plain"), "not even the last message came");
      assert.equal(tab.log.at(-2), world.server.published.at(-1).data);
      // For messages without ids much rests on the order of what tabs tell each other, as browsers
      // keep it, and on a clock that is not set back while a leader hangs.
      check(tab, world.server.published, world.isOrdered && world.setBack === 0);
    }
  } catch (error) {
    error.stack += `\nin story ${seed}: ${told.join(", ")}\n${world.tabs
      .map((tab) => `${tab.name}, live at ${tab.wasLiveAt}: ${tab.log.join(", ")}`)
      .join("\n")}`;
    throw error;
  }
}

describe("nothing is lost or doubled", () => {
  const tell = (when, events, hasNames) =>
    test(when, async () => {
      for (let seed = FIRST; seed < FIRST + STORIES; seed++) await story(seed, events, hasNames);
      if (!process.env.STORY) for (const seed of KEPT) await story(seed, events, hasNames);
    });
  const often = ["publish", "publish", "burst", "open", "render", "wake", "wait"];

  tell("when tabs come and go", [...often, "close", "freeze"]);
  tell("when tabs crash and hang", [...often, "crash", "hang", "setClock"]);
  tell("when the server loses data", [
    ...often,
    ...["freeze", "crash", "restart", "lose", "lose", "trim", "count", "cut"],
  ]);
  tell("whatever happens", Object.keys(EVENTS));
  tell("while the nodes get a list of Redis with names", Object.keys(EVENTS), true);
});

// A world in which all is well, with so many tabs; the first is the leader.
async function calm(tabs, seed = 1) {
  const world = new World(seed, true);
  for (let number = 0; number < tabs; number++) world.open();
  await world.pass(1_000);
  assert.equal(world.server.connections.size, 1);
  return world;
}

test("tabs share one connection, and messages that are not retained", async () => {
  const world = await calm(5);
  world.server.publish();
  world.server.publishPlain();
  await world.pass(0);
  for (const { log, states } of world.tabs) {
    assert.equal(log.length, 2);
    assert.deepEqual(states, ["live"]);
  }
});

test("nobody shares with another user, or another URL", async () => {
  const world = new World(1, true);
  world.open({ token: "one" });
  world.open({ token: "two" });
  world.open({ token: "one", share: "two" });
  world.open({ token: "one", share: false });
  world.open({ token: "one", share: "" });
  world.open({ token: undefined, getToken: () => "one" });
  world.open({ token: undefined, getToken: () => "one" });
  world.open({ token: undefined, withCredentials: true });
  world.open({ token: undefined, withCredentials: true });
  await world.pass(1_000);
  assert.equal(world.server.connections.size, 9);
  for (let number = 0; number < 3; number++) {
    world.open({ token: undefined, getToken: () => `token ${number}`, share: "somebody" });
  }
  world.open({ token: "one" });
  await world.pass(1_000);
  assert.equal(world.server.connections.size, 10);
  world.open({ token: "one" }, "https://push.example.org/other");
  await world.pass(1_000);
  assert.equal(world.server.connections.size, 11);
});

test("a new tab begins where the leader is", async () => {
  const world = await calm(1);
  world.server.publish();
  await world.pass(0);
  const late = world.open();
  await world.pass(0);
  assert.equal(late.client.lastEventId, world.tabs[0].client.lastEventId);
  assert.deepEqual(late.log, []);
});

test("a new tab gets the past of its channels, then shares", async () => {
  for (let seed = 1; seed <= 50; seed++) {
    const world = await calm(1, seed);
    world.server.hasPast = true;
    world.server.publish();
    world.server.publish();
    const late = [];
    for (let count = 0; count < 3; count++) {
      for (let steps = world.draw([0, 1, 2, 5]); steps > 0; steps--) await world.step();
      world.server.publish();
      late.push(world.open());
    }
    await world.pass(1_000);
    world.server.publish();
    await world.pass(0);
    const expected = [0, 1, 2, 3, 4, 5].map((number) => `message ${number}`);
    for (const { log } of late) assert.deepEqual(log, expected);
    assert.deepEqual(world.tabs[0].log, expected);
    assert.equal(world.server.connections.size, 1);
  }
});

test("a new tab shares, though one of several Redis is away", async () => {
  for (let seed = 1; seed <= 20; seed++) {
    const world = new World(seed, true, 2);
    world.server.isLastAway = true;
    for (let count = 0; count < 3; count++) {
      world.open();
      await world.pass(1_000);
    }
    assert.equal(world.server.connections.size, 1);
    world.server.publishPlain();
    await world.pass(0);
    for (const { log } of world.tabs) assert.equal(log.length, 1);
  }
});

test("a new tab with a position gets what came since, wherever the leader is", async () => {
  for (let seed = 1; seed <= 50; seed++) {
    const world = await calm(1, seed);
    world.server.publish();
    const lastEventId = world.server.position;
    const late = [];
    for (let count = 0; count < 3; count++) {
      for (let steps = world.draw([0, 1, 2, 5]); steps > 0; steps--) await world.step();
      world.server.publish();
      late.push(world.open({ lastEventId }));
    }
    await world.pass(1_000);
    world.server.publish();
    await world.pass(0);
    const expected = ["message 1", "message 2", "message 3", "message 4"];
    for (const { log } of late) assert.deepEqual(log, expected);
    assert.deepEqual(world.tabs[0].log, ["message 0", ...expected]);
    assert.equal(world.server.connections.size, 1);
  }
});

test("a leader that is frozen leaves the lead to another at once", async () => {
  const world = await calm(2);
  const [leader, other] = world.tabs;
  leader.freeze();
  await world.pass(1_000);
  world.server.publish();
  await world.pass(0);
  assert.deepEqual(other.log, ["message 0"]);
  leader.wake();
  await world.pass(0);
  assert.deepEqual(leader.log, ["message 0"]);
  assert.equal(world.server.connections.size, 1);
});

test("a page that comes back out of the back-forward cache gets what it missed", async () => {
  const world = await calm(2);
  const [page, other] = world.tabs;
  page.dispatch("pagehide");
  await world.pass(1_000);
  assert.equal(page.client.state, "reconnecting");
  world.server.publish();
  await world.pass(0);
  page.dispatch("pageshow");
  await world.pass(0);
  assert.deepEqual(page.log, ["message 0"]);
  assert.deepEqual([page.client.state, other.client.state], ["live", "live"]);
});

// Runs in worlds that differ in what comes first.
const inEachWorld = (name, run) =>
  test(name, async () => {
    for (let seed = 1; seed <= 50; seed++) await run(await calm(3, seed));
  });

// Lets `page` come back after it has missed something; it then has a connection of its own.
async function comeBack(world, page) {
  page.freeze();
  world.server.publish();
  await world.pass(0);
  page.wake();
  while (world.server.connections.size < 2) assert(await world.step());
}

// The same, but it will not know that it has caught up before something is published: the leader's
// place is of a former epoch.
async function comeBackAndWait(world, page) {
  page.freeze();
  world.server.publish();
  await world.pass(0);
  world.server.restart();
  page.wake();
  await world.pass(0);
  assert.equal(world.server.connections.size, 2);
}

for (const how of [comeBack, comeBackAndWait]) {
  inEachWorld(`what is not retained reaches a tab that is catching up: ${how.name}`, async (world) => {
    const page = world.tabs[1];
    await how(world, page);
    world.server.publishPlain();
    world.server.publish();
    await world.pass(0);
    assert.equal(page.log.length, 3);
    assert.equal(page.log.filter((entry) => entry.startsWith("plain")).length, 1);
  });
}

inEachWorld("a tab that takes over while it catches up doubles nothing", async (world) => {
  const [leader, page, other] = world.tabs;
  await comeBackAndWait(world, page);
  other.freeze();
  other.wake();
  await world.pass(0);
  world.server.publishPlain();
  for (let steps = world.draw([1, 2, 3, 4]); steps > 0; steps--) await world.step();
  leader.close();
  await world.pass(1_000);
  for (const { log } of [page, other]) assert.equal(new Set(log).size, log.length, log);
});

test("a tab that catches up says how its own connection stands", async () => {
  const world = await calm(2);
  const [, page] = world.tabs;
  await comeBack(world, page);
  while (page.client.state !== "live") assert(await world.step());
  assert.equal(world.server.connections.size, 2);
});

inEachWorld("a leader that was replaced is not listened to when it wakes", async (world) => {
  const [leader, ...others] = world.tabs;
  leader.hang();
  await world.pass(40_000);
  world.server.publishPlain();
  await world.pass(0);
  leader.wake();
  await world.pass(0);
  for (const { log } of others) assert.equal(log.length, 1);
});

test("a new leader is listened to though the clock was set back", async () => {
  const world = await calm(2);
  const [leader, other] = world.tabs;
  leader.hang();
  world.setBack = 1_000_000;
  world.open();
  await world.pass(25_000);
  world.server.publish();
  await world.pass(0);
  assert.deepEqual(other.log, ["message 0"]);
});

test("a leader that does not answer is replaced, and follows when it wakes", async () => {
  const world = await calm(2);
  const [leader, other] = world.tabs;
  leader.hang();
  world.server.publish();
  await world.pass(28_000);
  assert.deepEqual(other.log, []);
  await world.pass(2_000);
  assert.deepEqual(other.log, ["message 0"]);
  leader.wake();
  await world.pass(1_000);
  assert.deepEqual(leader.log, ["message 0"]);
  assert.equal(world.server.connections.size, 1);
});

test("a page that may not use locks has a connection of its own", async () => {
  const world = new World(1, true);
  for (let number = 0; number < 2; number++) world.open({ mayLock: false });
  await world.pass(1_000);
  assert.equal(world.server.connections.size, 2);
});

test("one that is closed says nothing more, and the others go on", async () => {
  const world = await calm(3);
  const [leader, ...others] = world.tabs;
  leader.client.close();
  assert.equal(leader.client.state, "closed");
  assert.equal(leader.listeners.size, 0);
  await world.pass(1_000);
  world.server.publish();
  await world.pass(0);
  assert.deepEqual(leader.log, []);
  assert.deepEqual(leader.states, ["live", "closed"]);
  for (const { log } of others) assert.deepEqual(log, ["message 0"]);
});
