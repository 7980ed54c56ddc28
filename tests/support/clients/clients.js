// One function for each client: connects as its own documentation says, and reports all it hears.
//
// A report is an event, {event, data, id}, or how the connection stands: {state, status}, where
// the state is "open", "reconnecting", or "closed" for good.

const TYPES = ["authentication", "message", "chat", "reset", "token-expiring"];
const CLOSED = 2;

/** Report what anything hears that is made like an EventSource. */
function observe(source, report) {
  for (const type of TYPES) {
    source.addEventListener(type, ({ data, lastEventId }) => {
      report({ event: type, data, id: lastEventId });
    });
  }
  source.onopen = () => report({ state: "open" });
  // The packages add the status to their error events, each under its own name.
  source.onerror = (error) => {
    const state = source.readyState === CLOSED ? "closed" : "reconnecting";
    report({ state, status: error.status ?? error.code });
  };
}

function withToken(url, token) {
  return `${url}?access_token=${token}`;
}

/** The browser's own. */
async function native({ url, token, report }) {
  observe(new EventSource(withToken(url, token)), report);
}

async function eventsource({ url, token, report }) {
  const { EventSource } = await import("eventsource");
  observe(new EventSource(withToken(url, token)), report);
}

async function polyfill({ url, token, report, ...options }) {
  // A script, not a module: in a page its names become global.
  const names = await import("event-source-polyfill");
  const { EventSourcePolyfill } = names.EventSourcePolyfill ? names : globalThis;
  observe(new EventSourcePolyfill(withToken(url, token), options), report);
}

/** With the token in a header field. */
async function polyfillWithHeaders({ url, token, report }) {
  await import("event-source-polyfill");
  const headers = { Authorization: `Bearer ${token}` };
  observe(new EventSourcePolyfill(url, { headers }), report);
}

/** As in a browser that can neither fetch nor time a request. */
async function polyfillOfOld(options) {
  delete globalThis.fetch;
  delete XMLHttpRequestEventTarget.prototype.ontimeout;
  await polyfill(options);
}

async function reconnectingEventSource({ url, token, report, ...options }) {
  const { default: ReconnectingEventSource } = await import("reconnecting-eventsource");
  observe(new ReconnectingEventSource(withToken(url, token), options), report);
}

class Refused extends Error {
  constructor(status) {
    super(`status ${status}`);
    this.status = status;
  }
}

async function fetchEventSource(options) {
  await fetchEventSourceWith(options, {
    async onopen({ status }) {
      if (status !== 200) {
        throw new Refused(status);
      }
      options.report({ state: "open" });
    },
    onclose() {
      // What ends in good order would be taken for finished.
      throw new Error("the stream has ended");
    },
    onerror(error) {
      if (error instanceof Refused) {
        throw error;
      }
      options.report({ state: "reconnecting" });
    },
  });
}

/** As it is if only messages are handled. */
async function fetchEventSourceAsItIs(options) {
  await fetchEventSourceWith(options, {});
}

async function fetchEventSourceWith({ url, token, report }, handlers) {
  const { fetchEventSource } = await import("@microsoft/fetch-event-source");
  const run = fetchEventSource(url, {
    headers: { Authorization: `Bearer ${token}` },
    onmessage({ event, data, id }) {
      // It makes a message of every empty line, that after a comment too.
      if (data) {
        report({ event: event || "message", data, id });
      }
    },
    ...handlers,
  });
  run.then(
    () => report({ state: "closed" }),
    ({ status }) => report({ state: "closed", status }),
  );
}

/** This project's own; what it does not hand on is said in the words of the others. */
async function sinapseClient({ url, token, transport, report, ...options }) {
  const { connect } = await import("sinapse-client");
  const client = connect(url, {
    token,
    transports: [transport],
    onReset: (reset) => report({ event: "reset", data: JSON.stringify(reset), id: "" }),
    onState(state, status) {
      if (state !== "live") {
        report({ state, status });
        return;
      }
      report({ state: "open" });
      report({ event: "authentication", data: "ok", id: client.lastEventId });
    },
    ...options,
  });
  for (const type of TYPES) {
    client.on(type, ({ event, data, id = "" }) => report({ event, data, id }));
  }
}

export const clients = {
  sinapseEventSource: (options) => sinapseClient({ transport: "eventsource", ...options }),
  sinapseWebSocket: (options) => sinapseClient({ transport: "websocket", ...options }),
  sinapseLongPoll: (options) => sinapseClient({ transport: "longpoll", ...options }),
  native,
  eventsource,
  polyfill,
  polyfillWithHeaders,
  polyfillOfOld,
  reconnectingEventSource,
  fetchEventSource,
  fetchEventSourceAsItIs,
};
