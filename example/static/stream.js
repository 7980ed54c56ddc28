// One event stream, kept open, and how it stands.
//
// The browser's EventSource comes back by itself when a connection is lost, but gives up for ever
// when the answer is not an event stream: the token has expired, or its user may listen to
// nothing any more. Whoever opened the stream is then asked, after a pause, to open it again or
// to leave it closed.

// Milliseconds. Doubled at each attempt, and spread so that not everybody comes back at once.
const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 30_000;

export class Stream {
  #url;
  #events;
  #changed;
  #gaveUp;
  #source = null;
  #token = null;
  #attempts = 0;
  #timer = null;

  // events: what to call with the data of a message, by event type.
  // changed: called with "connecting", "live", "reconnecting" or "closed".
  // gaveUp: called when the browser will not try again by itself; is to call open() or close().
  constructor(url, { events, changed, gaveUp }) {
    this.#url = url;
    this.#events = events;
    this.#changed = changed;
    this.#gaveUp = gaveUp;
  }

  // Does nothing if the stream is open already, or the browser is at it.
  open(token) {
    const usable = this.#source !== null && this.#source.readyState !== EventSource.CLOSED;
    if (usable && token === this.#token) return;
    this.#end();
    this.#token = token;
    // EventSource sends no headers of ours: the token can only be in the URL.
    const url = new URL(this.#url);
    url.searchParams.set("access_token", token);
    const source = (this.#source = new EventSource(url));
    this.#changed(this.#attempts === 0 ? "connecting" : "reconnecting");
    // The first message says that the stream is live. "open" does not: a daemon that cannot serve
    // for the moment answers with a stream as well, and ends it, so that the browser comes back.
    source.addEventListener("authentication", () => {
      this.#attempts = 0;
      this.#changed("live");
    });
    source.addEventListener("error", () => {
      this.#changed("reconnecting");
      if (source.readyState === EventSource.CLOSED) this.retry();
    });
    for (const [type, received] of Object.entries(this.#events)) {
      source.addEventListener(type, (message) => received(JSON.parse(message.data)));
    }
  }

  // Asks to be opened again after a pause.
  retry() {
    const pause = Math.min(FIRST_PAUSE * 2 ** this.#attempts, LONGEST_PAUSE);
    this.#attempts += 1;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#gaveUp, pause * (0.5 + Math.random() / 2));
  }

  close() {
    this.#end();
    this.#attempts = 0;
    this.#changed("closed");
  }

  #end() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }
}
