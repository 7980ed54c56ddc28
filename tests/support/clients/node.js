// Runs a client in Node: standard input says which, and what to connect it with, as a line of
// JSON; standard output has a line for each report. It ends when standard input does.

import { createInterface } from "node:readline";

import { clients } from "./clients.js";

const report = (what) => console.log(JSON.stringify(what));

report({ state: "ready" });
for await (const line of createInterface({ input: process.stdin })) {
  const { client, ...options } = JSON.parse(line);
  await clients[client]({ ...options, report });
}
process.exit();
