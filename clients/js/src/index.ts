/**
 * Receives what a Sinapse server pushes.
 *
 * @module
 */

import { type Item, further, isNew } from "./item.js";
import { type Server, open } from "./link.js";
import { type Share, share } from "./sharing.js";
import { type Transport, eventSource, longPoll, webSocket } from "./transports.js";

/** A message, as it was published. */
export interface Message {
  /** The event type; `message` where the publisher named none. */
  readonly event: string;
  /** The text that was published; often JSON. */
  readonly data: string;
  /** The id, if the message is retained. */
  readonly id?: string;
}

/** Messages are missing: the page should load its state anew. */
export interface Reset {
  /**
   * `not-retained`: there were messages on these channels that are gone. `data-lost`: the server
   * has lost data. `unknown-id`: it does not know the id to resume from.
   */
  readonly reason: "not-retained" | "data-lost" | "unknown-id";
  /** The channels concerned. */
  readonly channels: readonly string[];
}

/** How the connection stands, be it of this tab or of the one that shares its own. */
export type State = "connecting" | "live" | "reconnecting" | "closed";

export type TransportName = "eventsource" | "websocket" | "longpoll";

type Token = string | null | undefined;

export interface Options {
  /** The token to connect with. */
  token?: string;
  /**
   * Returns a token, or a promise of one; asked at first, when a token ends or has ended, and when
   * one is refused. To be asked again later, throw; to stop, return nothing, or what was refused.
   */
  getToken?(): Token | Promise<Token>;
  /**
   * Who the user is: tabs that say the same, with the same URL, share one connection. `false` for a
   * connection of this tab alone. Without it, tabs share that were given the same `token`; with
   * `getToken`, none.
   */
  share?: string | false;
  /** Which transports to use, and in which order to try them. */
  transports?: readonly TransportName[];
  /**
   * The id to begin after, if the page knows one: the `position` that was taken before its state
   * was read. Without it, the client begins with what comes next.
   */
  lastEventId?: string | null | undefined;
  /** Send cookies to another origin, too: for servers that read the token from one. */
  withCredentials?: boolean;
  onReset?(reset: Reset): void;
  /**
   * Is told how the connection stands when that changes. With `closed` comes the reason: an HTTP
   * status, a WebSocket close code, or 0 after `close()`.
   */
  onState?(state: State, code?: number): void;
}

export interface Client {
  readonly state: State;
  /** The id of the last message received. */
  readonly lastEventId: string | undefined;
  /**
   * The name of this tab's stream: what is published with `but` that name does not come here. For
   * what the page sends itself. Undefined where tabs share a connection, since it would come to none
   * of them: `share: false` has a name.
   */
  readonly stream: string | undefined;
  /** Calls `handler` with messages of an event type; returns what ends that. */
  on(event: string, handler: (message: Message) => void): () => void;
  /** Closes the connection for good. */
  close(): void;
}

const TRANSPORTS: Record<TransportName, Transport> = {
  eventsource: eventSource,
  websocket: webSocket,
  longpoll: longPoll,
};

/** A name that no other stream has. */
const newName = (): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");

/** Calls a handler of the page; what it throws is for the console, and hurts nobody else. */
const call = <Arguments extends unknown[]>(
  handler: ((...args: Arguments) => void) | undefined,
  ...args: Arguments
): void => {
  try {
    handler?.(...args);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
};

/**
 * Connects to a server, and stays connected until it is closed, by the page or for good reason.
 * Throws a TypeError for what is no URL, and if there is none of the transports here.
 */
export const connect = (url: string, options: Options = {}): Client => {
  const { token, getToken = () => token ?? "", onReset, onState } = options;
  const { transports = Object.keys(TRANSPORTS) as TransportName[] } = options;
  const usable = transports
    .filter((name) => name !== "websocket" || globalThis.WebSocket)
    .map((name) => TRANSPORTS[name]);
  if (!usable.length || usable.includes(undefined!)) throw new TypeError("no such transport");
  const { share: user = options.getToken ? false : undefined } = options;
  const mayShare = user ?? token;
  const address = new URL(url, globalThis.location?.href);
  const name = `sinapse ${JSON.stringify([address.href, user ?? { token }])}`;
  const stream = mayShare ? undefined : newName();
  if (stream) address.searchParams.set("stream", stream);
  const server: Server = {
    url: address.href,
    transports: usable,
    withCredentials: options.withCredentials ?? false,
    token,
    getToken,
  };

  const handlers = new Map<string, Set<(message: Message) => void>>();
  let state: State = "connecting";
  let last = options.lastEventId || undefined;
  let closeLink: (() => void) | undefined;
  let shared: Share | undefined;
  let suspended = false;

  const setState = (next: State, code?: number): void => {
    if (state === next || state === "closed") return;
    state = next;
    call(onState, next, code);
  };

  const setLive = (isLive: boolean): void => {
    if (isLive) setState("live");
    else if (state === "live") setState("reconnecting");
  };

  // Of the server's own, only a reset comes here.
  const deliver = ({ event = "message", data, id, isOwn: isReset }: Item): void => {
    if (state === "closed") return;
    if (id) {
      if (!isReset && data !== undefined && !isNew(last, id)) return;
      last = isReset ? id : further(last, id);
    }
    if (isReset) call(() => onReset?.(JSON.parse(data!)));
    else if (data !== undefined) {
      const message: Message = { event, data, ...(id && { id }) };
      for (const handler of [...(handlers.get(event) ?? [])]) call(handler, message);
    }
  };

  const openLink = (): void => {
    closeLink ??= open(server, {
      last: () => last,
      receive: (item) => (shared ? shared.receive(item) : deliver(item)),
      live: (isLive) => (shared ? shared.live(isLive) : setLive(isLive)),
      closed: end,
    });
  };

  const stopLink = (): void => {
    closeLink?.();
    closeLink = undefined;
  };

  const alone = (): void => {
    stop();
    openLink();
  };

  const start = (): void => {
    // A page may be forbidden to share: then looking for what it takes fails, or using it.
    try {
      if (!mayShare || !navigator.locks) return openLink();
      shared = share(name, {
        last: () => last,
        deliver,
        open: openLink,
        close: stopLink,
        live: setLive,
        alone,
        replaced() {
          stop();
          start();
        },
      });
    } catch {
      alone();
    }
  };

  const stop = (): void => {
    stopLink();
    shared?.leave();
    shared = undefined;
  };

  // A page that is frozen, or kept to go back to, must hold neither connection nor lead.
  const suspend = (): void => {
    suspended = true;
    stop();
    setLive(false);
  };
  const resume = (): void => {
    if (suspended) start();
    suspended = false;
  };

  const listeners = { pagehide: suspend, freeze: suspend, pageshow: resume, resume };

  const end = (code: number): void => {
    stop();
    for (const [event, listener] of Object.entries(listeners))
      globalThis.removeEventListener?.(event, listener, true);
    setState("closed", code);
  };

  for (const [event, listener] of Object.entries(listeners))
    globalThis.addEventListener?.(event, listener, true);
  start();

  return {
    get state() {
      return state;
    },
    get lastEventId() {
      return last;
    },
    stream,
    on(event, handler) {
      const all = handlers.get(event) ?? new Set();
      handlers.set(event, all.add(handler));
      return () => all.delete(handler);
    },
    close: () => end(0),
  };
};
