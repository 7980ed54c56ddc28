// A page with a chat, as an application has one: what it begins with is in the page.

import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { useChat } from "@ai-sdk/react";
import { SinapseChatTransport } from "sinapse-client/ai";

const { id, messages, connect } = JSON.parse(document.getElementById("begin").textContent);
const transport = new SinapseChatTransport({ connect });

const shown = ({ parts }) => parts.map(({ text }) => text ?? "").join("");

function Chat() {
  const chat = useChat({ id, messages, transport, resume: true });
  const send = (event) => {
    event.preventDefault();
    chat.sendMessage({ text: event.target.elements.question.value });
    event.target.reset();
  };
  return (
    <>
      <ol>
        {chat.messages.map((message) => (
          <li key={message.id} id={message.id} className={message.role}>
            {shown(message)}
          </li>
        ))}
      </ol>
      <output>{chat.error ? chat.error.message : chat.status}</output>
      <form onSubmit={send}>
        <input name="question" autoComplete="off" />
      </form>
      <button className="stop" onClick={() => transport.stop(id)}>
        Stop
      </button>
    </>
  );
}

function Page() {
  const [isOpen, setOpen] = useState(true);
  return (
    <>
      <button className="toggle" onClick={() => setOpen(!isOpen)}>
        Chat
      </button>
      {isOpen && <Chat />}
    </>
  );
}

createRoot(document.getElementById("page")).render(
  <StrictMode>
    <Page />
  </StrictMode>,
);
