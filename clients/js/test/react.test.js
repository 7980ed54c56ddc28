// The hooks for React, with the real React and a document.

import "./dom.js";
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { StrictMode, createElement as h } from "react";
import { createRoot, hydrateRoot } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { useChannel, useConnectionState, useSinapse } from "sinapse-client/react";
import { Push, eventually, shows } from "./components.js";

let push;
let root;
let element;

beforeEach(async () => {
  push = await new Push().start();
  element = document.body.appendChild(document.createElement("main"));
  root = createRoot(element);
});

afterEach(async () => {
  root.unmount();
  element.remove();
  await push.stop();
});

function Room({ room = "room:1", heard = [], told = "", ...options }) {
  const client = useSinapse(push.url, { token: "token", share: false, ...options });
  useChannel(client, room, "message", ({ data }) => heard.push(data + told));
  return h("p", null, useConnectionState(client));
}

test("strict mode has one connection, which ends when the component goes", async () => {
  const heard = [];
  root.render(h(StrictMode, null, h(Room, { heard })));
  await shows(element, "live");
  push.publish("one");
  await eventually(() => heard.length);
  assert.deepEqual(heard, ["one"]);
  assert.deepEqual(push.tokens, ["token"]);
  root.render(null);
  await push.has(0);
  assert.deepEqual(push.tokens, ["token"]);
});

test("components of the same user have one connection, as long as one of them is there", async () => {
  const heard = [];
  const pages = [["a", "b"], ["b"], [], ["c"]];
  const keyed = (keys) => h("main", null, keys.map((key) => h(Room, { key, heard })));
  root.render(keyed(pages[0]));
  await shows(element, "livelive");
  for (const keys of pages.slice(1)) root.render(keyed(keys));
  await shows(element, "live");
  push.publish("one");
  await eventually(() => heard.length);
  assert.deepEqual(heard, ["one"]);
  assert.deepEqual(push.tokens, ["token"]);
});

test("a different token is a different connection", async () => {
  const states = [];
  const onState = (state) => states.push(state);
  root.render(h(Room, { onState }));
  await shows(element, "live");
  root.render(h(Room, { onState, token: "other" }));
  await eventually(() => states.length === 3);
  await push.has(1);
  assert.deepEqual(push.tokens, ["token", "other"]);
  assert.deepEqual(states, ["live", "connecting", "live"]);
  assert.equal(element.textContent, "live");
});

test("a component whose state is from somewhere else begins there", async () => {
  const heard = [];
  const rooms = (...places) =>
    h("main", null, places.map((lastEventId) => h(Room, { key: lastEventId, lastEventId, heard })));
  root.render(rooms("a-0"));
  await shows(element, "live");
  root.render(rooms("a-0", "a-1"));
  await shows(element, "livelive");
  assert.deepEqual(push.places, ["a-0", "a-1"]);
});

test("with share a new token is no new connection, and is there when it is asked for", async () => {
  const user = { share: "ada", transports: ["eventsource"] };
  root.render(h(Room, { ...user }));
  await shows(element, "live");
  root.render(h(Room, { ...user, token: "renewed" }));
  assert.deepEqual(push.tokens, ["token"]);
  push.revoke();
  await eventually(() => push.tokens.includes("renewed"), () => push.tokens);
});

test("what is rendered last is what counts", async () => {
  const heard = [];
  root.render(h(Room, { heard, told: "!" }));
  await shows(element, "live");
  root.render(h(Room, { heard, told: "?" }));
  root.render(h(Room, { heard, told: "?", room: "room:2" }));
  await eventually(() => {
    push.publish("one");
    push.publish("two", "room:2");
    return heard.includes("two?");
  });
  assert(!heard.includes("two!"));
  root.render(h(Room, { heard, room: null }));
  await shows(element, "live");
  assert.deepEqual(push.tokens, ["token"]);
});

test("without a URL there is no connection", async () => {
  const Visitor = () => h("p", null, useConnectionState(useSinapse(null)));
  root.render(h(Visitor));
  await shows(element, "connecting");
  assert.deepEqual(push.tokens, []);
});

test("what a server renders is what the page begins with", async () => {
  root.unmount();
  const page = h(StrictMode, null, h(Room));
  element.innerHTML = renderToString(page);
  assert.equal(element.textContent, "connecting");
  assert.deepEqual(push.tokens, []);
  const errors = [];
  root = hydrateRoot(element, page, { onRecoverableError: (error) => errors.push(error) });
  await shows(element, "live");
  assert.deepEqual(errors, []);
  assert.deepEqual(push.tokens, ["token"]);
});
