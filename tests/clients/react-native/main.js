// Listens with react-native-sse, in Node.

import EventSource from "react-native-sse";

import { XMLHttpRequest } from "./xhr.js";

globalThis.XMLHttpRequest = XMLHttpRequest;

const TYPES = ["authentication", "chat", "reset", "token-expiring"];

const [url, token, alone] = process.argv.slice(2);

const report = (line) => console.log(JSON.stringify(line));
const show = ({ type, data, lastEventId }) => report({ event: type, data, id: lastEventId });

function listen() {
  const source = new EventSource(url, { headers: { Authorization: `Bearer ${token}` } });
  source.addEventListener("message", show);
  source.addEventListener("error", ({ xhrStatus }) => {
    if (xhrStatus === 401) {
      setTimeout(() => source.close()); // Not before it has set its timer, which it would forget.
    } else if (xhrStatus === 0) {
      setTimeout(() => source.open(), 1000 + 4000 * Math.random());
    }
  });
  return source;
}

function listenAlone() {
  const source = new EventSource(url, { headers: { Authorization: `Bearer ${token}` } });
  source.addEventListener("message", show);
  return source;
}

const source = alone ? listenAlone() : listen();
for (const type of TYPES) {
  source.addEventListener(type, show);
}
let refusal = 0;
source.addEventListener("open", () => report({ state: "open" }));
source.addEventListener("error", ({ xhrStatus }) => {
  refusal = xhrStatus;
});
// Nothing is left to wait for.
process.on("exit", () => report({ state: "closed", status: refusal || null }));
