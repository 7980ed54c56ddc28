// The page: shows the state that the application told, and the messages that the daemon pushes.
// Text of users only ever becomes textContent.

import { connect } from "../sinapse.js";

const MOST_MESSAGES = 500; // shown in a room
const SAME_BREATH = 3 * 60 * 1000; // ms; messages of one author in this time stand together
const PATIENCE = 15_000; // ms, for an answer of the application
const PAUSE = 3_000; // ms, until it is asked again

const element = (id) => document.getElementById(id);

let state; // {name, token, at, rooms: [{id, title, joined}]}; null: signed out; not known at first
let loaded; // when that was for the first time
let current = null; // id of the room that is shown
const unread = new Map(); // room id -> number of messages

// The application

class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.signedOut = status === 401;
    this.passing = status === 0 || status >= 500;
  }
}

// One call after the other: messages keep their order, and an old state never follows a new one.
let latest = Promise.resolve();
function call(method, path, body) {
  latest = latest.catch(() => {}).then(() => send(method, path, body));
  return latest;
}

async function send(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: body && { "Content-Type": "application/json" },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(PATIENCE),
    });
  } catch {
    throw new Refused(0, "The chat does not answer.");
  }
  const answer = response.status === 204 ? null : await response.json().catch(() => null);
  if (!response.ok) throw new Refused(response.status, answer?.error ?? "That went wrong.");
  return answer;
}

// Calls the application for a click or a key; says so if it refuses. True if all went well.
async function ask(method, path, body, failure = "") {
  try {
    const answer = await call(method, path, body);
    say("");
    if (answer) show(answer);
    return true;
  } catch (error) {
    if (error.signedOut) show(null);
    say([failure, error.message, error.passing && "Try again."].filter(Boolean).join(" "));
    return false;
  }
}

// Asks for the state; goes on asking if there is no answer.
async function refresh() {
  const atFirst = state === undefined;
  try {
    show(await call("GET", "/state"));
    if (atFirst) say("");
  } catch (error) {
    if (atFirst) say(`${error.message} The page goes on trying by itself.`);
    refreshLater();
  }
}

let later;
function refreshLater() {
  clearTimeout(later);
  later = setTimeout(refresh, PAUSE * (0.5 + Math.random()));
}

// The stream: one for all windows of a user, and none where there is nothing to listen to

let stream = null;
let listener = null; // whose stream it is

function listen() {
  const name = state?.rooms.some((room) => room.joined) ? state.name : null;
  if (name !== null && name === listener && stream.state !== "closed") return;
  stream?.close();
  stream = null;
  listener = name;
  standing(name === null ? "closed" : "connecting");
  if (name === null) return;
  stream = connect(document.body.dataset.sinapseUrl, {
    token: state.token,
    // It was revoked or has expired: the application knows if there is another one.
    getToken: async () => {
      show(await call("GET", "/state"));
      return listener && state.token;
    },
    share: name,
    onReset: missed,
    onState: (connection, code) => {
      standing(connection);
      // Closed by the daemon, where the application sees no reason: it is asked again in a while.
      if (code) refreshLater();
    },
  });
  const hear = (event, heard) => stream.on(event, ({ data }) => heard(JSON.parse(data)));
  hear("chat", receive);
  hear("joined", (notice) => noticed(notice, "joined"));
  hear("left", (notice) => noticed(notice, "left"));
}

function standing(connection) {
  if (connection === "closed" && listener === null) connection = state ? "no room" : "signed out";
  element("connection").dataset.state = connection;
  element("connection").textContent = connection;
}

// Whether it was published before the page was loaded, by the clock of the application.
const isPast = ({ at }) => at < loaded;

function receive(message) {
  const { room, author } = message;
  if (!isPast(message) && author !== state?.name && (room !== current || document.hidden)) {
    unread.set(room, (unread.get(room) ?? 0) + 1);
    showRooms();
  }
  append(room, messageItem(message));
}

// Away for longer than messages are retained. A chat that kept them in a database would load them now.
function missed({ channels }) {
  for (const { id } of state?.rooms ?? []) {
    const text = "Some messages are missing here.";
    if (channels.includes(`room:${id}`)) append(id, noticeItem(text, new Date().toISOString(), ""));
  }
}

function noticed({ room, author, at }, what) {
  // One's own was done in this window, or in another one: then this one does not know yet.
  if (author === state?.name) isPast({ at }) || refresh();
  else append(room, noticeItem(`${author} ${what}`, at, author));
}

// Showing

function show(next) {
  const hasLeft = next === null && state !== null;
  state = next;
  loaded ??= state?.at;
  const joined = state?.rooms.filter((room) => room.joined) ?? [];
  if (!joined.some((room) => room.id === current)) current = joined[0]?.id ?? null;

  element("welcome").hidden = state !== null;
  element("chat").hidden = element("me").hidden = state === null;
  element("room").hidden = current === null;
  element("nowhere").hidden = current !== null;
  element("my-name").textContent = state?.name ?? "";
  if (hasLeft) {
    element("logs").replaceChildren();
    unread.clear();
    element("name").focus();
  }
  showRooms();
  showLog();

  listen();
}

function say(text) {
  element("alert").textContent = text;
  element("alert").hidden = text === "";
}

function showRooms() {
  if (!state) element("rooms").replaceChildren();
  for (const room of state?.rooms ?? []) showRoom(room);
  const waiting = [...unread.values()].reduce((sum, count) => sum + count, 0);
  document.title = waiting ? `(${waiting}) Sinapse chat` : "Sinapse chat";
}

