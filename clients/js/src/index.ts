/**
 * Receives what a Sinapse server pushes.
 *
 * @module
 */

import { type Handler, call } from "./handlers.js";
import { further, isNew } from "./item.js";
import { type Server, type Standing, open } from "./link.js";
import { type Share, share } from "./sharing.js";
import { TRANSPORTS } from "./transports.js";
import type * as sinapse from "./types.js";

export type * from "./types.js";

/** Adds a handler of the page; returns what takes it away. */
const add = (handlers: Set<Handler>, handler: Handler | undefined): (() => void) => {
  const own: Handler = (...told) => handlers.has(own) && call(handler, ...told);
  handlers.add(own);
  return () => void handlers.delete(own);
};

const tell = (handlers: Set<Handler>, ...told: unknown[]): void =>
  [...handlers].forEach((handler) => handler(...told));

/** What messages inherit: of their own they have data only, so that they can be cloned. */
const MESSAGE = {
  json(this: sinapse.Message): unknown {
    return JSON.parse(this.data);
  },
};

/**
 * Connects to a server, and stays connected until it is closed, by the page or for good reason.
 * Throws a TypeError for what is no URL, and if there is none of the transports here.
 */
export const connect = <Events extends object = Record<string, any>>(
  url: string,
  options: sinapse.Options = {},
): sinapse.Client<Events> => {
  const {
    token,
    getToken = () => token ?? "",
    share: user = options.getToken ? false : undefined,
    transports = Object.keys(TRANSPORTS) as sinapse.TransportName[],
    withCredentials = false,
  } = options;
  const usable = transports
    .filter((each) => each !== "websocket" || globalThis.WebSocket)
    .map((each) => [each, TRANSPORTS[each as sinapse.TransportName] ?? each] as const);
  if (!usable.length || usable.some(([, each]) => typeof each !== "function"))
    throw new TypeError("no transport");
  const mayShare = user ?? token;
  const address = new URL(url, globalThis.location?.href);
  // Tabs in which an older client runs share among themselves.
  const name = `sinapse-client ${JSON.stringify([address.href, user ?? { token }])}`;
  // One that no other stream has.
  const stream = mayShare ? undefined : crypto.getRandomValues(new Uint32Array(4)).join("-");
  if (stream) address.searchParams.set("stream", stream);
  address.searchParams.set("format", "json");
  const debug: Handler = (...told) => options.debug && console.debug("sinapse", ...told);
  const server: Server = {
    url: address.href,
    transports: usable,
    withCredentials,
    token,
    // What it throws is what the promise says.
    getToken: async () => getToken(),
    debug,
  };

  const messages = new Set<Handler>();
  const resets = new Set<Handler>();
  const states = new Set<Handler>();
  let state: sinapse.State = "connecting";
  let last = options.lastEventId || undefined;
  let closeLink: (() => void) | undefined;
  let shared: Share | undefined;
  let suspended = false;

  const onReset = (handler: typeof options.onReset) =>
    add(resets, (data) => handler?.(JSON.parse(data)));
  const onState = (handler: typeof options.onState) => add(states, handler);
  onReset(options.onReset);
  onState(options.onState);

  const setState = (next: sinapse.State, code?: number): void => {
    if (state === next || state === "closed") return;
    state = next;
    debug(next, code ?? "");
    tell(states, next, code);
  };

  const setLive = (how: Standing): void => {
    if (how || state !== "connecting") setState(how || "reconnecting");
  };

  // Of the server's own, only a reset has data here.
  const deliver = ({ event = "message", data, channel, id }: sinapse.Item): void => {
    if (state === "closed" || (id && channel && !isNew(last, id))) return;
    // A place that the server does not know is none; what is lost is taken back.
    if (id) last = data?.includes('"unknown-id"') && !channel ? id : further(last, id, data && !channel);
    if (channel) {
      tell(messages, { __proto__: MESSAGE, event, data, channel, ...(id && { id }) });
    } else if (data) {
      debug("reset", data);
      tell(resets, data);
    }
  };

  const openLink = (): void => {
    closeLink ??= open(server, {
      last: () => last,
      receive: (item) => (shared ? shared.receive(item) : deliver(item)),
      live: (how) => (shared ? shared.live(how) : setLive(how)),
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
        debug,
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

  const end = (code: number): void => {
    stop();
    life.abort();
    setState("closed", code);
  };

  const life = new AbortController();
  const listeners = { pagehide: suspend, freeze: suspend, pageshow: resume, resume };
  for (const [event, listener] of Object.entries(listeners))
    globalThis.addEventListener?.(event, listener, { capture: true, signal: life.signal });
  start();

  const listen = (channel?: string): sinapse.Channel<Events> => {
    const on = (event: string, handler: Handler) =>
      add(messages, (message) => {
        if (event !== "*" && event !== message.event) return;
        if (channel == null || channel === message.channel) handler(message);
      });
    return {
      on,
      once(event, handler) {
        const stop = on(event, (message) => {
          stop();
          handler(message);
        });
        return stop;
      },
      async *[Symbol.asyncIterator]() {
        const waiting: any[] = [];
        let wake = (): void => {};
        const stop = on("*", (message) => {
          waiting.push(message);
          wake();
        });
        const stopWatching = onState(() => wake());
        try {
          while (waiting.length || state !== "closed") {
            if (waiting.length) yield waiting.shift();
            else await new Promise<void>((resolve) => (wake = resolve));
          }
        } finally {
          stop();
          stopWatching();
        }
      },
    };
  };

  return {
    ...listen(),
    channel: (channel) => listen(String(channel)),
    onReset,
    onState,
    stream,
    get state() {
      return state;
    },
    get lastEventId() {
      return last;
    },
    close: () => end(0),
  };
};
