import type { Item } from "./item.js";

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
  /** Takes note of a sign of life: the first is that the server has taken the connection. `ask`, if there is one, is how to ask for the next in time. */
  alive(ask?: () => void): void;
  /** Takes note of the reconnection time that the server wants, in milliseconds. */
  retry(pause: number): void;
}

/**
 * Connects, and returns when the connection has ended: the HTTP status or WebSocket close code that
 * says why, or 0. Throws where there is no connection to be had.
 */
export type Transport = (connection: Connection) => Promise<number>;

/** There is no use of this transport: here, or with this server. */
export const UNUSABLE = 406;

/**
 * What the server says with its status; what something between has said, negative. Sinapse begins
 * the text of a refusal with the status, which no other does, and lets nothing be stored.
 */
const said = async (response: Response): Promise<number> => {
  const { status, headers } = response;
  const isOwn =
    status === 204
      ? headers.get("Cache-Control")?.includes("no-store")
      : (await response.text().catch(() => "")).startsWith(`${status} `);
  return isOwn ? status : -status;
};

/** The token is in a header field, so that it does not get into the logs of servers and proxies. */
const request = (
  { url, token, withCredentials, signal }: Connection,
  accept: string,
  last?: string,
): Promise<Response> =>
  fetch(url, {
    headers: {
      Accept: accept,
      ...(token && { Authorization: `Bearer ${token}` }),
      ...(last && { "Last-Event-ID": last }),
    },
    credentials: withCredentials ? "include" : "same-origin",
    cache: "no-store",
    signal,
  });

/**
 * An event stream (WHATWG HTML §9.2), read with `fetch`. The browser's own EventSource hides what
 * is needed here: the status of a refusal, keep-alives, ids without a message, and messages of
 * types that nobody in this tab has asked for, but somebody in another one has.
 */
export const eventSource: Transport = async (connection) => {
  const response = await request(connection, "text/event-stream", connection.last());
  if (response.status !== 200) return said(response);
  // Some web views know fetch, but no streams.
  if (!response.body?.getReader) return UNUSABLE;
  connection.alive();
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  let item: Item = {};
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return 0;
    connection.alive();
    text += decoder.decode(value, { stream: true });
    // Sinapse ends its lines with LF, and turns any other line break in data into a new line.
    const lines = text.split("\n");
    text = lines.pop()!;
    for (const line of lines) {
      const [, field, content] = /^(\w*):? ?(.*)/s.exec(line)!;
      if (line === "") {
        if (item.data !== undefined || item.id !== undefined) connection.receive(item);
        item = {};
      } else if (field === "data") {
        item.data = item.data === undefined ? content! : `${item.data}\n${content}`;
      } else if (field === "event" || field === "id") {
        item[field] = content!;
      } else if (field === "by") {
        item.isOwn = true;
      } else if (field === "retry") {
        connection.retry(Number(content) || 0);
      }
    }
  }
};

const JSON_TYPE = "application/json";

/** What came as JSON: messages have a channel, and what is the server's own has none. */
const read = (item: Item & { channel?: string }): Item => ({
  ...item,
  isOwn: item.channel === undefined,
});

/**
 * A page sees of a WebSocket that was refused only that it did not open, so the server is then
 * asked in another way: if it says 200, something between does not let WebSockets through.
 */
export const webSocket: Transport = (connection) =>
  new Promise((resolve, reject) => {
    const { url, token, signal, last, receive, alive } = connection;
    const target = new URL(url.replace(/^http/, "ws"));
    if (last()) target.searchParams.set("last_event_id", last()!);
    const protocols = ["sinapse.v1"];
    if (token) protocols.push(`sinapse.token.${token}`);
    const socket = new WebSocket(target, protocols);
    let wasOpen = false;
    socket.onopen = () => {
      wasOpen = true;
      alive();
    };
    socket.onmessage = ({ data }) => {
      receive(read(JSON.parse(data)));
      // A page sees no pings. Sinapse answers an empty message with an empty object.
      alive(() => socket.send(""));
    };
    socket.onclose = ({ code }) => {
      if (wasOpen) resolve(code);
      else
        request(connection, JSON_TYPE)
          .then((response) => (response.status === 200 ? 200 : said(response)))
          .then(resolve, reject);
    };
    signal.addEventListener("abort", () => {
      socket.onclose = null;
      socket.close();
      reject();
    });
  });

/** A request after the other: the server answers each as soon as there is something to tell. */
export const longPoll: Transport = async (connection) => {
  // Without an id the answer comes at once: that the token is good, and where to begin.
  let response = await request(connection, JSON_TYPE);
  for (;;) {
    connection.alive();
    if (response.status === 200) {
      for (const item of (await response.json()) as Item[]) connection.receive(read(item));
    } else if (response.status !== 204) {
      return said(response);
    }
    response = await request(connection, JSON_TYPE, connection.last());
  }
};
