// The browser's own EventSource as a transport; here that of a package.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { EventSource } from "eventsource";
import { native } from "sinapse-client/native";
import { FIRST_EVENT, Page, SILENCE, Server } from "./page.js";

globalThis.EventSource = EventSource;

const OK = { event: "authentication", data: "ok" };

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

function open(options) {
  const page = new Page(server.url, { token: "token", transports: [native], ...options });
  pages.push(page);
  return page;
}

test("receives messages, each with its own id", async () => {
  await server.start((visit) =>
    visit.send(
      { ...OK, id: "a-1" },
      { data: "one", id: "a-2" },
      { data: "plain" },
      { event: "chat", data: "two", id: "a-3" },
      { by: "server", event: "reset", data: '{"reason": "data-lost", "channels": []}' },
      { id: "a-4" },
    ),
  );
  const page = open();
  page.on("chat");
  await page.until(() => page.log.length === 4 && page.client.lastEventId === "a-4");
  assert.deepEqual(page.log.slice(0, 3), [
    ["message", "one", "a-2"],
    ["message", "plain"],
    ["chat", "two", "a-3"],
  ]);
  assert.equal(page.log[3].reason, "data-lost");
  const [{ path }] = server.visits;
  assert.match(path, /format=json&access_token=token$/);
});

test("resumes where it was", async () => {
  await server.start((visit, number) => {
    visit.send(visit.last ? OK : { ...OK, id: "a-1" }, { data: "next", id: `a-${number + 1}` });
    if (number === 1) visit.end();
  });
  const page = open({ withCredentials: true });
  await page.has(2);
  assert.equal(server.visits[1].last, "a-2");
  assert.deepEqual(page.states, ["live", "reconnecting", "live"]);
});

test("gets another token when one is refused, and stops when there is no other", async () => {
  const tokens = ["old", "new", undefined];
  await server.start((visit, number) => {
    if (visit.token !== "new" || number > 3) return visit.refuse(401);
    visit.send({ ...OK, id: "a-1" });
    visit.end();
  });
  const page = open({ token: undefined, getToken: () => tokens.shift() });
  await page.is("closed");
  assert.deepEqual(page.states, ["live", "reconnecting", "closed 401"]);
  assert.deepEqual(tokens, []);
});

test("is quiet for as long as it likes, once it has begun", async () => {
  await server.start((visit) => visit.send({ ...OK, id: "a-1" }));
  const page = open();
  await page.is("live");
  for (let count = 0; count < 3; count++) await page.strike(SILENCE);
  assert.deepEqual(page.states, ["live"]);
  assert.equal(server.visits.length, 1);
});

test("gives way to another where streams are held back", async () => {
  await server.start((visit) => {
    if (visit.transport === "eventsource") visit.write("");
    else visit.send({ ...OK, id: "a-1" });
  });
  const page = open({ transports: [native, "websocket"] });
  await server.has(1);
  await page.strike(FIRST_EVENT);
  await page.is("live");
  assert.equal(server.visits.at(-1).transport, "websocket");
});
