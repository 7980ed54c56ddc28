// Chats of the AI SDK whose answers come over Sinapse.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { Chat } from "@ai-sdk/react";
import { SinapseChatTransport } from "sinapse-client/ai";
import { Site, eventually } from "./site.js";

let site;
let opened;

beforeEach(async () => {
  site = await new Site().start();
  opened = [];
});

afterEach(async () => {
  for (const { transport } of opened) transport.close();
  await site.stop();
});

const QUESTION = { id: "question", role: "user", parts: [{ type: "text", text: "Why?" }] };

// What a page has: a chat, with the messages that the page came with.
function open({ id = "chat", messages = [], ...options } = {}) {
  const transport = new SinapseChatTransport({
    api: site.api,
    connect: { url: site.url, token: "token", share: false },
    ...options,
  });
  const finishes = [];
  const chat = new Chat({ id, messages, transport, onFinish: (finish) => finishes.push(finish) });
  const page = { chat, transport, finishes };
  opened.push(page);
  return page;
}

const text = ({ chat }) =>
  (chat.lastMessage?.role === "assistant" ? chat.lastMessage.parts : [])
    .map((part) => part.text ?? "")
    .join("");

const shows = (page, expected) =>
  eventually(
    () => text(page) === expected,
    () => [page.chat.status, page.chat.messages, page.chat.error?.message],
  );

const is = ({ chat }, status) =>
  eventually(
    () => chat.status === status,
    () => [chat.status, chat.error?.message],
  );

// Asks, and waits until a run has been started for it.
async function ask(page, id = "chat") {
  const before = site.run(id);
  const done = page.chat.sendMessage({ text: "Why?" });
  const run = await eventually(() => site.run(id) !== before && site.run(id));
  return { run, done };
}

const collect = async (stream) => {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
};

const sending = (more) => ({
  ...{ chatId: "chat", messages: [QUESTION], trigger: "submit-message" },
  ...more,
});

// The chunks of a run whose pieces are these, and that ends in this way.
async function chunks(pieces, event = "end", more = {}) {
  const { transport } = open();
  site.onRun = (run) => {
    if (pieces.length) site.pieces(run, ...pieces);
    site.tell(run, event, more);
  };
  return collect(await transport.sendMessages(sending()));
}

