// What is shipped.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

const ROOT = new URL("..", import.meta.url);

const read = (path) => readFileSync(new URL(path, ROOT));

const run = (...command) => String(execFileSync(command[0], command.slice(1), { cwd: ROOT }));

for (const file of ["dist/index.js", "dist/sinapse.js"]) {
  test(`${file} is less than 4 kB`, (context) => {
    const size = gzipSync(read(file), { level: 9 }).length;
    context.diagnostic(`${size} bytes`);
    assert(size < 4_000);
  });
}

test("what is packed is the code, its types, its manual and its licence", () => {
  const [{ files }] = JSON.parse(run("npm", "pack", "--dry-run", "--json", "--ignore-scripts"));
  assert.deepEqual(
    files.map(({ path }) => path).sort(),
    [
      ...["LICENSE", "README.md", "dist/ai.d.ts", "dist/ai.js"],
      ...["dist/index.d.ts", "dist/index.js", "dist/sinapse.js", "package.json"],
    ],
  );
  assert.equal(String(read("LICENSE")), String(read("../../LICENSE")));
});

test("publint finds nothing to say against it", () => {
  run("node_modules/.bin/publint", "--strict");
});

test("nothing else is needed, and the AI SDK only for its types", () => {
  const { dependencies, peerDependencies, ...rest } = JSON.parse(read("package.json"));
  assert.equal(dependencies, undefined);
  assert.deepEqual(Object.keys(peerDependencies), ["ai"]);
  assert.equal(rest.peerDependenciesMeta.ai.optional, true);
  const imports = String(read("dist/ai.js")).match(/from"[^"]+"/g);
  assert.deepEqual(imports, ['from"./index.js"'], "it has the client in it once");
});

test("it is an ES module that Node loads, and exports connect alone", async () => {
  const module = await import("sinapse-client");
  assert.deepEqual(Object.keys(module), ["connect"]);
});

test("the transport for the AI SDK is a module beside it", async () => {
  const module = await import("sinapse-client/ai");
  assert.deepEqual(Object.keys(module), ["SinapseChatTransport"]);
});

test("the types of the transport are those that the AI SDK takes", () => {
  const options = ["--noEmit", "--skipLibCheck", "--strict", "--types", ""];
  const target = ["--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler"];
  run("node_modules/.bin/tsc", "--ignoreConfig", ...options, ...target, "test/types.ts");
});

test("the plain script makes one global name", () => {
  assert.match(String(read("dist/sinapse.js")), /^\/\*[^*]+\*\/\n"use strict";var sinapse=/);
});

test("the types say what there is", () => {
  const types = String(read("dist/index.d.ts"));
  assert.match(types, /export declare const connect: \(url: string, options\?: Options\) => Client;/);
  assert(!types.includes("import"), "they stand alone");
});
