// An application whose chats answer in runs, and the event streams that their pieces come over, as a
// Sinapse server would send them to one user. What the model says, and when, is said by a test.

import { once } from "node:events";
import { createServer } from "node:http";

const PATIENCE = 30_000; // ms: a bound, not an expectation

export async function eventually(condition, told = () => undefined) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`never: ${condition}: ${JSON.stringify(told())}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export class Site {
  requests = []; // of the application: {method, path, headers, body}
  streams = new Set(); // those that are open
  visits = []; // all streams ever: the id that each resumes from, if any
  isUp = true; // whether streams are let in
  channels = ["room:1"]; // what the user may listen to besides runs
  onRun = () => {}; // is called with each run before its id is answered
  refuses; // the text with which the application refuses
  #runs = new Map(); // id -> its chat, and whether it goes on
  #past = []; // what is retained: {event, data, id}
  #counter = 0;
  #http = createServer((request, response) => void this.#visit(request, response));

  async start() {
    this.#http.listen(0, "127.0.0.1");
    await once(this.#http, "listening");
    this.url = `http://127.0.0.1:${this.#http.address().port}`;
    this.api = `${this.url}/api/chat`;
    return this;
  }

  async stop() {
    this.#http.closeAllConnections();
    this.#http.close();
    await once(this.#http, "close");
  }

  // The run of a chat that goes on, if there is one.
  run(chat) {
    return [...this.#runs].find(([, run]) => run.chat === chat && run.goesOn)?.[0];
  }

  tell(run, event, more = {}) {
    const data = JSON.stringify({ run, name: "answer", ...more });
    const message = { event, data, channel: `run:${run}`, id: `a-${++this.#counter}` };
    this.#past.push(message);
    if (event !== "piece" && this.#runs.has(run)) this.#runs.get(run).goesOn = false;
    for (const stream of this.streams) send(stream, message);
  }

  pieces(run, ...pieces) {
    this.tell(run, "piece", { pieces });
  }

  // Something of the application's own, on the same stream.
  publish(event, data) {
    for (const stream of this.streams) send(stream, { event, data, channel: "room:1" });
  }

  // What is retained is gone, and streams are told so.
  lose(...channels) {
    this.#past = [];
    const data = JSON.stringify({ reason: "not-retained", channels });
    for (const stream of this.streams) send(stream, { event: "reset", data });
  }

  cut() {
    for (const stream of this.streams) stream.destroy();
  }

  async #visit(request, response) {
    let text = "";
    for await (const chunk of request) text += chunk;
    const { pathname, searchParams } = new URL(request.url, this.url);
    if (pathname === "/") return this.#open(request, response);
    const { method, headers } = request;
    const body = text && JSON.parse(text);
    this.requests.push({ method, path: request.url, headers, body });
    const answer = (status, content) =>
      response
        .writeHead(status, { "Content-Type": "application/json" })
        .end(content && JSON.stringify(content));
    if (this.refuses) return response.writeHead(403).end(this.refuses);
    if (searchParams.has("empty")) return answer(200, {});
    const [, chat, what] = /^\/api\/chat(?:\/([^/]+)\/(\w+))?$/.exec(pathname);
    const run = this.run(decodeURIComponent(chat ?? body.id));
    if (!what) {
      const id = `run-${this.#runs.size + 1}`;
      this.#runs.set(id, { chat: body.id, goesOn: true });
      await this.onRun(id);
      return answer(200, { run: id });
    }
    if (what === "stream") return run ? answer(200, { run }) : answer(204);
    if (run && (!body.run || body.run === run)) this.tell(run, "stopped");
    return answer(204);
  }

  // A new stream gets the past of all its runs, and one that comes back what it has missed.
  #open(request, response) {
    const { authorization, "last-event-id": last } = request.headers;
    this.visits.push(last);
    if (!this.isUp) return response.destroy();
    if (authorization !== "Bearer token" || !(this.channels.length + this.#runs.size))
      return response.writeHead(401, { "Cache-Control": "no-store" }).end("401 Unauthorized\n");
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write("retry: 100\n");
    const here = this.#counter;
    const opening = { event: "authentication", data: "ok" };
    send(response, last ? opening : { ...opening, id: `a-${here}-0-0` });
    // While it gets the past, its id says how far it has.
    const [, counter, past = counter] = last ? last.split("-").map(Number) : [0, here, 0];
    for (const message of this.#past) {
      const number = Number(message.id.slice(2));
      const id = number < counter ? `a-${counter}-${number}-0` : message.id;
      if (number > past) send(response, { ...message, id });
    }
    send(response, { id: `a-${here}` });
    this.streams.add(response);
    response.on("close", () => this.streams.delete(response));
  }
}

const send = (response, { id, ...object }) =>
  response.write(`data: ${JSON.stringify(object)}\n${id ? `id: ${id}\n` : ""}\n`);
