// What a page does with messages: by type, by channel, once, in a loop; and what the console is told.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { Page, Server } from "./page.js";
import { World } from "./world.js";

const OK = { event: "authentication", data: "ok" };
const RESET = {
  by: "server",
  event: "reset",
  data: '{"reason": "not-retained", "channels": ["room:1"]}',
};

let server;
let pages;

beforeEach(() => {
  server = new Server();
  pages = [];
});

afterEach(async () => {
  for (const page of pages) page.client.close();
  await server.stop();
});

function open(options = {}, globals = {}) {
  const page = new Page(server.url, { token: "token", ...options }, globals);
  pages.push(page);
  return page;
}

// Starts a server that sends items to each stream, or all of them to a poll.
const sending = (...items) =>
  server.start((visit) => {
    if (visit.transport !== "longpoll" || !visit.last) visit.send({ ...OK, id: "a-1" });
    if (visit.transport === "longpoll" ? visit.last === "a-1" : true) visit.send(...items);
  });

const NOTE = { channel: "room:1", event: "note", data: '{"text":"one"}', id: "a-2" };
const OTHER = { channel: "room:2", event: "note", data: "two", id: "a-3" };
const LAST = { channel: "room:1", data: "last", id: "a-4" };

for (const transport of ["eventsource", "websocket", "longpoll"]) {
  test(`${transport}: messages carry their channel, and are heard by it`, async () => {
    await sending(NOTE, OTHER, LAST);
    const page = open({ transports: [transport] });
    const heard = [];
    const hears = (name) => (message) => heard.push([name, message.channel, message.data]);
    page.client.channel("room:1").on("note", hears("one"));
    page.client.channel("room:2").on("*", hears("two"));
    page.client.channel("room:3").on("*", hears("three"));
    page.client.on("*", hears("all"));
    await page.has(1);
    assert.deepEqual(heard, [
      ["one", "room:1", NOTE.data],
      ["all", "room:1", NOTE.data],
      ["two", "room:2", "two"],
      ["all", "room:2", "two"],
      ["all", "room:1", "last"],
    ]);
    assert(server.visits.every(({ path }) => path.includes("format=json")));
  });
}

test("tabs that share a connection hand on the channel", async () => {
  const world = new World(1, true);
  for (let count = 0; count < 2; count++) world.open();
  await world.pass(1_000);
  const heard = world.tabs.map(({ client }) => {
    const channels = [];
    client.on("*", ({ channel }) => channels.push(channel));
    return channels;
  });
  world.server.publish();
  world.server.publishPlain();
  await world.pass(0);
  assert.deepEqual(heard, Array(2).fill(["room", "room"]));
});

describe("a message", () => {
  test("says what it has as JSON, to each who asks", async () => {
    await sending(NOTE, LAST);
    const page = open();
    const notes = [];
    for (let count = 0; count < 2; count++)
      page.client.on("note", (message) => notes.push(message.json()));
    page.client.on("message", (message) => assert.throws(() => message.json(), /JSON/));
    await page.has(1);
    assert.equal(notes[0].text, "one");
    assert.notEqual(notes[0], notes[1]);
    assert.equal(page.states.at(-1), "live");
  });

  test("is data alone, without an id if it is not retained", async () => {
    await sending({ data: "plain", channel: "room:1" });
    const page = open();
    const messages = [];
    page.client.on("*", (message) => messages.push({ ...message }));
    await page.has(1);
    assert.deepEqual(messages, [{ event: "message", data: "plain", channel: "room:1" }]);
  });
});

