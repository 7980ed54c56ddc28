/**
 * Clients of components, which come and go.
 *
 * A component has a client from the beginning, also where it is only rendered on a server, and puts
 * its handlers on it. When the component is in the page, the client joins the connection of its
 * user, which all components share; the first one opens it. When the last one has gone, it is closed
 * a moment later.
 */

import { call } from "./handlers.js";
import { type Channel, type Client, type Options, type State, connect } from "./index.js";

/**
 * Milliseconds. React's strict mode, and a module that is loaded anew, take a component away and
 * bring it back at once; an application that goes to another page, a little later.
 */
const LINGER = 1_000;

/** The connection of a user. */
interface Line {
  client: Client<any>;
  /** The options of the components that are there. */
  members: Set<() => Options>;
  /** Closes it, when nobody is there. */
  closing?: ReturnType<typeof setTimeout>;
}

const lines = new Map<string, Line>();

/**
 * Who has the same has the same client. A component whose state is from somewhere else has one of its
 * own, which gets what came since; with `share`, they have one connection all the same.
 */
const keyOf = (url: string, { token, getToken, share, lastEventId }: Options): string =>
  JSON.stringify([url, share || [share, token, !!getToken], lastEventId]);

const enter = (key: string, url: string, member: () => Options): Line => {
  let line = lines.get(key);
  if (line?.client.state === "closed") line = undefined;
  if (!line) {
    const { onReset, onState, ...options } = member();
    const members = new Set<() => Options>();
    // Of who came last, if it is still there; a component has a new function each time it renders,
    // and may have a new token.
    let asked = member;
    const getToken = () => {
      asked = [...members].at(-1) ?? asked;
      const { getToken: ask, token } = asked();
      return ask ? ask() : token;
    };
    const renews = options.getToken || options.share;
    line = { members, client: connect(url, { ...options, ...(renews && { getToken }) }) };
    lines.set(key, line);
  }
  clearTimeout(line.closing);
  line.members.add(member);
  return line;
};

const depart = (key: string, line: Line, member: () => Options): void => {
  line.members.delete(member);
  if (line.members.size) return;
  line.closing = setTimeout(() => {
    line.client.close();
    if (lines.get(key) === line) lines.delete(key);
  }, LINGER);
};

/** What a component listens to. Loops over messages would not end with it. */
export type ComponentChannel<Events extends object> = Pick<Channel<Events>, "on" | "once">;

/** The client of a component. */
export interface ComponentClient<Events extends object>
  extends ComponentChannel<Events>,
    Omit<Client<Events>, keyof Channel | "channel" | "close"> {
  channel(name: string): ComponentChannel<Events>;
}

/** A client of whichever kind. */
export type AnyClient<Events extends object> = Client<Events> | ComponentClient<Events>;

/** What a framework tells about the component. */
interface Life {
  /** It is in the page, and wants this; without a URL, no connection. */
  join(url: string | null | undefined, options: Options): void;
  /** It has gone. */
  leave(): void;
}

/** Puts a handler on a client; returns what takes it away. */
type Put = (client: Client<any>) => () => void;

/** A handler of the component, and what takes it from the client, if it is on one. */
interface Kept {
  put: Put;
  take: (() => void) | undefined;
}

export const hold = <Events extends object>(): ComponentClient<Events> & Life => {
  let key: string | undefined;
  let line: Line | undefined;
  let wanted: Options = {};
  const handlers = new Set<Kept>();
  const member = (): Options => wanted;

  const keep = (put: Put): (() => void) => {
    const kept: Kept = { put, take: line && put(line.client) };
    handlers.add(kept);
    return () => {
      kept.take?.();
      handlers.delete(kept);
    };
  };

  const listen = (find: (client: Client<any>) => Channel<any>): ComponentChannel<Events> => {
    const on = (event: string, handler: (message: any) => void) =>
      keep((client) => find(client).on(event, handler));
    return {
      on,
      once(event, handler) {
        const stop = on(event, (message) => {
          stop();
          handler(message);
        });
        return stop;
      },
    };
  };

  const states = new Set<(state: State) => void>();
  const onReset: Client["onReset"] = (handler) => keep((client) => client.onReset(handler));
  const onState: Client["onState"] = (handler) => {
    const take = keep((client) => client.onState(handler));
    states.add(handler);
    return () => {
      states.delete(handler);
      take();
    };
  };
  onReset((reset) => wanted.onReset?.(reset));
  onState((state, code) => wanted.onState?.(state, code));

  const state = (): State => line?.client.state ?? "connecting";

  const part = (): void => {
    if (!line) return;
    for (const each of handlers) {
      each.take?.();
      each.take = undefined;
    }
    depart(key!, line, member);
    key = line = undefined;
  };

  return {
    ...listen((client) => client),
    channel: (name) => listen((client) => client.channel(name)),
    onReset,
    onState,
    get state() {
      return state();
    },
    get lastEventId() {
      return line?.client.lastEventId;
    },
    get stream() {
      return line?.client.stream;
    },
    join(url, options) {
      wanted = options;
      const next = url ? keyOf(url, options) : undefined;
      if (next === key) return;
      const former = state();
      part();
      if (url) {
        key = next!;
        line = enter(key, url, member);
        for (const each of handlers) each.take = each.put(line.client);
      }
      // The connection may have been there before.
      if (state() !== former) for (const handler of [...states]) call(handler, state());
    },
    leave: part,
  };
};
