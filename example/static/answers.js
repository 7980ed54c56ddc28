// The page keeps nothing: all answers come from the stream, from their start, whenever it is loaded.
// Text only ever becomes textContent.

import { connect } from "../sinapse.js";

const PAUSE = 3_000; // ms, until the application is asked again

const NOTES = {
  stopped: "You have stopped this answer.",
  lost: "The process that was answering is gone. Ask again.",
};

const element = (id) => document.getElementById(id);
const shown = new Map(); // id of a run -> its article

async function connection() {
  const answer = await fetch("connection");
  if (!answer.ok) throw new Error(`the application says ${answer.status}`);
  return answer.json();
}

async function listen() {
  let begin;
  try {
    begin = await connection();
  } catch {
    setTimeout(listen, PAUSE);
    return;
  }
  const stream = connect(begin.url, {
    token: begin.token,
    getToken: async () => (await connection()).token,
    share: "answers", // The tabs of this browser are of one visitor: one connection is enough.
    onState: standing,
    onReset: () => {
      // Something is missing: a stream that is new has all that there is.
      stream.close();
      shown.clear();
      element("answers").replaceChildren();
      setTimeout(listen, PAUSE);
    },
  });
  stream.on("piece", ({ data }) => {
    const { run, pieces } = JSON.parse(data);
    pieces.forEach((piece) => add(run, piece));
  });
  for (const ending of ["end", "error", "stopped", "lost"]) {
    stream.on(ending, ({ data }) => {
      const { run, error } = JSON.parse(data);
      const article = articleOf(run);
      article.dataset.state = ending;
      article.querySelector(".note").textContent = error ?? NOTES[ending] ?? "";
      article.querySelector("button").remove();
    });
  }
}

function standing(state) {
  element("connection").dataset.state = element("connection").textContent = state;
}

// The first piece of a run is the question.
function add(run, piece) {
  const isAtEnd = innerHeight + scrollY >= document.body.scrollHeight - 50;
  const article = articleOf(run);
  if (typeof piece === "string") article.querySelector(".text").append(piece);
  else article.querySelector("h2").textContent = piece.question;
  if (isAtEnd) scrollTo(0, document.body.scrollHeight);
}

function articleOf(run) {
  if (!shown.has(run)) {
    const article = element("answer").content.firstElementChild.cloneNode(true);
    article.querySelector("button").onclick = () => post(`runs/${run}/stop`);
    element("answers").append(article);
    shown.set(run, article);
  }
  return shown.get(run);
}

async function post(path, body = {}) {
  const headers = { "Content-Type": "application/json" };
  const request = { method: "POST", headers, body: JSON.stringify(body) };
  const answer = await fetch(path, request).catch(() => null);
  element("alert").textContent = answer?.ok ? "" : "That went wrong. Try again.";
  return answer?.ok;
}

element("ask").onsubmit = async (submitted) => {
  submitted.preventDefault();
  const form = submitted.target;
  if (await post("questions", { question: form.question.value })) form.reset();
};

listen();
