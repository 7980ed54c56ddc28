// One connection, in each transport: made, lost, made anew; tokens; fallback; back-off.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { ASKING, CONTENT, FIRST_EVENT, Page, SILENCE, SOON, Server, TAKEN } from "./page.js";

const TRANSPORTS = ["eventsource", "websocket", "longpoll"];
const OK = { event: "authentication", data: "ok" };

let server;
let pages;

beforeEach(() => {
  server = new Server();
  pages = [];
});

afterEach(async () => {
  for (const page of pages) page.client.close();
  await server.stop();
});

function open(options, globals) {
  const page = new Page(server.url, options, globals);
  pages.push(page);
  return page;
}

// Answers as Sinapse does: `after` is what follows the opening, `poll` what answers the polls.
const welcome = (visit, id) => {
  if (visit.transport !== "longpoll") visit.send(visit.last ? OK : { ...OK, id });
  else if (!visit.last) visit.send({ ...OK, id });
  else return true;
  return visit.transport !== "longpoll";
};

// What chance says.
const always = (value) => ({
  Math: Object.assign(Object.create(Math), { random: () => value }),
});

for (const transport of TRANSPORTS) {
  describe(transport, () => {
    const transports = [transport];

    test("a part that the server says is unknown counts, however far the client had come", async () => {
      await server.start((visit) => {
        if (!welcome(visit, "x_a-7.y_b-9.z_c-3")) return;
        if (visit.last && visit.last !== "x_a-7.y_b-9.z_c-3") return;
        visit.send({ id: "x_a-7.y_0-0" });
      });
      const page = open({ token: "token", transports, lastEventId: "x_a-7.y_b-9.z_c-3" });
      await page.until(() => page.client.lastEventId === "x_a-7.y_0-0");
    });

    test("receives messages by their type, and the token is not in the URL", async () => {
      await server.start((visit) => {
        if (!welcome(visit, "a-1")) return;
        if (visit.last && visit.last !== "a-1") return;
        visit.send(
          { data: "plain" },
          { event: "chat", data: "äöü 👩‍🚀", id: "a-2" },
          { event: "other", data: "nobody asked", id: "a-3" },
          { id: "a-4" },
          {
            by: "server",
            event: "reset",
            data: '{"reason": "not-retained", "channels": ["room:1"]}',
          },
        );
      });
      const page = open({ token: "secret", transports });
      page.on("chat");
      page.on("position");
      await page.until(() => page.log.length === 3 && page.client.lastEventId === "a-4");
      assert.deepEqual(page.log.slice(0, 2), [
        ["message", "plain"],
        ["chat", "äöü 👩‍🚀", "a-2"],
      ]);
      assert.equal(page.log[2].reason, "not-retained");
      assert.deepEqual([...page.log[2].channels], ["room:1"]);
      assert.deepEqual(page.states, ["live"]);
      assert.equal(server.visits[0].token, "secret");
      for (const { path } of server.visits) assert(!path.includes("secret"));
    });

    test("has a name, which stays the same", async () => {
      await server.start((visit, number) => {
        if (welcome(visit, "a-1")) visit.end();
      });
      const page = open({ token: "token", share: false, transports });
      const isThere = () => server.visits.length > 3;
      await page.until(isThere);
      const { stream } = page.client;
      assert.match(stream, /^[\d-]{7,64}$/);
      for (const { path } of server.visits) assert(path.includes(`stream=${stream}`));
      const other = open({ getToken: () => "token", transports });
      assert.notEqual(other.client.stream, stream);
    });

    test("has no name if it may be shared", async () => {
      await server.start((visit) => welcome(visit, "a-1"));
      const page = open({ token: "token", transports });
      await page.until(() => page.states.includes("live"));
      assert.equal(page.client.stream, undefined);
      for (const { path } of server.visits) assert(!path.includes("stream"));
    });

    test("resumes where it was when the connection is lost", async () => {
      await server.start((visit, number) => {
        if (number === 1 || (number === 3 && transport === "longpoll")) return visit.cut();
        if (!welcome(visit, "a-1")) return;
        if (visit.last === "a-2") visit.send({ data: "two", id: "a-3" });
        else if (visit.last !== "a-3") visit.send({ data: "one", id: "a-2" });
      });
      const page = open({ token: "token", transports });
      await page.has(1);
      if (transport !== "longpoll") server.visits.at(-1).cut();
      await page.has(2);
      assert.deepEqual(
        page.log.map(([, data]) => data),
        ["one", "two"],
      );
    });

    test("resumes from the id that the page knows", async () => {
      await server.start((visit) => {
        if (welcome(visit, "a-9")) visit.send({ data: visit.last, id: "a-8" });
      });
      const page = open({ token: "token", transports, lastEventId: "a-7" });
      await page.has(1);
      assert.equal(page.log[0][1], "a-7");
    });

    test("uses the position of the page once, and then where it has come to", async () => {
      await server.start((visit, number) => {
        if (number === 1 && transport !== "longpoll") return visit.cut();
        if (!welcome(visit, "a-9")) return;
        if (visit.last === "a-7") visit.send({ data: "one", id: "a-8" });
        else if (visit.last === "a-8") visit.send({ data: "two", id: "a-9" });
      });
      const page = open({ token: "token", transports, lastEventId: "a-7" });
      await page.has(1);
      if (transport !== "longpoll") server.visits.at(-1).cut();
      await page.has(2);
      assert.deepEqual(
        page.log.map(([, data]) => data),
        ["one", "two"],
      );
    });

    test("begins with what comes next where no position was taken", async () => {
      await server.start((visit) => {
        if (welcome(visit, "a-1")) visit.send({ data: "next", id: "a-2" });
      });
      const page = open({ token: "token", transports, lastEventId: null });
      await page.has(1);
      assert.equal(page.log[0][1], "next");
      assert.equal(server.visits[0].last, undefined);
    });

    test("gets another token when one is refused, and stops when there is no other", async () => {
      const tokens = ["old", "new", "newest", "newest"];
      let isOver = false;
      await server.start((visit) => {
        if (visit.token !== "new" || isOver) visit.refuse(401);
        else if (welcome(visit, "a-1")) {
          isOver = transport !== "longpoll" || visit.last !== undefined;
          visit.send({ data: "hello", id: "a-2" });
          if (transport !== "longpoll") visit.end(4001);
        }
      });
      const page = open({ getToken: () => tokens.shift(), transports });
      await page.is("closed");
      assert.deepEqual(page.states, ["live", "reconnecting", "closed 401"]);
      assert.deepEqual(tokens, []);
      assert.deepEqual(page.log, [["message", "hello", "a-2"]]);
    });

    test("a token that is refused is not tried again", async () => {
      await server.start((visit) => visit.refuse(401));
      const page = open({ token: "token", transports });
      await page.is("closed");
      assert.deepEqual(page.states, ["closed 401"]);
      assert.deepEqual(new Set(server.visits.map(({ token }) => token)), new Set(["token"]));
    });

    test("messages may be called as the server's own events are", async () => {
      const names = ["position", "reset", "replaced", "authentication", "token-expiring", "error"];
      await server.start((visit) => {
        if (!welcome(visit, "a-1") || (visit.last && visit.last !== "a-1")) return;
        visit.send(...names.map((event, number) => ({ event, data: "x", id: `a-${number + 2}` })));
      });
      let asked = 0;
      const page = open({ getToken: () => `token-${++asked}`, transports });
      for (const name of names) page.on(name);
      await page.has(names.length);
      assert.deepEqual(page.log, names.map((name, number) => [name, "x", `a-${number + 2}`]));
      assert.deepEqual(page.states, ["live"]);
      assert.equal(asked, 1);
    });

    // A WebSocket that is refused is followed by a request that says why.
    const http = (visit, refuse) =>
      visit.transport === "websocket" ? visit.refuse(502) : refuse();

    test("gives up at once on 400", async () => {
      await server.start((visit) => http(visit, () => visit.refuse(400)));
      const page = open({ token: "token", transports });
      await page.is("closed");
      assert.deepEqual(page.states, ["closed 400"]);
    });

    for (const status of [400, 401, 403, 204, 404]) {
      test(`does not take a ${status} of something between for the server's`, async (context) => {
        if (status === 204 && transport === "longpoll") return context.skip("nothing has come");
        let isOver = false;
        await server.start((visit, number) => {
          isOver ||= number > 6;
          if (!isOver) http(visit, () => visit.refuse(status, false));
          else welcome(visit, "a-1");
        });
        const page = open({ token: "token", transports });
        await page.is("live");
        assert.deepEqual(page.states, ["live"]);
        assert.deepEqual(new Set(server.visits.map(({ token }) => token)), new Set(["token"]));
      });
    }

    test("comes back after a passing trouble, with longer and longer pauses", async () => {
      await server.start((visit, number) => {
        if (number < 20) visit.refuse(503);
        else welcome(visit, "a-1");
      });
      const page = open({ token: "token", transports });
      await page.is("live");
      assert.deepEqual(page.states, ["live"]);
    });

    test("gets another token when one is about to end, and goes on where it was", async () => {
      const tokens = ["first", "second"];
      await server.start((visit) => {
        if (!welcome(visit, "a-1")) return;
        if (visit.token === "second") visit.send({ data: visit.last, id: "a-3" });
        else if (visit.last !== "a-2") {
          visit.send(
            { data: "hello", id: "a-2" },
            { by: "server", event: "token-expiring", data: "60" },
          );
        }
      });
      const page = open({ getToken: async () => tokens.shift(), transports });
      page.on("token-expiring");
      await page.until(() => page.client.lastEventId === "a-3" && page.log.length === 2);
      assert.deepEqual(page.log, [
        ["message", "hello", "a-2"],
        ["message", "a-2", "a-3"],
      ]);
    });
  });
}

