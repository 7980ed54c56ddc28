// What is shipped.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

const read = (path) => readFileSync(new URL(`../${path}`, import.meta.url));

for (const file of ["dist/index.js", "dist/sinapse.js"]) {
  test(`${file} is less than 4 kB`, (context) => {
    const size = gzipSync(read(file), { level: 9 }).length;
    context.diagnostic(`${size} bytes`);
    assert(size < 4_000);
  });
}

test("nothing else is needed", () => {
  const { dependencies, peerDependencies } = JSON.parse(read("package.json"));
  assert.equal(dependencies, undefined);
  assert.equal(peerDependencies, undefined);
});

test("it is an ES module that Node loads, and exports connect alone", async () => {
  const module = await import("sinapse-client");
  assert.deepEqual(Object.keys(module), ["connect"]);
});

test("the plain script makes one global name", () => {
  assert.match(String(read("dist/sinapse.js")), /^"use strict";var sinapse=/);
});

test("the types say what there is", () => {
  const types = String(read("dist/index.d.ts"));
  assert.match(types, /export declare const connect: \(url: string, options: Options\) => Client;/);
});
