/**
 * A transport for chats of the AI SDK: the application's endpoint starts a run, and its pieces come
 * over Sinapse, so that an answer outlives the page that asked for it.
 *
 * @module
 */

import type { ChatTransport, HttpChatTransportInitOptions, UIMessage, UIMessageChunk } from "ai";
import { type Options as ConnectOptions, connect } from "./index.js";

/** Where Sinapse is, and what else `connect` is to be told. */
export interface Connect extends Omit<ConnectOptions, "lastEventId"> {
  url: string;
}

/** Those of `DefaultChatTransport`, and where the answers come from. */
export interface SinapseChatTransportOptions<M extends UIMessage = UIMessage>
  extends HttpChatTransportInitOptions<M> {
  connect: Connect;
  /**
   * Whether a chat that is aborted stops its run. Not by default: `useChat` also aborts when its
   * component goes, and the answer is to be there when it comes back.
   */
  stopOnAbort?: boolean;
}

type Sending<M extends UIMessage> = Parameters<ChatTransport<M>["sendMessages"]>[0];
type Resuming<M extends UIMessage> = Parameters<ChatTransport<M>["reconnectToStream"]>[0];

/** What is told of a run; and of a connection, which concerns all runs, or those of `channels`. */
interface Told {
  event: string;
  run?: string;
  pieces?: unknown[];
  error?: string;
  channels?: readonly string[];
  code?: number;
}

/** The events of a run; all but the first end it. */
const EVENTS = ["piece", "end", "error", "stopped", "lost"];

/**
 * Milliseconds: how long a question waits for the connection that its answer is to come over, and
 * how long that is kept when no answer is under way.
 */
const READY = 3_000;
const IDLE = 60_000;

const LOST = "The answer has broken off: what wrote it has ended.";
const MISSING = "Pieces of the answer are missing, and cannot be had any more.";
const CLOSED = "The transport was closed.";

/** What is not JSON is somebody else's. */
const parse = (data: string): Pick<Told, "run" | "pieces" | "error"> => {
  try {
    const { run, pieces, error } = Object(JSON.parse(data));
    return { run, pieces, error };
  } catch {
    return {};
  }
};

/** A connection, and who listens on it. */
class Line {
  /** Whether it has ever stood: from then on it tells everything, or that something is missing. */
  wasLive = false;
  /** The code with which it was closed for good. */
  code: number | undefined;
  /** Resolves when it stands for the first time, or is closed. */
  readonly settled: Promise<void>;
  readonly #close: () => void;
  readonly #ears = new Set<(told: Told) => void>();