describe("event stream", () => {
  test("is read whatever the chunks are", async () => {
    const text = "één\n\r\n\u2028two: 👩‍🚀";
    const object = JSON.stringify({ event: "chat", data: text, channel: "room:1" });
    const bytes = Buffer.from(`: comment\n\nid: a-1\nunknown: 1\ndata:${object}\n\n`);
    await server.start((visit) => {
      visit.send({ ...OK, id: "a-0" });
      let at = 0;
      const next = () => {
        visit.write(bytes.subarray(at, ++at));
        if (at < bytes.length) setImmediate(next);
      };
      next();
    });
    const page = open({ token: "token" });
    page.on("chat");
    await page.has(1);
    assert.deepEqual(page.log, [["chat", text, "a-1"]]);
  });

  test("that only says when to come back is no connection", async () => {
    await server.start((visit, number) => {
      if (number === 1) {
        visit.write("retry: 2000\n\n");
        visit.end();
      } else visit.send(OK);
    });
    const page = open({ token: "token" }, always(1));
    await page.is("live");
    assert.deepEqual(page.states, ["live"]);
    assert(page.pauses.includes(2_000));
  });

  test("a server that says 204 stops it as one that says 401 does", async () => {
    await server.start((visit) => visit.refuse(204));
    const page = open({ token: "token" });
    await page.is("closed");
    assert.deepEqual(page.states, ["closed 204"]);
  });

  test("says that a part of the server is away, and when it is back", async () => {
    const told = (data) => ({ by: "server", event: "degraded", data });
    await server.start((visit) => {
      visit.send(OK);
      if (visit.last) return;
      visit.send(told('["b"]'), { data: "hello", id: "a-2" }, told('["b", "c"]'), told("[]"));
      visit.send(told('["1"]'));
      visit.end();
    });
    const page = open({ token: "token" });
    page.on("degraded");
    await page.until(() => page.states.length === 6);
    const visit = ["live", "degraded", "live", "degraded", "reconnecting"];
    assert.deepEqual(page.states, [...visit, "live"]);
    assert.deepEqual(page.log, [["message", "hello", "a-2"]]);
  });

  test("that another has taken the place of is not made anew", async () => {
    await server.start((visit) => {
      visit.send(OK, { by: "server", event: "replaced", data: "by a newer stream" });
      visit.end();
    });
    const page = open({ token: "token" });
    page.on("replaced");
    await page.is("closed");
    assert.deepEqual(page.states, ["live", "reconnecting", "closed 4004"]);
    assert.deepEqual(page.log, []);
  });

  test("a silent connection is made anew", async () => {
    await server.start((visit) => visit.send({ ...OK, ...(!visit.last && { id: "a-1" }) }));
    const page = open({ token: "token" });
    await page.strike(SILENCE);
    await page.until(() => page.states.length === 3);
    assert.deepEqual(page.states, ["live", "reconnecting", "live"]);
    assert.equal(server.visits[1].last, "a-1");
  });
});