describe("an answer", () => {
  test("comes piece by piece, into one message with the id of the run", async () => {
    const page = open();
    const { run, done } = await ask(page);
    site.pieces(run, "Be", "cause");
    await shows(page, "Because");
    assert.equal(page.chat.status, "streaming");
    site.pieces(run, " it is.");
    await shows(page, "Because it is.");
    site.tell(run, "end");
    await done;
    assert.equal(page.chat.status, "ready");
    assert.deepEqual(
      page.chat.messages.map(({ id, role }) => (role === "user" ? role : id)),
      ["user", run],
    );
    const [{ type, state }, ...others] = page.chat.lastMessage.parts;
    assert.deepEqual([type, state, others], ["text", "done", []]);
    const [{ method, path, body }] = site.requests;
    assert.deepEqual([method, path, body.id, body.trigger], ["POST", "/api/chat", "chat", "submit-message"]);
    assert.equal(body.messages[0].parts[0].text, "Why?");
  });

  test("is whole though it comes before the application has told the id of its run", async () => {
    let hear;
    const heard = new Promise((resolve) => (hear = resolve));
    const connect = { url: site.url, token: "token", share: false, onReset: hear };
    const page = open({ connect });
    site.onRun = async (run) => {
      site.pieces(run, "All ", "of it");
      site.tell(run, "end");
      // What came before it has come when this has.
      site.lose("room:1");
      await heard;
    };
    await page.chat.sendMessage({ text: "Why?" });
    assert.equal(text(page), "All of it");
    assert.equal(page.chat.status, "ready");
  });

  test("is whole though its connection is cut again and again", async () => {
    const page = open();
    const { run, done } = await ask(page);
    let expected = "";
    for (let number = 0; number < 5; number++) {
      site.pieces(run, `${number} `);
      site.cut();
      site.pieces(run, `${number}, `);
      expected += `${number} ${number}, `;
      await shows(page, expected);
    }
    site.tell(run, "end");
    await done;
    assert.equal(text(page), expected);
    assert.equal(site.visits.filter((last) => !last).length, 1, "one stream, which comes back");
  });

  test("is not mixed with those of other chats and with what else is published", async () => {
    const one = open();
    const other = open({ id: "other" });
    const first = await ask(one);
    const second = await ask(other, "other");
    for (let number = 0; number < 3; number++) {
      site.pieces(first.run, `${number}`);
      site.publish("piece", "no JSON");
      site.publish("end", "null");
      site.publish("error", JSON.stringify({ channels: [`run:${first.run}`], code: 1 }));
      site.pieces(second.run, "ab");
    }
    site.tell(first.run, "end");
    site.tell(second.run, "end");
    await Promise.all([first.done, second.done]);
    assert.deepEqual([text(one), text(other)], ["012", "ababab"]);
  });

  test("comes later if Sinapse is away when it is asked for", async () => {
    site.isUp = false;
    const page = open();
    const { run, done } = await ask(page);
    site.pieces(run, "Here ");
    site.isUp = true;
    await shows(page, "Here ");
    site.pieces(run, "it is");
    site.tell(run, "end");
    await done;
    assert.equal(text(page), "Here it is");
    await eventually(() => site.streams.size <= 1);
  });

  test("comes though the user could listen to nothing before", async () => {
    site.channels = [];
    const page = open();
    for (const answer of ["first", "second"]) {
      const { run, done } = await ask(page);
      site.pieces(run, `The ${answer} `);
      await shows(page, `The ${answer} `);
      site.pieces(run, "answer");
      site.tell(run, "end");
      await done;
      assert.equal(text(page), `The ${answer} answer`);
    }
  });

  test("ends with an error that the application words", async () => {
    const page = open();
    const { run, done } = await ask(page);
    site.pieces(run, "So far");
    site.tell(run, "error", { error: "The model is tired." });
    await done;
    assert.equal(page.chat.error.message, "The model is tired.");
    assert.equal(page.chat.status, "error");
    assert.equal(text(page), "So far");
  });

  test("ends with an error when what wrote it has died", async () => {
    const page = open();
    const { run, done } = await ask(page);
    site.tell(run, "lost");
    await done;
    assert.match(page.chat.error.message, /broken off/);
  });

  test("ends with an error rather than show a hole", async () => {
    const page = open();
    const { run, done } = await ask(page);
    site.pieces(run, "First, ");
    await shows(page, "First, ");
    site.lose("run:another", "room:1");
    site.pieces(run, "second, ");
    await shows(page, "First, second, ");
    site.lose(`run:${run}`);
    site.pieces(run, "fourth");
    await done;
    assert.match(page.chat.error.message, /missing/);
    assert.equal(text(page), "First, second, ");
  });

  test("ends with an error when the token is refused for good", async () => {
    const page = open({ connect: { url: site.url, token: "old", share: false } });
    await page.chat.sendMessage({ text: "Why?" });
    assert.match(page.chat.error.message, /closed the connection: 401/);
  });

  for (const isAnswered of [true, false]) {
    const when = isAnswered ? "" : ", even before its run is known";
    test(`ends with an error when the page closes the transport${when}`, async () => {
      const page = open();
      let answer = () => {};
      if (!isAnswered) site.onRun = () => new Promise((resolve) => (answer = resolve));
      const { run, done } = await ask(page);
      if (isAnswered) {
        site.pieces(run, "So far");
        await shows(page, "So far");
      }
      page.transport.close();
      answer();
      await done;
      assert.match(page.chat.error.message, /closed/);
      await eventually(() => site.streams.size === 0);
    });
  }
});

describe("pieces", () => {
  const start = { type: "start", messageId: "run-1" };
  const finish = { type: "finish" };
  const open = (id) => ({ type: "text-start", id });
  const delta = (id, text) => ({ type: "text-delta", id, delta: text });
  const end = (id) => ({ type: "text-end", id });

  test("that are texts are one text", async () => {
    const id = "sinapse-1";
    assert.deepEqual(await chunks(["a", "", "b"]), [
      ...[start, open(id), delta(id, "a"), delta(id, ""), delta(id, "b"), end(id), finish],
    ]);
  });

  test("that are chunks come as they are, between texts", async () => {
    const [first, second] = ["sinapse-1", "sinapse-2"];
    const source = { type: "source-url", sourceId: "1", url: "https://example.org/" };
    const metadata = { type: "message-metadata", messageMetadata: { tokens: 3 } };
    const passing = { type: "data-status", data: "thinking", transient: true };
    assert.deepEqual(await chunks(["a", metadata, passing, "b", source, "c"]), [
      ...[start, open(first), delta(first, "a"), metadata, passing, delta(first, "b"), end(first)],
      ...[source, open(second), delta(second, "c"), end(second), finish],
    ]);
  });

  test("may be all chunks of an answer, made by the application", async () => {
    const pieces = [
      ...[{ type: "start", messageId: "mine" }, { type: "start-step" }, open("1"), delta("1", "a")],
      ...[end("1"), { type: "finish-step" }, { type: "finish", finishReason: "stop" }],
    ];
    assert.deepEqual(await chunks(pieces), pieces);
  });

  test("need not come at all", async () => {
    assert.deepEqual(await chunks([]), [start, finish]);
    assert.deepEqual(await chunks([], "stopped"), [{ type: "abort" }]);
    assert.deepEqual(await chunks([], "error", { error: "no" }), [{ type: "error", errorText: "no" }]);
  });

  for (const piece of [null, 40, { done: 40 }, ["a"]]) {
    test(`that are ${JSON.stringify(piece)} are refused with a plain word`, async () => {
      await assert.rejects(chunks([piece]), {
        message: `A piece is neither text nor a chunk with a type: ${JSON.stringify(piece)}`,
      });
    });
  }
});