  constructor({ url, ...options }: Connect) {
    let settle = (): void => {};
    this.settled = new Promise((resolve) => (settle = resolve));
    const client = connect(url, {
      ...options,
      onReset: (reset) => {
        this.#tell({ event: "reset", channels: reset.channels });
        options.onReset?.(reset);
      },
      onState: (state, code) => {
        this.wasLive ||= state === "live";
        if (state === "closed") {
          this.code = code;
          this.#tell({ event: "closed", code: code! });
        }
        settle();
        options.onState?.(state, code);
      },
    });
    this.#close = client.close;
    for (const event of EVENTS)
      client.on(event, ({ data }) => this.#tell({ ...parse(data), event }));
  }

  #tell(told: Told): void {
    for (const ear of [...this.#ears]) ear(told);
  }

  get isIdle(): boolean {
    return !this.#ears.size;
  }

  /** Calls `ear` with all that is told from now on; returns what ends that. */
  listen(ear: (told: Told) => void): () => void {
    this.#ears.add(ear);
    return () => this.#ears.delete(ear);
  }

  close(): void {
    this.#close();
  }
}

/** Turns what is told of a run into chunks. */
const translator = (messageId: string | undefined): ((told: Told) => UIMessageChunk[]) => {
  let isBegun = false;
  let isFinished = false;
  let texts = 0;
  let text: string | undefined;

  const endText = (): UIMessageChunk[] => {
    const id = text;
    text = undefined;
    return id ? [{ type: "text-end", id }] : [];
  };

  const begin = (): UIMessageChunk[] => {
    if (isBegun) return [];
    isBegun = true;
    return [{ type: "start", ...(messageId && { messageId }) }];
  };

  const write = (delta: string): UIMessageChunk[] => {
    const isNew = !text;
    const id = (text ??= `sinapse-${++texts}`);
    return [
      ...begin(),
      ...(isNew ? [{ type: "text-start", id } as const] : []),
      { type: "text-delta", id, delta },
    ];
  };

  /** A chunk that the application makes itself; what is not shown in its place may be within a text. */
  const pass = (chunk: UIMessageChunk): UIMessageChunk[] => {
    const isAside = chunk.type === "message-metadata" || ("transient" in chunk && chunk.transient);
    if (chunk.type === "start") isBegun = true;
    if (chunk.type === "finish") isFinished = true;
    return [...begin(), ...(isAside ? [] : endText()), chunk];
  };

  const turn = (piece: unknown): UIMessageChunk[] => {
    if (typeof piece === "string") return write(piece);
    if (typeof (piece as UIMessageChunk | null)?.type === "string")
      return pass(piece as UIMessageChunk);
    const shown = JSON.stringify(piece);
    throw new TypeError(`A piece is neither text nor a chunk with a type: ${shown}`);
  };

  const fail = (errorText: string): UIMessageChunk[] => [
    ...endText(),
    { type: "error", errorText },
  ];

  return ({ event, pieces = [], error, code }) => {
    switch (event) {
      case "piece":
        return pieces.flatMap(turn);
      case "end":
        return [...begin(), ...endText(), ...(isFinished ? [] : [{ type: "finish" } as const])];
      case "stopped":
        return [...endText(), { type: "abort" }];
      case "error":
        return fail(error || LOST);
      case "lost":
        return fail(LOST);
      case "reset":
        return fail(MISSING);
      default:
        return fail(code ? `Sinapse has closed the connection: ${code}` : CLOSED);
    }
  };
};

/** Whether `told` is about a run, whose channel has its id in its name. */
const concerns = (run: string, { event, run: other, channels }: Told): boolean =>
  channels ? channels.includes(`run:${run}`) : event === "closed" || other === run;

/** An option that may be a function, or a promise of its value. */
const resolve = async <T>(option: T | PromiseLike<T> | (() => T | PromiseLike<T>)): Promise<T> =>
  typeof option === "function" ? (option as () => T | PromiseLike<T>)() : option;

/** The URL of something that belongs to a chat: a path below `api`, whose query is kept. */
const below = (api: string, chatId: string, what: string): string => {
  // A URL takes these for steps in its path, however they are written.
  if (chatId === "." || chatId === "..") throw new TypeError(`${chatId} cannot be the id of a chat`);
  const [, path, query] = /^([^?#]*?)\/?([?#].*)?$/s.exec(api)!;
  return `${path}/${encodeURIComponent(chatId)}/${what}${query ?? ""}`;
};

const merged = (...all: (HeadersInit | undefined)[]): Record<string, string> =>
  Object.assign({}, ...all.map((each) => Object.fromEntries(new Headers(each))));

/** What an endpoint has answered, if it is well. */
const accepted = async (response: Response): Promise<Response> => {
  if (response.ok) return response;
  const { status, statusText } = response;
  throw new Error((await response.text()) || `${status} ${statusText}`);
};

/** The id of the run that an endpoint has answered. */
const runOf = async (response: Response): Promise<string> => {
  const { run } = parse(await (await accepted(response)).text());
  if (typeof run !== "string") throw new TypeError(`${response.url} has answered without a run`);
  return run;
};

/**
 * A transport for `useChat`. The endpoint `api` starts a run for what is asked, and answers with
 * `{"run": id}`; below it, `GET …/<chat>/stream` answers the same for a run that goes on, or 204,
 * and `POST …/<chat>/stop` stops it.
 */
export class SinapseChatTransport<M extends UIMessage = UIMessage> implements ChatTransport<M> {
  /** What is resumed comes from its first piece on. */
  readonly resumeStreamIsReplay = true;
  readonly #options: SinapseChatTransportOptions<M>;
  readonly #api: string;
  /** What the answers to questions come over, as long as there are any. */
  #line: Line | undefined;
  #idle: ReturnType<typeof setTimeout> | undefined;
  /** Those of answers that are resumed. */
  readonly #own = new Set<Line>();
  /** What each chat waits for. */
  readonly #runs = new Map<string, Promise<string>>();
  #closes = 0;

  constructor(options: SinapseChatTransportOptions<M>) {
    this.#options = options;
    this.#api = options.api ?? "/api/chat";
  }

  /** Asks; returns the answer as it comes. */
  async sendMessages(sending: Sending<M>): Promise<ReadableStream<UIMessageChunk>> {
    const { chatId, messages, abortSignal } = sending;
    const { stopOnAbort } = this.#options;
    const closes = this.#closes;
    const line = this.#open();
    // What is told of a run before its id is known.
    const heard: Told[] = [];
    const leave = line.listen((told) => heard.push(told));
    let run: string;
    try {
      await this.#ready(line, abortSignal);
      const asked = this.#ask(sending, stopOnAbort ? undefined : abortSignal);
      this.#note(chatId, asked);
      run = await asked;
      this.#check(closes);
    } catch (error) {
      this.#leave(leave);
      throw error;
    }
    if (abortSignal?.aborted) {
      this.#leave(leave);
      if (stopOnAbort) await this.stop(chatId);
      throw abortSignal.reason;
    }
    // Who could listen to nothing was refused, and may listen to this run now.
    const isOwn = !line.wasLive || line.code !== undefined;
    const answer = this.#answer(sending, run, {
      line: isOwn ? this.#openOwn() : line,
      heard: isOwn ? [] : heard,
      // The answer to a tool is part of the message that has asked for it.
      messageId: messages.at(-1)?.role === "assistant" ? undefined : run,
    });
    this.#leave(leave);
    return answer;
  }

  /** Returns the answer that is under way, from its first piece on; null if there is none. */
  async reconnectToStream(resuming: Resuming<M>): Promise<ReadableStream<UIMessageChunk> | null> {
    const { chatId, abortSignal, metadata } = resuming;
    const closes = this.#closes;
    const { prepareReconnectToStreamRequest: prepare } = this.#options;
    const { body, headers, credentials } = await this.#basis(resuming);
    const prepared = await prepare?.({
      ...{ id: chatId, api: this.#api, body, headers, credentials },
      requestMetadata: metadata,
    });
    const response = await this.#fetch(prepared?.api ?? below(this.#api, chatId, "stream"), {
      headers: merged(prepared?.headers ?? headers),
      credentials: prepared?.credentials ?? credentials,
      signal: abortSignal,
    });
    if (response.status === 204) return null;
    const run = await runOf(response);
    this.#check(closes);
    this.#note(chatId, Promise.resolve(run));
    return this.#answer(resuming, run, { line: this.#openOwn(), heard: [], messageId: run });
  }

  /**
   * Stops the run of a chat, at its source, for whoever looks at it: the answer ends in all tabs.
   * Throws an Error with the text of the endpoint, if that refuses.
   */
  async stop(chatId: string): Promise<void> {
    const run = await this.#runs.get(chatId)?.catch(() => undefined);
    const { headers, credentials } = await this.#basis({});
    const response = await this.#fetch(below(this.#api, chatId, "stop"), {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify({ run }),
      credentials,
      keepalive: true,
    });
    await accepted(response);
  }

  /** Closes what is open; answers that are under way end with an error here, and go on elsewhere. */
  close(): void {
    this.#closes++;
    for (const line of [this.#line, ...this.#own]) line?.close();
    this.#line = undefined;
    clearTimeout(this.#idle);
  }

  /** Throws if the transport was closed meanwhile: nothing is to be opened for what began before. */
  #check(closes: number): void {
    if (this.#closes !== closes) throw new Error(CLOSED);
  }

  /** The connection that questions share, with other tabs too. */
  #open(): Line {
    if (this.#line?.code !== undefined) this.#line = undefined;
    return (this.#line ??= new Line(this.#options.connect));
  }

  /**
   * A connection of its own, which begins at the start of what is retained: one that is open, or
   * another tab's, is long past that.
   */
  #openOwn(): Line {
    const { onReset, onState, ...options } = this.#options.connect;
    const line = new Line({ ...options, share: false });
    this.#own.add(line);
    return line;
  }

  /** Waits for a connection; not for ever: there may be one only when the run has begun. */
  async #ready(line: Line, signal: AbortSignal | undefined): Promise<void> {
    let timer: ReturnType<typeof setTimeout>;
    const over = new Promise<void>((stop) => {
      timer = setTimeout(stop, READY);
      signal?.addEventListener("abort", () => stop(), { once: true });
    });
    await Promise.race([line.settled, over]);
    clearTimeout(timer!);
    signal?.throwIfAborted();
  }

  /** Stops listening on the connection for questions, which goes when nobody wants it any more. */
  #leave(leave: () => void): void {
    leave();
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => {
      if (!this.#line?.isIdle) return;
      this.#line.close();
      this.#line = undefined;
    }, IDLE);
  }

  /** Keeps what a chat waits for, so that it can be stopped. */
  #note(chatId: string, run: Promise<string>): void {
    this.#runs.set(chatId, run);
    run.catch(() => this.#runs.get(chatId) === run && this.#runs.delete(chatId));
  }

  /** Has a run started, and returns its id. */
  async #ask(sending: Sending<M>, signal: AbortSignal | undefined): Promise<string> {
    const { chatId: id, messages, trigger, messageId, metadata } = sending;
    const { prepareSendMessagesRequest: prepare } = this.#options;
    const { body, headers, credentials } = await this.#basis(sending);
    const prepared = await prepare?.({
      ...{ id, messages, trigger, messageId, api: this.#api, body, headers, credentials },
      requestMetadata: metadata,
    });
    const response = await this.#fetch(prepared?.api ?? this.#api, {
      method: "POST",
      headers: { "content-type": "application/json", ...merged(prepared?.headers ?? headers) },
      body: JSON.stringify(prepared?.body ?? { ...body, id, messages, trigger, messageId }),
      credentials: prepared?.credentials ?? credentials,
      signal,
    });
    return runOf(response);
  }

  /** What all requests have in common. */
  async #basis({ headers, body }: { headers?: HeadersInit; body?: object }) {
    const { body: all, headers: fields, credentials } = this.#options;
    return {
      body: { ...(await resolve(all)), ...body },
      headers: merged(await resolve(fields), headers),
      credentials: await resolve(credentials),
    };
  }

  #fetch(
    url: string,
    { credentials, signal, ...init }: { [Key in keyof RequestInit]?: RequestInit[Key] | undefined },
  ): Promise<Response> {
    const { fetch = globalThis.fetch } = this.#options;
    return fetch(url, {
      ...(init as RequestInit),
      ...(credentials && { credentials }),
      ...(signal && { signal }),
    });
  }

  /** The chunks of a run; `heard` is what `line` has told before. */
  #answer(
    { chatId, abortSignal }: { chatId: string; abortSignal?: AbortSignal | undefined },
    run: string,
    { line, heard, messageId }: { line: Line; heard: Told[]; messageId: string | undefined },
  ): ReadableStream<UIMessageChunk> {
    const translate = translator(messageId);
    const noted = this.#runs.get(chatId);
    let controller: ReadableStreamDefaultController<UIMessageChunk>;
    let isOver = false;

    const end = (): void => {
      if (isOver) return;
      isOver = true;
      abortSignal?.removeEventListener("abort", abort);
      if (this.#runs.get(chatId) === noted) this.#runs.delete(chatId);
      if (this.#own.delete(line)) {
        leave();
        line.close();
      } else {
        this.#leave(leave);
      }
    };
    const hear = (told: Told): void => {
      if (isOver || !concerns(run, told)) return;
      try {
        for (const chunk of translate(told)) controller.enqueue(chunk);
        if (told.event === "piece") return;
        end();
        controller.close();
      } catch (error) {
        end();
        controller.error(error);
      }
    };
    const abort = (): void => {
      if (this.#options.stopOnAbort) this.stop(chatId).catch((error) => console.error(error));
      hear({ event: "stopped", run });
    };

    const leave = line.listen(hear);
    return new ReadableStream<UIMessageChunk>({
      start: (made) => {
        controller = made;
        abortSignal?.addEventListener("abort", abort);
        heard.forEach(hear);
        if (abortSignal?.aborted) abort();
      },
      cancel: end,
    });
  }
}