describe("WebSocket", () => {
  const transports = ["websocket"];

  for (const [code, name] of [
    [1001, "a server that shuts down"],
    [1013, "having been too slow"],
    [4003, "a ping that was not answered"],
  ]) {
    test(`comes back after ${name}`, async () => {
      await server.start((visit, number) => {
        if (visit.transport !== "websocket") return visit.refuse(500);
        visit.send({ ...OK, ...(!visit.last && { id: "a-1" }) });
        if (number === 1) visit.end(code);
      });
      const page = open({ token: "token", transports });
      await page.until(() => page.states.length === 3);
      assert.deepEqual(page.states, ["live", "reconnecting", "live"]);
      assert.equal(server.visits[1].last, "a-1");
    });
  }

  test("stays away when no channels are left, or the token was revoked", async () => {
    await server.start((visit) => {
      visit.send(OK);
      visit.end(visit.token === "no-channels" ? 4002 : 1008);
    });
    const first = open({ token: "no-channels", transports });
    const second = open({ token: "revoked", transports });
    await first.is("closed");
    await second.is("closed");
    assert.equal(first.states.at(-1), "closed 4002");
    assert.equal(second.states.at(-1), "closed 1008");
    assert.equal(server.visits.length, 2);
  });

  test("a quiet connection is asked whether it is there", async () => {
    const asked = [];
    await server.start(async (visit) => {
      visit.send(OK);
      while (asked.length < 3) {
        asked.push(await visit.heard());
        if (asked.length < 3) visit.send({});
      }
    });
    const page = open({ token: "token", transports });
    // Set again by each sign of life, and by each question.
    const isWatched = (times) =>
      page.until(() => page.pauses.filter((pause) => pause === SILENCE).length === times);
    for (const times of [2, 4, 6]) {
      await isWatched(times);
      assert.deepEqual(asked, Array(asked.length).fill(""));
      assert.deepEqual(page.states, ["live"]);
      await page.strike(SILENCE);
    }
    await isWatched(7);
    await page.strike(SILENCE);
    await page.until(() => page.states.length === 3);
    assert.deepEqual(page.states, ["live", "reconnecting", "live"]);
    assert.deepEqual(page.log, []);
  });

  test("is left out where there is none", async () => {
    await server.start((visit) => visit.refuse(503));
    open({ token: "token", transports: ["websocket", "longpoll"] }, { WebSocket: undefined });
    await server.has(3);
    assert.deepEqual(new Set(server.visits.map((visit) => visit.transport)), new Set(["longpoll"]));
  });
});

