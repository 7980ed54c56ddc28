import { UNUSABLE } from "./transports.js";
import type { Item, State, Transport } from "./types.js";

/**
 * Milliseconds: how long a connection may wait to be taken, behind many others perhaps; who gave up
 * sooner would have to wait from the beginning. And from then on until its first event: what holds
 * back streams does so there.
 */
const TAKEN = 60_000;
const FIRST_EVENT = 10_000;

/** Milliseconds without any sign of life; a server gives one every 15 s, unless told otherwise. */
const SILENCE = 45_000;

/**
 * Milliseconds until the first transport is tried again, where only another one would do; and sooner
 * where the server may only have come back when the other one was tried.
 */
const CONTENT = 1_800_000;
const SOON = 120_000;

/** How often in a row a transport fails until another one is tried for once, and then the next. */
const TRIALS = 3;

/** Milliseconds for the page to come up with a token: what it asks may never answer. */
const ASKING = 20_000;

/**
 * Milliseconds: the longest pause between two attempts, unless the server asks for more, and the
 * first, if the server names none.
 */
const LONGEST_PAUSE = 30_000;
const FIRST_PAUSE = 1_000;

/** The least that a server may ask for: nobody means that clients should come without end. */
const SHORTEST_PAUSE = 100;

/** Ends of connections for which there is no code: nothing came; it is to be made anew, at once. */
const SILENT = -1;
const HURRY = -2;

/**
 * The token is no good, any more, or there is nothing that it may listen to: 204 is how servers
 * stop an EventSource that way.
 */
const UNAUTHORIZED = [401, 204, 1008, 4001, 4002];

/** A newer stream of the same user has taken the place; who came back would take it in turn. */
const REPLACED = 4004;

/** There is no use in coming back: a request without a token, and a stream that was replaced. */
const FINAL = [400, REPLACED];

/** How a connection stands; false if it does not. */
export type Standing = State | false;

/** What the links of a tab have in common. */
export interface Server {
  url: string;
  /** Each with what the page calls it. */
  transports: (readonly [unknown, Transport])[];
  withCredentials: boolean;
  /** The token in use; undefined if another one is to be got. */
  token: string | undefined;
  /** Returns a token, or nothing if there is none to be had. */
  getToken(): Promise<string | null | undefined>;
  /** Tells whoever looks for a fault what happens. */
  debug(...told: unknown[]): void;
}

export interface Hooks {
  /** The id to resume from. */
  last(): string | undefined;
  receive(item: Item): void;
  /** Is told how the connection stands, and when it does not any more. */
  live(how: Standing): void;
  /** Is told that the link has given up, and why: an HTTP status, or a WebSocket close code. */
  closed(code: number): void;
}

