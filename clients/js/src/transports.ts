import type { Connection, Item, Transport, TransportName } from "./types.js";

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

const JSON_TYPE = "application/json";

/** Asks in another way why a connection was refused: -200 if only something between has. */
export const why = async (connection: Connection): Promise<number> =>
  said(await request(connection, JSON_TYPE));

/**
 * An event stream (WHATWG HTML §9.2) of objects, read with `fetch`. The browser's own EventSource
 * hides what is needed here: the status of a refusal, and keep-alives.
 */
const eventSource: Transport = async (connection) => {
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
    const lines = text.split("\n");
    text = lines.pop()!;
    for (const line of lines) {
      const [field, content] = line.split(/: ?(.*)/s);
      if (!line) {
        connection.receive(item);
        item = {};
      } else if (field === "data") Object.assign(item, JSON.parse(content!));
      else if (field === "id") item.id = content!;
      else if (field === "retry") connection.retry(+content!);
    }
  }
};

const webSocket: Transport = (connection) =>
  new Promise((resolve, reject) => {
    const { url, token, signal, last, receive, alive } = connection;
    const target = new URL(url.replace(/^http/, "ws"));
    if (last()) target.searchParams.set("last_event_id", last()!);
    const protocols = ["sinapse.v1"];
    if (token) protocols.push(`sinapse.token.${token}`);
    const socket = new WebSocket(target, protocols);
    socket.onopen = () => {
      socket.onclose = ({ code }) => resolve(code);
      alive();
    };
    socket.onmessage = ({ data }) => {
      receive(JSON.parse(data));
      // A page sees no pings. Sinapse answers an empty message with an empty object.
      alive(() => socket.send(""));
    };
    // A page sees of one that was refused only that it did not open.
    socket.onclose = () => why(connection).then(resolve, reject);
    signal.addEventListener("abort", () => {
      socket.onclose = null;
      socket.close();
      reject();
    });
  });

/** A request after the other: the server answers each as soon as there is something to tell. */
const longPoll: Transport = async (connection) => {
  // Without an id the answer comes at once: that the token is good, and where to begin.
  let response = await request(connection, JSON_TYPE);
  for (;;) {
    connection.alive();
    if (response.status === 200) {
      for (const item of (await response.json()) as Item[]) connection.receive(item);
    } else if (response.status !== 204) {
      return said(response);
    }
    response = await request(connection, JSON_TYPE, connection.last());
  }
};

export const TRANSPORTS: Record<TransportName, Transport> = {
  eventsource: eventSource,
  websocket: webSocket,
  longpoll: longPoll,
};