describe("fallback", () => {
  test("from a stream that is held back, over a socket that is refused, to polls", async () => {
    await server.start((visit) => {
      if (visit.transport === "eventsource") visit.write("");
      else if (visit.transport === "websocket") visit.refuse(400);
      else if (welcome(visit, "a-1")) visit.send({ data: "hello", id: "a-2" });
    });
    const page = open({ token: "token" });
    await server.has(1);
    await page.strike(FIRST_EVENT);
    await page.has(1);
    assert.deepEqual(page.states, ["live"]);
    const used = server.visits.map(({ transport }) => transport);
    assert.equal(used[0], "eventsource");
    assert(used.includes("websocket"));
    assert.equal(used.lastIndexOf("eventsource"), 0);
  });

  test("is not for ever", async () => {
    let isHeldBack = true;
    await server.start((visit) => {
      if (visit.transport === "eventsource" && isHeldBack) visit.write("");
      else if (welcome(visit, "a-1") && visit.last !== "a-3") {
        const { transport } = visit;
        visit.send({ data: transport, id: transport === "longpoll" ? "a-2" : "a-3" });
      }
    });
    const page = open({ token: "token", transports: ["eventsource", "longpoll"] });
    await server.has(1);
    await page.strike(FIRST_EVENT);
    await page.has(1);
    isHeldBack = false;
    await page.strike(CONTENT);
    await page.has(2);
    assert.deepEqual(
      page.log.map(([, data]) => data),
      ["longpoll", "eventsource"],
    );
    assert.deepEqual(page.states, ["live"]);
  });

  test("in the order that the page wants", async () => {
    await server.start((visit) => {
      if (visit.transport === "websocket") visit.refuse(400);
      else if (visit.transport === "longpoll") visit.refuse(406);
      else visit.send(OK);
    });
    const page = open({ token: "token", transports: ["longpoll", "websocket", "eventsource"] });
    await page.is("live");
    assert.equal(server.visits.at(-1).transport, "eventsource");
  });

  test("a server that is away is no reason to stay with another", async () => {
    let isAway = true;
    await server.start((visit) => {
      if (isAway && visit.transport === "websocket") isAway = false;
      if (isAway) visit.cut();
      else if (welcome(visit, "a-1")) visit.send({ data: visit.transport, id: visit.last ? "a-3" : "a-2" });
    });
    const page = open({ token: "token", transports: ["eventsource", "websocket"] });
    await page.has(1);
    assert.equal(page.log[0][1], "websocket");
    await page.strike(SOON);
    await page.has(2);
    assert.equal(page.log[1][1], "eventsource");
    assert.deepEqual(page.states, ["live"]);
  });

  test("from what fails at once, again and again, while another would do", async () => {
    await server.start((visit) => {
      if (visit.transport === "eventsource") visit.cut();
      else if (welcome(visit, "a-1")) visit.send({ data: "hello", id: visit.last ? "a-3" : "a-2" });
    });
    const page = open({ token: "token" });
    await page.has(1);
    assert.deepEqual(
      server.visits.map(({ transport }) => transport),
      ["eventsource", "eventsource", "eventsource", "websocket"],
    );
    // The server may only have come back: but it has not, for event streams, so that is that.
    await page.strike(SOON);
    await page.has(2);
    assert.deepEqual(
      server.visits.slice(4).map(({ transport }) => transport),
      ["eventsource", "websocket"],
    );
    await page.until(() => [...page.watches.values()].some(({ delay }) => delay === CONTENT));
  });

  test("from streams where fetch has none to read", async () => {
    await server.start((visit) => visit.send(OK));
    const bodiless = async (...request) => {
      const { status, headers } = await fetch(...request);
      return { status, headers, body: null };
    };
    const page = open({ token: "token" }, { fetch: bodiless });
    await page.is("live");
    assert.deepEqual(
      server.visits.map(({ transport }) => transport),
      ["eventsource", "websocket"],
    );
  });

  test("is not for who only has to wait for being let in", async () => {
    const waiting = [];
    await server.start((visit) => waiting.push(visit));
    const page = open({ token: "token" });
    await server.has(1);
    const delays = () => [...page.watches.values()].map(({ delay }) => delay);
    await page.until(() => delays().includes(TAKEN));
    waiting[0].write("");
    await page.until(() => delays().includes(FIRST_EVENT));
    waiting[0].send(OK);
    await page.is("live");
    assert.equal(server.visits.length, 1);
  });
});

