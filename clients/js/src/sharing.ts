/**
 * One connection for all tabs of a user.
 *
 * A Web Lock makes one tab the leader. It has the connection, and hands on whatever comes by a
 * BroadcastChannel, before it looks at it itself. The others follow: each keeps its own place, the
 * id of the last message that it has had, and drops what it has had already. So whoever takes over
 * resumes at its own place, and hands on what the server sends it from there; who was further than
 * that drops it.
 *
 * Who is further back than the leader, because it was frozen, or away in the browser's
 * back-forward cache, or because what a former leader had told it is still on the way, catches up:
 * it opens a connection of its own for as long as it takes to get where the leader was, and holds
 * what the leader tells meanwhile.
 */

import { beforePast, hasReached, isPlain, isReset, isUnclear } from "./item.js";
import type { Standing } from "./link.js";
import type { Item } from "./types.js";

/** Milliseconds. A leader that is silent for as long is asked, and replaced if it does not answer. */
const QUIET = 10_000;

/** What tabs tell each other. */
interface Notice {
  /** "Who leads, and where are you?" */
  asks?: boolean;
  /** Of a leader: since when it leads. The latest is the right one; others were replaced. */
  since?: number;
  /** How the leader's connection stands. */
  live?: Standing;
  /** "I lead, and I am here", wherever `at` is; undefined if the leader has had no id yet. */
  leads?: boolean;
  at?: string | undefined;
  item?: Item | undefined;
}

export interface Tab {
  /** The id of the last message that this tab has had. */
  last(): string | undefined;
  /** Takes what is new, and drops what it has had. */
  deliver(item: Item): void;
  /** Opens a connection of this tab, if there is none, that feeds what `share` returns. */
  open(): void;
  /** Closes it, if there is one. */
  close(): void;
  /** Is told about the connection of another tab. */
  live(how: Standing): void;
  /** Tells whoever looks for a fault what happens. */
  debug(...told: unknown[]): void;
  /** There is no sharing here: the page may not use locks. */
  alone(): void;
  /** The lead was taken away: this tab was not heard for too long. To be shared anew. */
  replaced(): void;
}

export interface Share {
  /** Takes what comes over the connection of this tab. */
  receive(item: Item): void;
  /** Is told how that connection stands, and when it does not. */
  live(how: Standing): void;
  leave(): void;
}

/**
 * Shares `tab` with those of the same name. Needs Web Locks and BroadcastChannel; throws where the
 * page may not use the latter.
 */
export const share = (name: string, tab: Tab): Share => {
  const channel = new BroadcastChannel(name);
  const queue = new AbortController();
  let leads = false;
  let left = false;
  // Since when the leader leads, be it this tab or another.
  let since = 0;
  // How the tab's own connection stands, and how the leader's does.
  let isLive: Standing = false;
  let isLeaderLive: Standing = false;
  // What the leader tells while this tab catches up, beginning with where the leader was.
  let held: Item[] | undefined;
  // A reset after which the leader has had no id: to be told to whoever joins there.
  let reset: Item | undefined;
  // How often the clock has struck since the leader was asked, or heard.
  let quiet = 1;
  let release = (): void => {};

  const post = (notice: Notice): void => {
    try {
      channel.postMessage(notice);
    } catch {
      queueMicrotask(() => left || tab.alone());
    }
  };
  const ask = (): void => post({ asks: true });
  const tell = (notice: Notice): void => post({ since, live: isLive, ...notice });
  const lead = (): void => tell({ leads: true, at: tab.last(), item: reset });

  const request = async (options: LockOptions): Promise<void> => {
    try {
      await navigator.locks.request(name, options, () => {
        if (left) return;
        leads = true;
        tab.debug("leads");
        held = undefined;
        // With a fraction, so that no two are the same.
        since = Math.max(Date.now(), since + 1) + Math.random();
        lead();
        // Not one that was opened to catch up: what is not retained may wait in it, and have been
        // handed on by the former leader.
        tab.close();
        tab.open();
        return new Promise<void>((resolve) => (release = resolve));
      });
    } catch (error) {
      if (left || options.signal?.aborted) return;
      // Another tab took the lock away; or else, this page may not have any.
      if ((error as Error).name === "AbortError") tab.replaced();
      else tab.alone();
    }
  };

  const follow = (): void => {
    held = undefined;
    tab.debug("follows");
    tab.close();
    tab.live(isLeaderLive);
  };

  // Ends catching up if this tab is where the leader was, or further.
  const meet = (): void => {
    const where = held!.map(({ id }) => hasReached(tab.last(), id)).lastIndexOf(true);
    if (where < 0) return;
    // What is not retained was not taken from the tab's own connection.
    const rest = held!.filter((item, index) => index > where || isPlain(item));
    follow();
    rest.forEach(hear);
  };

  const catchUp = (item: Item): void => {
    held = [item];
    meet();
    if (held) tab.open();
  };

  const hear = (item: Item): void => {
    if (held) {
      held.push(item);
      meet();
    } else if (isUnclear(tab.last(), item.id) && !isReset(item)) {
      catchUp(item);
    } else {
      tab.deliver(item);
    }
  };

  channel.onmessage = ({ data }: MessageEvent<Notice>) => {
    if (leads) {
      if (data.asks) lead();
      return;
    }
    // One that was replaced may not know it yet. Clocks may be set back: if the leader is not heard,
    // any will do.
    const isNew = data.leads && (data.since! > since || (data.since !== since && quiet > 1));
    if (isNew) since = data.since!;
    if (data.since !== since) return;
    quiet = 0;
    isLeaderLive = data.live!;
    // Without a place of its own a tab begins where the leader is; the server may have a past for it.
    if (isNew && data.at && !tab.last()) tab.deliver({ id: beforePast(data.at) });
    if (isNew && tab.last()) {
      catchUp({ id: data.at });
    } else if (isNew) {
      follow();
    } else if (!held) {
      tab.live(isLeaderLive);
    }
    if (data.item && (isNew || !data.leads)) hear(data.item);
  };

  const clock = setInterval(() => {
    if (leads) return;
    if (++quiet === 2) ask();
    if (quiet < 3) return;
    quiet = 0;
    queue.abort();
    request({ steal: true });
  }, QUIET);

  ask();
  request({ signal: queue.signal });

  return {
    receive(item) {
      if (leads) {
        if (item.id) reset = undefined;
        else if (isReset(item)) reset = item;
        tell({ item });
      } else if (isPlain(item)) return;
      tab.deliver(item);
      if (held) meet();
    },
    live(now) {
      isLive = now;
      if (leads) tell({});
      if (leads || held) tab.live(now);
    },
    leave() {
      left = true;
      held = undefined;
      clearInterval(clock);
      queue.abort();
      channel.close();
      release();
    },
  };
};
