/**
 * The browser's own EventSource, for who wants to see messages in the browser's own tools.
 *
 * @module
 */

import { why } from "./transports.js";
import type { Transport } from "./types.js";

/**
 * A transport like `eventsource`. The token is in the URL, and so in the logs of servers and
 * proxies; nobody hears keep-alives, and so that a connection is dead; nor when the server wants its
 * clients to come back.
 */
export const native: Transport = (connection) =>
  new Promise((resolve, reject) => {
    const { url, token, withCredentials, signal, last, receive, alive } = connection;
    const target = new URL(url);
    if (token) target.searchParams.set("access_token", token);
    if (last()) target.searchParams.set("lastEventId", last()!);
    const source = new EventSource(target, { withCredentials });
    let place = "";
    // Silence says nothing here.
    const watch = (): void => alive(watch);
    let isOpen = false;
    source.onopen = () => {
      isOpen = true;
      alive();
    };
    source.onmessage = ({ data, lastEventId: id }) => {
      // That of the last message that had one.
      receive({ ...JSON.parse(data), ...(id !== place && { id }) });
      place = id;
      watch();
    };
    source.onerror = () => {
      // It would come back by itself, with the old token, and give up at the first refusal.
      source.close();
      if (isOpen) resolve(0);
      else why(connection).then(resolve, reject);
    };
    signal.addEventListener("abort", () => {
      source.close();
      reject();
    });
  });
