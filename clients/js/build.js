// Makes an ES module and a plain script in dist/; the types are made by tsc.

import { readFileSync, rmSync } from "node:fs";
import { build } from "esbuild";

const { name, version, license } = JSON.parse(readFileSync("package.json", "utf8"));

const options = {
  entryPoints: ["src/index.ts"],
  bundle: true,
  minify: true,
  target: "es2022",
  legalComments: "none",
  banner: { js: `/* ${name} ${version}, ${license} licence */` },
};

rmSync("dist", { recursive: true, force: true });
await build({ ...options, format: "esm", outfile: "dist/index.js" });
await build({ ...options, format: "iife", globalName: "sinapse", outfile: "dist/sinapse.js" });
// It imports what stands beside it: who has both has the client once.
await build({
  ...options,
  ...{ entryPoints: ["src/ai.ts"], bundle: false, format: "esm", outfile: "dist/ai.js" },
});
