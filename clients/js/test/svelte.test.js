// The functions for Svelte, with the real Svelte and a document.

import "./dom.js";
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { build } from "esbuild";
import { compile } from "svelte/compiler";
import { Push, eventually, shows } from "./components.js";

const ROOM = `
<script>
  import { useChannel, useConnectionState, useSinapse } from "sinapse-client/svelte";
  let { url, heard } = $props();
  const client = useSinapse(url, { token: "token", share: false });
  const connection = useConnectionState(client);
  useChannel(client, "room:1", "message", ({ data }) => heard.push(data));
</script>
<p>{$connection}</p>
`;

// Compiles the component for a page or for a server, and returns it with the Svelte that it has.
async function load(generate) {
  const component = {
    name: "svelte",
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /^room$/ }, () => ({ path: "room", namespace: "component" }));
      onLoad({ filter: /./, namespace: "component" }, () => ({
        contents: compile(ROOM, { generate }).js.code,
        resolveDir: import.meta.dirname ?? new URL(".", import.meta.url).pathname,
      }));
    },
  };
  const source = generate === "client" ? "svelte" : "svelte/server";
  const { outputFiles } = await build({
    stdin: {
      contents: `export { default as Room } from "room"; export * from "${source}";`,
      resolveDir: new URL(".", import.meta.url).pathname,
    },
    ...{ bundle: true, write: false, format: "esm", plugins: [component] },
    ...(generate === "client" ? { conditions: ["browser"] } : { platform: "node" }),
  });
  const file = join(folder, `${generate}.mjs`);
  writeFileSync(file, outputFiles[0].text);
  return import(file);
}

const folder = mkdtempSync(join(tmpdir(), "sinapse-"));
let page;
let push;
let element;
let shown;

before(async () => {
  page = await load("client");
});

after(() => rmSync(folder, { recursive: true }));

beforeEach(async () => {
  push = await new Push().start();
  element = document.body.appendChild(document.createElement("main"));
  shown = [];
});

afterEach(async () => {
  for (const each of shown) await page.unmount(each);
  element.remove();
  await push.stop();
});

// Shows the component in the page; what a server has rendered is kept.
function show(heard = [], how = "mount") {
  const each = page[how](page.Room, { target: element, props: { url: push.url, heard } });
  shown.push(each);
  return each;
}

test("components have one connection, which ends with the last of them", async () => {
  const heard = [];
  const [first, second] = [show(heard), show([])];
  await shows(element, "livelive");
  push.publish("one");
  await eventually(() => heard.length);
  await page.unmount(first);
  await page.unmount(second);
  // As when a module is loaded anew.
  const third = show(heard);
  await shows(element, "live");
  assert.deepEqual(push.tokens, ["token"]);
  await page.unmount(third);
  await push.has(0);
  shown = [];
  assert.deepEqual(heard, ["one"]);
});

test("what a server renders is what the page begins with", async () => {
  const server = await load("server");
  const { body } = server.render(server.Room, { props: { url: push.url, heard: [] } });
  element.innerHTML = body;
  assert.equal(element.textContent.trim(), "connecting");
  assert.deepEqual(push.tokens, []);
  show([], "hydrate");
  await eventually(() => element.textContent.trim() === "live", () => element.innerHTML);
  assert.deepEqual(push.tokens, ["token"]);
});