describe("back-off", () => {
  test("is full jitter under a ceiling that doubles up to half a minute", async () => {
    await server.start((visit) => visit.cut());
    const page = open({ token: "token" }, always(1));
    // Without those that watch over a connection.
    const pauses = () => page.pauses.filter((pause) => pause !== TAKEN);
    await page.until(() => pauses().length >= 7);
    assert.deepEqual(
      pauses().slice(0, 7),
      [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000],
    );
  });

  test("may be no pause at all, by chance", async () => {
    await server.start((visit, number) => (number < 5 ? visit.cut() : visit.send(OK)));
    const page = open({ token: "token" }, always(0));
    await page.is("live");
    assert.deepEqual(new Set(page.pauses.slice(0, 5)), new Set([TAKEN, 0]));
  });

  test("ends when the network comes back", async () => {
    await server.start((visit, number) => (number === 1 ? visit.cut() : visit.send(OK)));
    const page = open({ token: "token" }, { ...always(1), setTimeout: () => 0 });
    await server.has(1);
    await page.until(() => {
      page.listeners.get("online")();
      return page.client.state === "live";
    });
  });
});

describe("tokens", () => {
  test("are asked for again when there was no answer", async () => {
    let count = 0;
    await server.start((visit) => visit.send(OK));
    const page = open({
      getToken: () => {
        if (++count < 3) throw new Error("away");
        return "token";
      },
    });
    await page.is("live");
    assert.equal(count, 3);
    assert.equal(server.visits.length, 1);
  });

  for (const how of ["time", "the network"]) {
    test(`that never come are asked for again: ${how}`, async () => {
      const asked = [];
      await server.start((visit) => {
        if (visit.token === "first") visit.refuse(401);
        else visit.send(OK);
      });
      const page = open({
        getToken: () => {
          asked.push("");
          return asked.length === 1 ? "first" : asked.length === 2 ? new Promise(() => {}) : "last";
        },
      });
      await page.until(() => asked.length === 2);
      if (how === "time") await page.strike(ASKING);
      else page.listeners.get("online")();
      await page.is("live");
      assert.equal(asked.length, 3);
    });
  }

  test("that are not to be had end it", async () => {
    await server.start((visit) => visit.send(OK));
    const page = open({ getToken: async () => null });
    await page.is("closed");
    assert.deepEqual(page.states, ["closed 401"]);
    assert.equal(server.visits.length, 0);
  });

  test("are not needed where cookies tell who it is", async () => {
    await server.start((visit) => visit.send(OK));
    const page = open({ withCredentials: true });
    await page.is("live");
    assert.equal(server.visits[0].token, undefined);
  });
});