describe("a page that is loaded anew", () => {
  test("shows all that there is of the answer, and goes on", async () => {
    const before = open();
    const { run, done } = await ask(before);
    site.pieces(run, "What was ");
    await shows(before, "What was ");

    const page = open({ messages: [QUESTION] });
    const resumed = page.chat.resumeStream();
    await shows(page, "What was ");
    site.pieces(run, "and what comes");
    await shows(page, "What was and what comes");
    await shows(before, "What was and what comes");
    site.tell(run, "end");
    await Promise.all([done, resumed]);
    assert.equal(page.chat.status, "ready");
    assert.equal(page.chat.lastMessage.id, run);
    // The connection of its own has gone.
    await eventually(() => site.streams.size === 1);
  });

  test("shows it once if it came with a part of it, or with all", async () => {
    const { run, done } = await ask(open());
    site.pieces(run, "One, ", "two");
    const parts = [{ type: "text", text: "One, " }];
    const page = open({ messages: [QUESTION, { id: run, role: "assistant", parts }] });
    const resumed = page.chat.resumeStream();
    await shows(page, "One, two");
    site.tell(run, "end");
    await Promise.all([done, resumed]);
    assert.equal(text(page), "One, two");
    assert.equal(page.chat.messages.length, 2);
  });

  test("stays as it is if nothing is under way", async () => {
    const page = open({ messages: [QUESTION] });
    await page.chat.resumeStream();
    assert.equal(page.chat.status, "ready");
    assert.equal(page.chat.messages.length, 1);
    assert.deepEqual(site.visits, [], "no stream was opened");
  });

  test("ends as the answer ends", async () => {
    for (const [event, status] of [["error", "error"], ["stopped", "ready"]]) {
      const { run } = await ask(open());
      const page = open({ messages: [QUESTION] });
      const resumed = page.chat.resumeStream();
      await is(page, "submitted");
      site.tell(run, event, { error: "no" });
      await resumed;
      assert.equal(page.chat.status, status);
    }
  });
});

describe("stop", () => {
  test("stops the run, and the answer ends in every page", async () => {
    const page = open();
    const { run, done } = await ask(page);
    site.pieces(run, "So far");
    const other = open({ messages: [QUESTION] });
    const resumed = other.chat.resumeStream();
    await shows(other, "So far");
    await other.transport.stop("chat");
    await Promise.all([done, resumed]);
    for (const { chat } of [page, other]) {
      assert.equal(chat.status, "ready");
      assert.equal(chat.lastMessage.parts[0].text, "So far");
    }
    const { path, body } = site.requests.at(-1);
    assert.deepEqual([path, body], ["/api/chat/chat/stop", { run }]);
  });

  test("waits for the run if that is only being started", async () => {
    const page = open();
    let begin;
    site.onRun = () => new Promise((resolve) => (begin = resolve));
    const { run, done } = await ask(page);
    const stopped = page.transport.stop("chat");
    begin();
    await Promise.all([done, stopped]);
    assert.equal(site.run("chat"), undefined);
    assert.deepEqual(site.requests.at(-1).body, { run });
  });

  test("of a page that waits for nothing leaves it to the application what to stop", async () => {
    await ask(open());
    await open().transport.stop("chat");
    assert.equal(site.run("chat"), undefined);
    assert.deepEqual(site.requests.at(-1).body, {});
  });

  test("says why the application refuses", async () => {
    const { transport } = open();
    site.refuses = "This chat is not yours.";
    await assert.rejects(transport.stop("chat"), { message: "This chat is not yours." });
  });
});