describe("handlers", () => {
  test("are called once", async () => {
    await sending(NOTE, OTHER, LAST);
    const page = open();
    const heard = [];
    page.client.once("*", ({ data }) => heard.push(data));
    page.client.channel("room:2").once("note", ({ data }) => heard.push(data));
    page.client.once("note", ({ data }) => heard.push(data))();
    await page.has(1);
    assert.deepEqual(heard, [NOTE.data, "two"]);
  });

  test("are taken back one by one, and at once", async () => {
    await sending(NOTE, OTHER, LAST);
    const page = open();
    const heard = [];
    const hear = ({ data }) => heard.push(data);
    page.client.on("*", () => stop());
    const stop = page.client.on("*", hear);
    page.client.on("message", hear);
    await page.has(1);
    assert.deepEqual(heard, ["last"]);
  });

  test("of states and resets may be several, and are taken back", async () => {
    await sending(RESET, LAST);
    const page = open();
    const told = [];
    page.client.onState((state) => told.push(state));
    page.client.onReset(({ reason, channels }) => told.push(reason, ...channels));
    page.client.onState(() => told.push("nobody"))();
    page.client.onReset(() => told.push("nobody"))();
    await page.has(2);
    page.client.close();
    assert.deepEqual(told, ["live", "not-retained", "room:1", "closed"]);
    assert.deepEqual(page.states, ["live", "closed 0"]);
    assert.equal(page.log[0].reason, "not-retained");
  });
});

describe("a loop over messages", () => {
  test("gets each of them, and is left by break", async () => {
    await sending(NOTE, OTHER, LAST);
    const { client } = open();
    const heard = [];
    for await (const { data } of client) {
      heard.push(data);
      await new Promise((resolve) => setImmediate(resolve));
      if (data === "last") break;
    }
    assert.deepEqual(heard, [NOTE.data, "two", "last"]);
    assert.equal(client.state, "live");
  });

  test("gets those of a channel alone, and ends with the client", async () => {
    await sending(NOTE, OTHER, LAST);
    const page = open();
    const heard = [];
    page.client.on("message", () => page.client.close());
    for await (const message of page.client.channel("room:1")) heard.push(message.data);
    assert.deepEqual(heard, [NOTE.data, "last"]);
    for await (const message of page.client) heard.push(message);
    assert.equal(heard.length, 2);
  });

  test("ends when there is no other token", async () => {
    await server.start((visit) => visit.refuse(401));
    const { client } = open();
    for await (const message of client) assert.fail(message);
    assert.equal(client.state, "closed");
  });
});

describe("the console", () => {
  const told = [];
  const console = { debug: (...words) => told.push(words.join(" ")) };
  beforeEach(() => told.splice(0));

  test("is told what happens and why, but no token", async () => {
    await server.start((visit, number) => {
      if (visit.token !== "secret-2") return visit.refuse(401);
      visit.send({ ...OK, id: "a-1" }, RESET, LAST);
      visit.end();
    });
    const tokens = ["secret-1", "secret-2"];
    const getToken = () => tokens.shift();
    const page = open({ token: undefined, getToken, debug: true }, { console });
    await page.has(2);
    await page.until(() => told.some((line) => line.includes("waits")));
    page.client.close();
    const text = told.join("\n").replace(/waits [\d.]+/g, "waits");
    const expected = [
      ...["needs token", "connects eventsource", "ended 401"],
      ...["needs token", "connects eventsource", "taken", "live"],
      ...[`reset ${RESET.data}`, "ended 0", "reconnecting", "waits"],
    ];
    assert.deepEqual(text.split("\n").slice(0, expected.length).map((line) => line.trim()),
      expected.map((line) => `sinapse ${line}`));
    assert(!text.includes("secret"));
  });

  test("is told who leads", async () => {
    const world = new World(1, true);
    const lines = [[], []];
    for (const each of lines)
      world.open({ debug: true }, undefined, { debug: (...words) => each.push(words.join(" ")) });
    await world.pass(1_000);
    const all = lines.map((each) => each.join("\n"));
    assert.match(all.find((text) => text.includes("leads")), /leads[^]*connects eventsource/);
    assert.match(all.find((text) => !text.includes("leads")), /follows/);
  });

  test("is told nothing unless that is wanted", async () => {
    await sending(LAST);
    const page = open({}, { console });
    await page.has(1);
    assert.deepEqual(told, []);
  });
});
