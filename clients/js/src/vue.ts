/**
 * Composables for Vue.
 *
 * @module
 */

import {
  type MaybeRefOrGetter,
  type Ref,
  onBeforeUnmount,
  onMounted,
  readonly,
  shallowRef,
  toValue,
  watch,
  watchEffect,
} from "vue";
import { type AnyClient, type ComponentClient, hold } from "./component.js";
import type { EventOf, MessageOf, Options, State } from "./index.js";

export type { AnyClient, ComponentChannel, ComponentClient } from "./component.js";

/**
 * Returns a client that is connected while the component is in the page. Components with the same
 * URL and the same `share` or `token` have one connection. Without a URL there is none.
 */
export const useSinapse = <Events extends object = Record<string, any>>(
  url: MaybeRefOrGetter<string | null | undefined>,
  options: MaybeRefOrGetter<Options> = {},
): ComponentClient<Events> => {
  const client = hold<Events>();
  onMounted(() => watchEffect(() => client.join(toValue(url), toValue(options))));
  onBeforeUnmount(client.leave);
  return client;
};

/** Calls `handler` with the messages of a channel that are of an event type, or with all for `*`. */
export const useChannel = <Events extends object, Event extends EventOf<Events> | "*">(
  client: AnyClient<Events>,
  channel: MaybeRefOrGetter<string | null | undefined>,
  event: Event,
  handler: (message: MessageOf<Events, Event>) => void,
): void => {
  onMounted(() =>
    watch(
      () => toValue(channel),
      (name, _, onCleanup) => {
        if (name) onCleanup(client.channel(name).on(event, handler));
      },
      { immediate: true, flush: "sync" },
    ),
  );
};

/** Returns the state of the connection: `connecting` on a server, and in the first rendering. */
export const useConnectionState = (
  client: Pick<AnyClient<any>, "state" | "onState">,
): Readonly<Ref<State>> => {
  const state = shallowRef<State>("connecting");
  let stop = (): void => {};
  onMounted(() => {
    state.value = client.state;
    stop = client.onState((next) => (state.value = next));
  });
  onBeforeUnmount(() => stop());
  return readonly(state);
};
