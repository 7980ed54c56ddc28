/** A message, as it was published. */
export interface Message<Event extends string = string, Json = any> {
  /** The event type; `message` where the publisher named none. */
  readonly event: Event;
  /** The text that was published; often JSON. */
  readonly data: string;
  /** The channel that it was published to. */
  readonly channel: string;
  /** The id, if the message is retained. */
  readonly id?: string;
  /** Returns what the text says as JSON, made anew each time; throws a SyntaxError if it is none. */
  json(): Json;
}

/** The event types that a page knows. */
export type EventOf<Events> = keyof Events & string;

type Each<Events, Event> = Event extends EventOf<Events> ? Message<Event, Events[Event]> : never;

/** A message of one of these event types; `*` stands for all. */
export type MessageOf<Events, Event = "*"> = Event extends "*"
  ? Each<Events, EventOf<Events>>
  : Each<Events, Event>;

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

/**
 * How the connection stands, be it of this tab or of the one that shares its own. `degraded` is
 * live, but a part of the server is away: what some channels have comes when it is back.
 */
export type State = "connecting" | "live" | "degraded" | "reconnecting" | "closed";

/** With `closed` comes the reason: an HTTP status, a WebSocket close code, or 0 after `close()`. */
export type StateHandler = (state: State, code?: number) => void;

export type TransportName = "eventsource" | "websocket" | "longpoll";

/**
 * What a server sends, in any transport: a message; or something of the server's own, which has no
 * channel. With nothing but an id, it is a word on where to resume from.
 */
export interface Item {
  event?: string;
  data?: string;
  channel?: string;
  id?: string | undefined;
}

/** What a transport works with: where it connects, as whom, from where on, and whom it tells. */
export interface Connection {
  url: string;
  token: string;
  /** Whether cookies go to another origin, too. */
  withCredentials: boolean;
  /** Ends the connection. */
  signal: AbortSignal;
  /** The id to resume from. */
  last(): string | undefined;
  receive(item: Item): void;
  /**
   * Takes note of a sign of life: the first is that the server has taken the connection. `ask`, if
   * there is one, is how to ask for the next in time.
   */
  alive(ask?: () => void): void;
  /** Takes note of the reconnection time that the server wants, in milliseconds. */
  retry(pause: number): void;
}

/**
 * Connects, and returns when the connection has ended: the HTTP status or WebSocket close code that
 * says why, or 0. Throws where there is no connection to be had.
 */
export type Transport = (connection: Connection) => Promise<number>;

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
  transports?: readonly (TransportName | Transport)[];
  /**
   * The id to begin after, if the page knows one: the `position` that was taken before its state
   * was read. Without it, the client begins with what comes next.
   */
  lastEventId?: string | null | undefined;
  /** Send cookies to another origin, too: for servers that read the token from one. */
  withCredentials?: boolean;
  /** Whether the console is told what happens to the connection, and why. */
  debug?: boolean;
  onReset?(reset: Reset): void;
  /** Is told how the connection stands when that changes. */
  onState?(state: State, code?: number): void;
}

/** The messages of a channel, or all of them. */
export interface Channel<Events extends object = Record<string, any>> {
  /**
   * Calls `handler` with messages of an event type, or with all for `*`; returns what ends that.
   */
  on<Event extends EventOf<Events> | "*">(
    event: Event,
    handler: (message: MessageOf<Events, Event>) => void,
  ): () => void;
  /** The same for the next such message alone. */
  once<Event extends EventOf<Events> | "*">(
    event: Event,
    handler: (message: MessageOf<Events, Event>) => void,
  ): () => void;
  /** Messages from now on, until the loop is left or the client is closed. */
  [Symbol.asyncIterator](): AsyncIterableIterator<MessageOf<Events>>;
}

/** A connection. `Events` says what the data of each event type are, as JSON. */
export interface Client<Events extends object = Record<string, any>> extends Channel<Events> {
  readonly state: State;
  /** The id of the last message received. */
  readonly lastEventId: string | undefined;
  /**
   * The name of this tab's stream: what is published with `but` that name does not come here. For
   * what the page sends itself. Undefined where tabs share a connection, since it would come to none
   * of them: `share: false` has a name.
   */
  readonly stream: string | undefined;
  /** The messages of one channel. */
  channel(name: string): Channel<Events>;
  /** Calls `handler` when messages are missing; returns what ends that. */
  onReset(handler: (reset: Reset) => void): () => void;
  /** Calls `handler` when the state changes; returns what ends that. */
  onState(handler: StateHandler): () => void;
  /** Closes the connection for good. */
  close(): void;
}
