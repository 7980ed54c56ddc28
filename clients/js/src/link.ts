import type { Item } from "./item.js";
import type { Transport } from "./transports.js";

/** Milliseconds: how long a connection may take until its first event. */
const FIRST_EVENT = 10_000;

/** Milliseconds without any sign of life; a server gives one every 15 s, unless told otherwise. */
const SILENCE = 45_000;

/** Milliseconds until the first transport is tried again, where only another one would do. */
const CONTENT = 1_800_000;

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

/** There is no use in coming back: a bad request, a foreign origin. */
const FINAL = [400, 403, REPLACED];

/** What the links of a tab have in common. */
export interface Server {
  url: string;
  transports: Transport[];
  withCredentials: boolean;
  /** The token in use; undefined if another one is to be got. */
  token: string | undefined;
  /** Returns a token, or nothing if there is none to be had. */
  getToken(): Promise<string | null | undefined> | string | null | undefined;
}

export interface Hooks {
  /** The id to resume from. */
  last(): string | undefined;
  receive(item: Item): void;
  /** Is told when the connection stands, and when it does not any more. */
  live(isLive: boolean): void;
  /** Is told that the link has given up, and why: an HTTP status, or a WebSocket close code. */
  closed(code: number): void;
}

/** A connection that is made anew whenever it is lost; each time it resumes where it was. */
export const open = (server: Server, { last, receive, live, closed }: Hooks): (() => void) => {
  let stopped = false;
  let failures = 0;
  let choice = 0;
  let firstPause = FIRST_PAUSE;
  let refused: string | undefined;
  let reason = 401;
  // Ends what is under way: an attempt, a connection, or a pause.
  let hurry = (): void => {};

  const connect = async (token: string): Promise<number> => {
    const controller = new AbortController();
    const { signal } = controller;
    const { transports, getToken } = server;
    let timer: ReturnType<typeof setTimeout>;
    let limit = FIRST_EVENT;
    const alive = (ask?: () => void): void => {
      clearTimeout(timer);
      if (signal.aborted) return;
      timer = setTimeout(() => {
        if (!ask) return controller.abort(SILENT);
        ask();
        alive();
      }, limit);
    };
    hurry = () => controller.abort(HURRY);
    alive();
    const leave = (): void => {
      choice = 0;
      hurry();
    };
    const content = choice ? setTimeout(leave, CONTENT) : undefined;
    try {
      return await transports[choice % transports.length]!({
        ...server,
        token,
        signal,
        last,
        alive,
        retry: (pause) => (firstPause = Math.max(pause, SHORTEST_PAUSE)),
        receive(item) {
          if (signal.aborted) return;
          if (item.event === "authentication") {
            limit = SILENCE;
            alive();
            failures = 0;
            // A long poll is told where the server is, however far the client had come.
            if (item.id && !last()) receive({ id: item.id });
            live(true);
            return;
          }
          if (item.event === "token-expiring") {
            Promise.resolve()
              .then(getToken)
              .then((next) => {
                if (!next || next === server.token || signal.aborted) return;
                server.token = next;
                hurry();
              })
              // There will be another occasion, when it has expired.
              .catch(() => {});
          }
          // An event that only has data for those who would drop its id without.
          receive(item.event === "position" ? { id: item.id } : item);
          // An event stream has no code that says so.
          if (item.event === "replaced") controller.abort(REPLACED);
        },
      });
    } catch {
      return signal.aborted ? signal.reason : 0;
    } finally {
      clearTimeout(timer!);
      clearTimeout(content);
      // For what of it is still under way.
      if (!signal.aborted) controller.abort(0);
      // A network that holds back streams does so before the first event of a stream.
      if (signal.reason === SILENT && limit === FIRST_EVENT) choice++;
    }
  };

  const pause = (): Promise<void> =>
    new Promise((resolve) => {
      const most = Math.min(firstPause * 2 ** failures++, Math.max(firstPause, LONGEST_PAUSE));
      const timer = setTimeout(resolve, Math.random() * most);
      hurry = () => {
        clearTimeout(timer);
        resolve();
      };
    });

  const run = async (): Promise<void> => {
    while (!stopped) {
      let token = server.token;
      if (token === undefined) {
        try {
          token = (await server.getToken()) ?? undefined;
        } catch {
          await pause();
          continue;
        }
        if (stopped) return;
        if (token === undefined || token === refused) return closed(reason);
        server.token = token;
      }
      const code = await connect(token);
      if (stopped) return;
      // What is made anew while all is well is nobody's business.
      if (code !== HURRY) live(false);
      if (FINAL.includes(code)) return closed(code);
      if (UNAUTHORIZED.includes(code)) {
        refused = token;
        reason = code;
        if (server.token === token) server.token = undefined;
        // At once for the first time.
        if (!failures++) continue;
      }
      // A poll that the server cannot answer; or a WebSocket that something between has refused,
      // twice: the first time the server may just have come back.
      if (code === 406 || (code === 200 && failures)) choice++;
      if (code === HURRY) failures = 0;
      else await pause();
    }
  };

  const online = (): void => {
    // Another network may let through what the last one did not.
    choice = failures = 0;
    hurry();
  };
  globalThis.addEventListener?.("online", online);
  void run();
  return () => {
    stopped = true;
    globalThis.removeEventListener?.("online", online);
    hurry();
  };
};
