// What pages in TypeScript write; it is not run.

import { useChat } from "@ai-sdk/react";
import type { ChatTransport, UIMessage } from "ai";
import { type Message, type Transport, connect } from "sinapse-client";
import { SinapseChatTransport, type SinapseChatTransportOptions } from "sinapse-client/ai";
import { native } from "sinapse-client/native";
import * as react from "sinapse-client/react";
import * as svelte from "sinapse-client/svelte";
import * as vue from "sinapse-client/vue";
import { computed, ref } from "vue";

interface Note {
  text: string;
}

interface Events {
  message: Note;
  "order-shipped": { order: number };
}

const client = connect<Events>("/", { transports: [native, "longpoll"], debug: true });
const stop: () => void = client.on("message", (message) => message.json().text.trim());
client.channel("room:1").once("order-shipped", (message) => [message.channel, message.json().order + 1]);
client.on("*", (message) => {
  if (message.event === "order-shipped") message.json().order.toFixed();
  else message.json().text.trim();
});
// @ts-expect-error There is no such event type.
client.on("mesage", stop);
// @ts-expect-error A note has no number.
client.on("message", (message) => message.json().order);
// @ts-expect-error There is no such transport.
connect("/", { transports: ["carrierpigeon"] });
client.onState((state, code) => state === "closed" && code === 401);
client.onReset(({ reason, channels }) => [reason === "data-lost", ...channels]);
export async function read(): Promise<void> {
  for await (const { event, id } of client.channel("room:1")) [event satisfies keyof Events, id];
}

// Who says nothing of the types may have any.
const plain = connect("/");
plain.on("whatever", (message: Message) => [message.data.trim(), message.json().any]);

export const transport: Transport = async ({ url, token, signal, last, receive, alive, retry }) => {
  alive();
  retry(1_000);
  receive({ event: "authentication", data: "ok" });
  return signal.aborted || last() ? 0 : url.length + token.length;
};

export function useFrameworks(): void {
  const inReact = react.useSinapse<Events>(null, { share: "ada" });
  react.useChannel(inReact, "room:1", "message", (message) => message.json().text.trim());
  react.useConnectionState(inReact) satisfies
  "connecting" | "live" | "degraded" | "reconnecting" | "closed";
  react.useChannel(client, null, "*", ({ event }) => event satisfies keyof Events);
  // @ts-expect-error There is no such event type.
  react.useChannel(inReact, "room:1", "mesage", stop);
  const inVue = vue.useSinapse<Events>(() => "/", computed(() => ({ token: "token" })));
  vue.useChannel(inVue, ref("room:1"), "message", (message) => message.json().text.trim());
  vue.useConnectionState(inVue).value satisfies string;
  const inSvelte = svelte.useSinapse<Events>("/");
  svelte.useChannel(inSvelte, "room:1", "message", (message) => message.json().text.trim());
  svelte.useConnectionState(inSvelte).subscribe((state) => state satisfies string)();
}

type Talk = UIMessage<{ tokens: number }, { status: string }>;

const options: SinapseChatTransportOptions<Talk> = {
  connect: { url: "https://push.example/", getToken: async () => "token", share: "ada" },
  headers: () => ({ "X-Token": "1" }),
  prepareSendMessagesRequest: ({ id, messages }) => ({ body: { id, message: messages.at(-1) } }),
};
const talking: ChatTransport<Talk> = new SinapseChatTransport(options);
export const chat = useChat<Talk>({ transport: talking, resume: true });
export const other = useChat({ transport: new SinapseChatTransport({ connect: { url: "/" } }) });
// @ts-expect-error What is resumed begins at its start.
new SinapseChatTransport({ connect: { url: "/", lastEventId: "a-1" } });
// @ts-expect-error Nobody knows where Sinapse is.
new SinapseChatTransport({ api: "/api/chat" });