function showRoom({ id, title, joined }) {
  // A button stays the same one: it may have the focus, or be pressed just now.
  const button = element(`go-${id}`) ?? addRoom(id);
  const count = unread.get(id);
  button.classList.toggle("joined", joined);
  button.ariaCurrent = id === current ? "true" : null;
  button.replaceChildren(make("span", { className: "title", textContent: title }));
  if (!joined) {
    button.append(make("span", { className: "action", textContent: "Join" }));
  } else if (count) {
    button.append(
      make("span", { className: "count", textContent: count }),
      make("span", { className: "unseen", textContent: "unread" }),
    );
  }
}

function addRoom(id) {
  const button = make("button", { id: `go-${id}`, type: "button" });
  button.addEventListener("click", () => enter(id));
  const item = make("li");
  item.append(button);
  element("rooms").append(item);
  return button;
}

async function enter(id) {
  const { joined } = state.rooms.find((room) => room.id === id);
  if (joined || (await ask("PUT", `/rooms/${encodeURIComponent(id)}/subscription`))) go(id);
}

function go(id) {
  current = id;
  show(state);
  if (matchMedia("(hover: hover)").matches) element("text").focus();
}

function showLog() {
  if (current === null) return;
  element("title").textContent = state.rooms.find((room) => room.id === current).title;
  const log = logOf(current);
  if (log.hidden) {
    for (const other of element("logs").children) other.hidden = other !== log;
    toEnd();
    element(`go-${current}`).scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  seen();
}

// The end of the log is where its scroll positions begin: see chat.css.
function toEnd() {
  element("logs").scrollTop = 0;
}

function seen() {
  if (!document.hidden && unread.delete(current)) showRooms();
}

function logOf(id) {
  const logs = element("logs");
  const found = [...logs.children].find((log) => log.dataset.room === id);
  if (found) return found;
  const log = make("ol", { hidden: true });
  log.dataset.room = id;
  logs.append(log);
  return log;
}

// Who was out of a room and comes back is given its last messages again.
function append(id, item) {
  const log = logOf(id);
  const { at, author } = item.dataset;
  const isSame = ({ dataset }) => dataset.at === at && dataset.author === author;
  if ([...log.children].some(isSame)) return;
  const last = log.lastElementChild;
  const together =
    last !== null &&
    [last, item].every(({ classList }) => classList.contains("message")) &&
    last.dataset.author === author &&
    Date.parse(at) - Date.parse(last.dataset.at) < SAME_BREATH;
  item.classList.toggle("continued", together);
  log.append(item);
  while (log.children.length > MOST_MESSAGES) log.firstElementChild.remove();
  if (item.classList.contains("mine")) toEnd();
}

function messageItem({ author, text, at }) {
  const item = make("li", { className: "message" });
  item.dataset.author = author;
  item.dataset.at = at;
  item.classList.toggle("mine", author === state?.name);
  const avatar = make("span", { className: "avatar", textContent: initials(author) });
  avatar.ariaHidden = "true";
  avatar.style.setProperty("--hue", hue(author));
  const by = make("p", { className: "by" });
  by.append(make("strong", { textContent: author }), " ", timeOf(at));
  item.append(avatar, by, make("p", { className: "text", textContent: text }));
  return item;
}

function noticeItem(text, at, author) {
  const item = make("li", { className: "notice" });
  Object.assign(item.dataset, { at, author });
  item.append(`${text} · `, timeOf(at));
  return item;
}

function timeOf(at) {
  const date = new Date(at);
  const textContent = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return make("time", { dateTime: at, title: date.toLocaleString(), textContent });
}

function initials(name) {
  const words = name.split(/\s+/);
  return words.slice(0, 2).map((word) => [...word][0].toUpperCase()).join("");
}

function hue(name) {
  let sum = 0;
  for (const character of name) sum = (sum * 31 + character.codePointAt(0)) % 360;
  return sum; // degrees
}

function make(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}

// What the user does

function onSubmit(id, action) {
  element(id).addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = event.target;
    if (await action(new FormData(form))) form.reset();
  });
}

onSubmit("sign-in", async (form) => {
  const done = await ask("POST", "/session", { name: form.get("name") });
  if (done) go(current);
  return done;
});

onSubmit("new-room", async (form) => {
  const before = new Set(state.rooms.map((room) => room.id));
  const done = await ask("POST", "/rooms", { title: form.get("title") });
  if (done) go(state.rooms.find((room) => !before.has(room.id))?.id ?? current);
  return done;
});

element("composer").addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = element("text");
  const text = field.value;
  if (text.trim() === "") return;
  // Empty at once, for the next message; back again if this one was not sent.
  field.value = "";
  const path = `/rooms/${encodeURIComponent(current)}/messages`;
  if (!(await ask("POST", path, { text }, "Message not sent."))) field.value = text + field.value;
});

element("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  element("composer").requestSubmit();
});

element("leave").addEventListener("click", async () => {
  const id = current;
  if (await ask("DELETE", `/rooms/${encodeURIComponent(id)}/subscription`)) {
    logOf(id).remove();
    unread.delete(id);
    showRooms();
  }
});

element("sign-out").addEventListener("click", async () => {
  if (await ask("DELETE", "/session")) show(null);
});

// Other windows may have changed the state meanwhile, and others opened rooms.
document.addEventListener("visibilitychange", seen);
window.addEventListener("focus", refresh);

refresh();
