// What is shipped.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { test } from "node:test";
import { runInNewContext } from "node:vm";
import { gzipSync } from "node:zlib";

const ROOT = new URL("..", import.meta.url);

const read = (path) => readFileSync(new URL(path, ROOT));

const run = (...command) => String(execFileSync(command[0], command.slice(1), { cwd: ROOT }));

// Bytes: the bound for what every page loads, which has nothing of the subpaths in it.
for (const [file, most] of [
  ["dist/index.js", 4_096],
  ["dist/sinapse.js", 4_096],
]) {
  test(`${file} is no larger than ${most} bytes`, (context) => {
    const size = gzipSync(read(file), { level: 9 }).length;
    context.diagnostic(`${size} bytes`);
    assert(size <= most, `${size} bytes`);
  });
}

const SUBPATHS = ["ai", "native", "react", "svelte", "vue"];

test("what is packed is the code, its types, its manual and its licence", () => {
  const [{ files }] = JSON.parse(run("npm", "pack", "--dry-run", "--json", "--ignore-scripts"));
  const modules = [...SUBPATHS, "index"].flatMap((name) => [`dist/${name}.js`, `dist/${name}.d.ts`]);
  assert.deepEqual(
    files.map(({ path }) => path).sort(),
    [
      ...["LICENSE", "README.md", "package.json", "dist/sinapse.js", ...modules],
      ...["dist/component.d.ts", "dist/types.d.ts"],
    ].sort(),
  );
  assert.equal(String(read("LICENSE")), String(read("../../LICENSE")));
});

test("publint finds nothing to say against it", () => {
  run("node_modules/.bin/publint", "--strict");
});

test("the types are found, whoever imports the modules", () => {
  const [packed] = JSON.parse(run("npm", "pack", "--json", "--ignore-scripts"));
  try {
    run("node_modules/.bin/attw", packed.filename, "--profile", "esm-only");
  } finally {
    rmSync(new URL(packed.filename, ROOT));
  }
});

test("nothing else is needed; each subpath has its framework, and the client, from outside", () => {
  const { dependencies, peerDependencies, peerDependenciesMeta } = JSON.parse(read("package.json"));
  assert.equal(dependencies, undefined);
  assert.deepEqual(Object.keys(peerDependencies), ["ai", "react", "svelte", "vue"]);
  for (const name of Object.keys(peerDependencies)) assert(peerDependenciesMeta[name].optional);
  const imports = (name) => String(read(`dist/${name}.js`)).match(/(?<=from")[^"]+(?=")/g) ?? [];
  const expected = {
    ...{ index: [], native: [], ai: ["./index.js"] },
    ...{ react: ["react"], svelte: ["svelte", "svelte/store"], vue: ["vue"] },
  };
  for (const [name, others] of Object.entries(expected)) {
    const own = others.length && name !== "ai" ? ["./index.js"] : [];
    assert.deepEqual(imports(name).sort(), [...own, ...others].sort(), name);
  }
});

test("modules export what their manual says, and no more", async () => {
  const hooks = ["useChannel", "useConnectionState", "useSinapse"];
  const expected = {
    ...{ "": ["connect"], "/native": ["native"], "/ai": ["SinapseChatTransport"] },
    ...{ "/react": hooks, "/vue": hooks, "/svelte": hooks },
  };
  for (const [name, names] of Object.entries(expected))
    assert.deepEqual(Object.keys(await import(`sinapse-client${name}`)), names);
});

test("the types are those that pages want", () => {
  const options = ["--noEmit", "--skipLibCheck", "--strict", "--types", ""];
  const target = ["--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler"];
  run("node_modules/.bin/tsc", "--ignoreConfig", ...options, ...target, "test/types.ts");
});

test("the plain script makes one global name", () => {
  const globals = { URL };
  runInNewContext(String(read("dist/sinapse.js")), globals);
  assert.deepEqual(Object.keys(globals), ["URL", "sinapse"]);
  assert.deepEqual(Object.keys(globals.sinapse), ["connect"]);
});