/** A connection that is made anew whenever it is lost; each time it resumes where it was. */
export const open = (server: Server, { last, receive, live, closed }: Hooks): (() => void) => {
  const life = new AbortController();
  const { signal: over } = life;
  let failures = 0;
  // The transport in use, and the one before the first was tried again.
  let choice = 0;
  let former = 0;
  // How often in a row there was nobody to be reached.
  let misses = 0;
  let content = CONTENT;
  let firstPause = FIRST_PAUSE;
  let refused: string | undefined;
  let reason = 401;
  // Ends what is under way: an attempt, a connection, or a pause.
  let hurry = (): void => {};

  const connect = async (token: string): Promise<number> => {
    const controller = new AbortController();
    const { signal } = controller;
    const { transports, getToken, debug } = server;
    // Another transport, and after as many failures again the next one.
    const turn = (misses + 1) / (TRIALS + 1);
    const used = turn % 1 ? choice : choice + turn;
    const [name, transport] = transports[used % transports.length]!;
    debug("connects", name);
    let timer: ReturnType<typeof setTimeout>;
    let limit = TAKEN;
    let isFirst = true;
    const alive = (ask?: () => void): void => {
      clearTimeout(timer);
      if (signal.aborted) return;
      timer = setTimeout(() => {
        if (!ask) return controller.abort(SILENT);
        alive();
        ask();
      }, limit);
    };
    hurry = () => controller.abort(HURRY);
    alive();
    limit = FIRST_EVENT;
    const leave = (): void => {
      former = choice;
      choice = 0;
      hurry();
    };
    let leaving: ReturnType<typeof setTimeout> | undefined;
    try {
      const code = await transport({
        ...server,
        token,
        signal,
        last,
        alive,
        retry: (pause) => (firstPause = Math.max(pause, SHORTEST_PAUSE)),
        receive(item) {
          const { event, id } = item;
          if (signal.aborted) return;
          if (item.channel || event === "reset") {
            receive(item);
            // The server's first word.
          } else if (isFirst && event === "authentication") {
            isFirst = false;
            limit = SILENCE;
            alive();
            if (used !== choice) content = SOON;
            choice = used;
            former = failures = misses = 0;
            if (choice % transports.length) leaving = setTimeout(leave, content);
            content = CONTENT;
            // A long poll is told where the server is, however far the client had come.
            if (id && !last()) receive({ id });
            debug("taken");
            live("live");
          } else if (event === "token-expiring") {
            getToken()
              .then((next) => {
                if (!next || next === server.token || signal.aborted) return;
                server.token = next;
                hurry();
              })
              // There will be another occasion, when it has expired.
              .catch(() => {});
          } else if (event === "degraded") {
            // A list, which is empty when all is well again.
            live(item.data![2] ? event : "live");
          } else if (event === "replaced") {
            // An event stream has no code that says so.
            controller.abort(REPLACED);
          } else if (id) {
            receive({ id });
          }
        },
      });
      return signal.aborted ? signal.reason : code;
    } catch (error) {
      if (signal.aborted) return signal.reason;
      // Its name only: the text may have the token.
      debug("failed", (error as Error)?.name);
      if (isFirst) misses++;
      return 0;
    } finally {
      clearTimeout(timer!);
      clearTimeout(leaving);
      // For what of it is still under way.
      if (!signal.aborted) controller.abort(0);
      // A network that holds back streams does so before the first event of a stream.
      if (signal.reason === SILENT && isFirst) choice++;
      // There was a server a moment ago, for the other transport.
      if (isFirst && former) {
        choice = former;
        former = 0;
      }
    }
  };

  /** Waits so many milliseconds; returns whether that was cut short. */
  const wait = (delay: number): Promise<boolean> =>
    new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), delay);
      hurry = () => {
        clearTimeout(timer);
        resolve(true);
      };
    });

  const pause = (): Promise<boolean> => {
    const most = Math.min(firstPause * 2 ** failures++, Math.max(firstPause, LONGEST_PAUSE));
    const delay = Math.random() * most;
    // In milliseconds, as everywhere.
    server.debug("waits", delay);
    return wait(delay);
  };

  const run = async (): Promise<void> => {
    while (!over.aborted) {
      let token = server.token;
      if (token === undefined) {
        server.debug("needs token");
        const told = await Promise.race([server.getToken(), wait(ASKING)]).catch((error) => {
          server.debug("no token", error);
          return false;
        });
        hurry();
        if (over.aborted) return;
        // There was no answer; or something has happened, and the page is asked again at once.
        if (told === false) await pause();
        if (typeof told === "boolean") continue;
        if (told == null || told === refused) return closed(reason);
        server.token = token = told;
      }
      const code = await connect(token);
      const status = Math.abs(code);
      if (over.aborted) return;
      server.debug("ended", code);
      // What is made anew while all is well is nobody's business.
      if (code !== HURRY) live(false);
      if (FINAL.includes(code)) return closed(code);
      if (UNAUTHORIZED.includes(status)) {
        // What something between refuses may be as good as before.
        refused = code > 0 ? token : undefined;
        reason = status;
        if (server.token === token) server.token = undefined;
        // At once for the first time.
        if (!failures++) continue;
      }
      // No streams here, or a poll that the server cannot answer; or a WebSocket that something between has refused,
      // twice: the first time the server may just have come back.
      if (status === UNUSABLE || (status === 200 && failures)) choice++;
      if (code === HURRY) failures = 0;
      else await pause();
    }
  };

  const online = (): void => {
    // Another network may let through what the last one did not.
    choice = failures = 0;
    hurry();
  };
  globalThis.addEventListener?.("online", online, { signal: over });
  void run();
  return () => {
    life.abort();
    hurry();
  };
};