describe("transports", () => {
  test("that are none are refused at once", () => {
    for (const transports of [[], ["carrierpigeon"]]) {
      assert.throws(() => new Page("http://localhost/", { transports }), /no transport/);
    }
    const globals = { WebSocket: undefined };
    assert.throws(() => new Page("http://localhost/", { transports: ["websocket"] }, globals));
  });
});

describe("sharing", () => {
  const refuse = () => {
    throw new DOMException("The operation is insecure.", "SecurityError");
  };
  const held = { locks: { request: (_, __, lead) => Promise.resolve(lead()) } };

  for (const [what, globals] of [
    ["channels", { navigator: held, BroadcastChannel: refuse }],
    ["to speak", { navigator: held, BroadcastChannel: class { postMessage = refuse; close() {} } }],
    ["locks", { navigator: { locks: { request: refuse } } }],
    ["to look for locks", { navigator: { get locks() { return refuse(); } } }],
  ]) {
    test(`that is refused (${what}) is a connection of one's own`, async () => {
      await server.start((visit) => visit.send(OK, { data: "hello" }));
      const page = open({ token: "token" }, globals);
      await page.has(1);
      assert.deepEqual(page.log, [["message", "hello"]]);
      assert.equal(page.states.at(-1), "live");
    });
  }
});

describe("handlers", () => {
  test("that fail hurt nobody, and are told to the console", async () => {
    const errors = [];
    await server.start((visit) => {
      visit.send({ ...OK, id: "a-1" }, { data: "one", id: "a-2" });
      visit.send({ by: "server", event: "reset", data: "no JSON" });
      visit.send({ data: "two", id: "a-3" });
    });
    const queueMicrotask = (run) => {
      try {
        run();
      } catch (error) {
        errors.push(error.message);
      }
    };
    const page = open({ token: "token" }, { queueMicrotask });
    page.client.on("message", () => {
      throw new Error("oops");
    });
    page.on("message");
    await page.has(4);
    assert.deepEqual(errors.filter((message) => message === "oops").length, 2);
    assert.equal(errors.length, 3);
  });

  test("can be taken back", async () => {
    await server.start((visit) => visit.send(OK, { event: "chat", data: "x" }, { data: "end" }));
    const page = open({ token: "token" });
    page.on("chat")();
    await page.has(1);
    assert.deepEqual(page.log, [["message", "end"]]);
  });

  test("are not called any more once it is closed", async () => {
    await server.start((visit) => visit.send(OK, { data: "one" }, { data: "two" }));
    const page = open({ token: "token" });
    page.client.on("message", () => page.client.close());
    await page.is("closed");
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.deepEqual(page.log, [["message", "one"]]);
    assert.equal(page.states.at(-1), "closed 0");
    assert.equal(page.listeners.size, 0);
  });
});
