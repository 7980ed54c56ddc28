/**
 * Hooks for React.
 *
 * @module
 */

import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from "react";
import { type AnyClient, type ComponentClient, hold } from "./component.js";
import type { EventOf, MessageOf, Options, State } from "./index.js";

export type { AnyClient, ComponentChannel, ComponentClient } from "./component.js";

/**
 * Returns a client that is connected while the component is in the page. Components with the same
 * URL and the same `share` or `token` have one connection. Without a URL there is none.
 */
export const useSinapse = <Events extends object = Record<string, any>>(
  url: string | null | undefined,
  options: Options = {},
): ComponentClient<Events> => {
  const [client] = useState(() => hold<Events>());
  useEffect(() => client.join(url, options));
  useEffect(() => client.leave, [client]);
  return client;
};

/** Calls `handler` with the messages of a channel that are of an event type, or with all for `*`. */
export const useChannel = <Events extends object, Event extends EventOf<Events> | "*">(
  client: AnyClient<Events>,
  channel: string | null | undefined,
  event: Event,
  handler: (message: MessageOf<Events, Event>) => void,
): void => {
  const latest = useRef(handler);
  useEffect(() => {
    latest.current = handler;
  });
  useEffect(() => {
    if (channel) return client.channel(channel).on(event, (message) => latest.current(message));
    return undefined;
  }, [client, channel, event]);
};

/** Returns the state of the connection: `connecting` on a server, and in the first rendering. */
export const useConnectionState = (client: Pick<AnyClient<any>, "state" | "onState">): State =>
  useSyncExternalStore(
    useCallback((changed) => client.onState(changed), [client]),
    () => client.state,
    () => "connecting",
  );
