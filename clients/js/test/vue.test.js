// The composables for Vue, with the real Vue and a document.

import "./dom.js";
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { createApp, createSSRApp, h, shallowRef } from "vue";
import { renderToString } from "vue/server-renderer";
import { useChannel, useConnectionState, useSinapse } from "sinapse-client/vue";
import { Push, eventually, shows } from "./components.js";

let push;
let element;
let app;

beforeEach(async () => {
  push = await new Push().start();
  element = document.body.appendChild(document.createElement("main"));
});

afterEach(async () => {
  app.unmount();
  element.remove();
  await push.stop();
});

const Room = {
  props: { room: { default: "room:1" }, token: { default: "token" }, heard: { default: () => [] } },
  setup(props) {
    const client = useSinapse(push.url, () => ({ token: props.token, share: false }));
    const state = useConnectionState(client);
    useChannel(client, () => props.room, "message", ({ data }) => props.heard.push(data));
    return () => h("p", state.value);
  },
};

// Shows what a function returns.
function show(render) {
  app = createApp({ render });
  app.mount(element);
}

test("components have one connection, which ends with the last of them", async () => {
  const keys = shallowRef(["a", "b"]);
  const heard = [];
  show(() => keys.value.map((key) => h(Room, { key, heard })));
  await shows(element, "livelive");
  keys.value = ["b"];
  await shows(element, "live");
  push.publish("one");
  await eventually(() => heard.length);
  keys.value = [];
  await shows(element, "");
  // As when a module is loaded anew.
  keys.value = ["c"];
  await shows(element, "live");
  assert.deepEqual(push.tokens, ["token"]);
  keys.value = [];
  await push.has(0);
  assert.deepEqual(heard, ["one"]);
});

test("channel and token may change", async () => {
  const heard = [];
  const props = shallowRef({ heard });
  show(() => h(Room, props.value));
  await shows(element, "live");
  props.value = { heard, token: "other", room: "room:2" };
  await eventually(() => push.tokens.length === 2 && push.open.size === 1);
  await eventually(() => {
    push.publish("one");
    push.publish("two", "room:2");
    return heard.includes("two");
  });
  assert.deepEqual(push.tokens, ["token", "other"]);
  await shows(element, "live");
});

test("what a server renders is what the page begins with", async () => {
  const page = { render: () => h(Room) };
  element.innerHTML = await renderToString(createSSRApp(page));
  assert.equal(element.textContent, "connecting");
  assert.deepEqual(push.tokens, []);
  const warnings = [];
  app = createSSRApp(page);
  app.config.warnHandler = (text) => warnings.push(text);
  app.mount(element);
  await shows(element, "live");
  assert.deepEqual(warnings, []);
  assert.deepEqual(push.tokens, ["token"]);
});
