// Makes an ES module and a plain script in dist/; the types are made by tsc.

import { rmSync } from "node:fs";
import { build } from "esbuild";

const options = {
  entryPoints: ["src/index.ts"],
  bundle: true,
  minify: true,
  target: "es2022",
  legalComments: "none",
};

rmSync("dist", { recursive: true, force: true });
await build({ ...options, format: "esm", outfile: "dist/index.js" });
await build({ ...options, format: "iife", globalName: "sinapse", outfile: "dist/sinapse.js" });
