// What the tests of all frameworks have: a server, and what it sees of a page.

import { Server, eventually } from "./page.js";

export class Push {
  #server = new Server();
  #revoked = new Set(); // tokens
  open = new Set(); // the streams that are open

  async start() {
    await this.#server.start((visit) => {
      if (this.#revoked.has(visit.token)) return visit.refuse(401);
      visit.send({ event: "authentication", data: "ok", id: "a-1" });
      this.open.add(visit);
      visit.closed.then(() => this.open.delete(visit));
    });
    this.url = this.#server.url;
    return this;
  }

  stop() {
    return this.#server.stop();
  }

  // The tokens of all streams ever.
  get tokens() {
    return this.#server.visits.map(({ token }) => token);
  }

  // Ends all streams: their tokens are not valid any more.
  revoke() {
    for (const visit of this.open) {
      this.#revoked.add(visit.token);
      visit.end();
    }
  }

  // The ids that they began after.
  get places() {
    return this.#server.visits.map(({ last }) => last);
  }

  publish(data, channel = "room:1") {
    for (const visit of this.open) visit.send({ data, channel });
  }

  has(count) {
    return eventually(() => this.open.size === count, () => this.tokens);
  }
}

export const shows = (element, text) =>
  eventually(() => element.textContent === text, () => [element.textContent, text]);

export { eventually };
