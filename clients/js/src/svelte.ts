/**
 * Functions for Svelte, to be called while a component is initialised.
 *
 * @module
 */

import { onMount } from "svelte";
import { type Readable, readable } from "svelte/store";
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
  const client = hold<Events>();
  onMount(() => {
    client.join(url, options);
    return client.leave;
  });
  return client;
};

/** Calls `handler` with the messages of a channel that are of an event type, or with all for `*`. */
export const useChannel = <Events extends object, Event extends EventOf<Events> | "*">(
  client: AnyClient<Events>,
  channel: string,
  event: Event,
  handler: (message: MessageOf<Events, Event>) => void,
): void => onMount(() => client.channel(channel).on(event, handler));

/** Returns a store of the state of the connection: `connecting` on a server, and at first. */
export const useConnectionState = (
  client: Pick<AnyClient<any>, "state" | "onState">,
): Readable<State> =>
  readable<State>("connecting", (set) => {
    set(client.state);
    return client.onState((state) => set(state));
  });
