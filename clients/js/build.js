// Makes ES modules and a plain script in dist/; the types are made by tsc.

import { readFileSync, rmSync } from "node:fs";
import { build } from "esbuild";

const { name, version, license } = JSON.parse(readFileSync("package.json", "utf8"));

const options = {
  bundle: true,
  minify: true,
  // What neither pages nor other tabs see.
  mangleProps: /^(own|tag|epoch|counter|rank|closed|alone|replaced|deliver|leave)$/,
  target: "es2022",
  legalComments: "none",
  banner: { js: `/* ${name} ${version}, ${license} */` },
};

rmSync("dist", { recursive: true, force: true });
await build({ ...options, entryPoints: ["src/script.ts"], format: "iife", outfile: "dist/sinapse.js" });
await build({
  ...options,
  entryPoints: ["index", "native", "react", "vue", "svelte", "ai"].map((each) => `src/${each}.ts`),
  format: "esm",
  outdir: "dist",
  // They import what stands beside them: who has several has the client once.
  external: ["./index.js"],
  packages: "external",
});
