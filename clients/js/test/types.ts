// What pages in TypeScript write; it is not run.

import { useChat } from "@ai-sdk/react";
import type { ChatTransport, UIMessage } from "ai";
import { SinapseChatTransport, type SinapseChatTransportOptions } from "sinapse-client/ai";

type Message = UIMessage<{ tokens: number }, { status: string }>;

const options: SinapseChatTransportOptions<Message> = {
  connect: { url: "https://push.example/", getToken: async () => "token", share: "ada" },
  headers: () => ({ "X-Token": "1" }),
  prepareSendMessagesRequest: ({ id, messages }) => ({ body: { id, message: messages.at(-1) } }),
};
const transport: ChatTransport<Message> = new SinapseChatTransport(options);
export const chat = useChat<Message>({ transport, resume: true });
export const plain = useChat({ transport: new SinapseChatTransport({ connect: { url: "/" } }) });
// @ts-expect-error What is resumed begins at its start.
new SinapseChatTransport({ connect: { url: "/", lastEventId: "a-1" } });
// @ts-expect-error Nobody knows where Sinapse is.
new SinapseChatTransport({ api: "/api/chat" });