describe("a chat that is aborted", () => {
  test("hears no more of the answer, which goes on", async () => {
    const page = open();
    const { run, done } = await ask(page);
    site.pieces(run, "So far");
    await shows(page, "So far");
    await page.chat.stop();
    await done;
    assert.equal(page.chat.status, "ready");
    assert.equal(page.finishes[0].isAbort, true);
    assert.equal(site.run("chat"), run);
    const resumed = page.chat.resumeStream();
    site.pieces(run, ", and further");
    await shows(page, "So far, and further");
    site.tell(run, "end");
    await resumed;
    assert.equal(page.chat.messages.length, 2);
  });

  test("stops the run if that is wished", async () => {
    const page = open({ stopOnAbort: true });
    const { run, done } = await ask(page);
    site.pieces(run, "So far");
    await shows(page, "So far");
    await page.chat.stop();
    await done;
    await eventually(() => site.run("chat") === undefined);
    assert.equal(text(page), "So far");
  });

  test("stops the run, if that is wished, though its id is not known yet", async () => {
    const page = open({ stopOnAbort: true });
    let begin;
    site.onRun = () => new Promise((resolve) => (begin = resolve));
    const { run, done } = await ask(page);
    const stopped = page.chat.stop();
    begin();
    await Promise.all([done, stopped]);
    assert.equal(page.chat.status, "ready");
    assert.equal(site.run("chat"), undefined);
    assert.deepEqual(site.requests.at(-1).body, { run });
  });

  test("has a connection of its own closed", async () => {
    const { run } = await ask(open());
    await eventually(() => site.streams.size === 1);
    const page = open({ messages: [QUESTION] });
    const resumed = page.chat.resumeStream();
    site.pieces(run, "a");
    await shows(page, "a");
    assert.equal(site.streams.size, 2);
    await page.chat.stop();
    await resumed;
    await eventually(() => site.streams.size === 1);
    assert.equal(site.run("chat"), run);
  });
});

describe("requests", () => {
  test("have what the page wants in them", async () => {
    const { transport } = open({
      headers: async () => ({ "X-Token": "1" }),
      body: () => ({ model: "small" }),
    });
    site.onRun = (run) => site.tell(run, "end");
    await collect(
      await transport.sendMessages(sending({ headers: { "x-more": "2" }, body: { depth: 3 } })),
    );
    await transport.reconnectToStream({ chatId: "chat" });
    await transport.stop("chat");
    assert.deepEqual(
      site.requests.map(({ headers }) => headers["x-token"]),
      ["1", "1", "1"],
    );
    const [{ headers, body }] = site.requests;
    assert.equal(headers["x-more"], "2");
    assert.deepEqual([body.model, body.depth, body.id], ["small", 3, "chat"]);
  });

  test("are what the page makes of them", async () => {
    const { transport } = open({
      prepareSendMessagesRequest: ({ id, messages, headers }) => ({
        api: `${site.api}?v=2`,
        headers: { ...headers, "x-last": "1" },
        body: { id, message: messages.at(-1) },
      }),
      prepareReconnectToStreamRequest: ({ id, api }) => ({ api: `${api}/${id}/stream?v=2` }),
    });
    site.onRun = (run) => site.tell(run, "end");
    await collect(await transport.sendMessages(sending()));
    assert.equal(await transport.reconnectToStream({ chatId: "chat" }), null);
    assert.deepEqual(
      site.requests.map(({ path }) => path),
      ["/api/chat?v=2", "/api/chat/chat/stream?v=2"],
    );
    assert.deepEqual(site.requests[0].body, { id: "chat", message: QUESTION });
    assert.equal(site.requests[0].headers["x-last"], "1");
  });

  test("have the id of the chat in their path, whatever is in it", async () => {
    const { transport } = open({ api: `${site.api}/?v=2` });
    await transport.reconnectToStream({ chatId: "a/b?c" });
    assert.equal(site.requests[0].path, "/api/chat/a%2Fb%3Fc/stream?v=2");
    for (const chatId of [".", ".."])
      await assert.rejects(transport.stop(chatId), /cannot be the id of a chat/);
  });

  test("that are refused, or answered with something else, say so", async () => {
    const { transport } = open();
    site.refuses = "This chat is not yours.";
    await assert.rejects(transport.sendMessages(sending()), { message: site.refuses });
    await assert.rejects(transport.reconnectToStream({ chatId: "chat" }), { message: site.refuses });
    site.refuses = undefined;
    const other = open({ api: `${site.api}?empty` });
    await assert.rejects(other.transport.sendMessages(sending()), /answered without a run/);
  });

  test("go through the page's own fetch", async () => {
    const seen = [];
    const { transport } = open({
      fetch: (url, init) => {
        seen.push([init.method ?? "GET", init.credentials]);
        return fetch(url, init);
      },
      credentials: "include",
    });
    site.onRun = (run) => site.tell(run, "end");
    await collect(await transport.sendMessages(sending()));
    await transport.reconnectToStream({ chatId: "chat" });
    assert.deepEqual(seen, [["POST", "include"], ["GET", "include"]]);
  });
});
