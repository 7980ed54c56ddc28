// The page: asks for the figures each second, and shows what changed. What others have named
// only ever becomes textContent.

const EACH = 1000; // ms between two looks at the figures
const CHANNELS_EACH = 3; // looks, for the table of channels and for a subject
const PATIENCE = 5000; // ms, for an answer
const WINDOW = 10; // looks over which percentiles are taken

const element = (id) => document.getElementById(id);

// Numbers as people read them

const NUMBER = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

function count(value) {
  return Math.abs(value) < 100_000 ? NUMBER.format(value) : SHORT.format(value);
}

function rate(value) {
  return value < 10 && !Number.isInteger(value) ? value.toFixed(1) : count(value);
}

function scaled(value, units, step) {
  let unit = 0;
  while (value >= step && unit < units.length - 1) {
    value /= step;
    unit += 1;
  }
  return [value < 10 && unit > 0 ? value.toFixed(1) : NUMBER.format(value), units[unit]];
}

const bytes = (value) => scaled(value, ["B", "KiB", "MiB", "GiB", "TiB"], 1024);

function seconds(value) {
  if (value === null) return ["–", ""];
  if (value >= 1) return [value.toFixed(1), "s"];
  const milliseconds = value * 1000;
  return milliseconds >= 1
    ? [milliseconds.toFixed(milliseconds < 10 ? 1 : 0), "ms"]
    : [NUMBER.format(milliseconds * 1000), "µs"];
}

function age(value) {
  const [days, hours, minutes] = [86400, 3600, 60].map((unit) => Math.floor(value / unit));
  if (days) return `${days} d ${hours % 24} h`;
  if (hours) return `${hours} h ${minutes % 60} min`;
  return minutes ? `${minutes} min ${Math.floor(value % 60)} s` : `${Math.floor(value)} s`;
}

// What is seen over time: the last figures, the oldest first; null for a look that failed

const looks = [];

// How much a counter goes up a second.
function perSecond(name) {
  const [now, then] = [looks.at(-1), looks.at(-2)];
  if (!now || !then || now.at === then.at) return null;
  return Math.max(0, (now[name] - then[name]) / (now.at - then.at));
}

// The value that a share of those counted lately is not above, by the buckets of a histogram.
function percentile(name, share) {
  const now = looks.at(-1);
  const then = looks.slice(-1 - WINDOW, -1).find(Boolean);
  if (!now?.[name] || !then?.[name]) return null; // No worker has answered yet.
  const bounds = Object.keys(now[name].buckets).map((bound) => (bound === "+Inf" ? Infinity : +bound));
  const counts = Object.entries(now[name].buckets).map(([bound, all]) => all - then[name].buckets[bound]);
  const wanted = counts.at(-1) * share;
  if (!(counts.at(-1) > 0)) return null;
  const at = Math.max(0, counts.findIndex((each) => each >= wanted));
  const [low, below] = at ? [bounds[at - 1], counts[at - 1]] : [0, 0];
  if (bounds[at] === Infinity) return low;
  return low + (bounds[at] - low) * ((wanted - below) / (counts[at] - below || 1));
}

// The cards. `lines` are what is plotted, a function of now each; the first is the large figure.

const now = (name) => looks.at(-1)?.[name] ?? null;
const process = (name) => () => looks.at(-1)?.process?.[name] ?? null;

function cpu() {
  const [last, former] = [looks.at(-1), looks.at(-2)];
  if (!last?.process || !former?.process || last.at === former.at) return null;
  const used = last.process.cpu_seconds_total - former.process.cpu_seconds_total;
  return Math.max(0, (100 * used) / (last.at - former.at));
}

const transport = (name) => () => looks.at(-1)?.streams_by_transport[name] ?? null;

const CARDS = [
  {
    title: "Streams",
    names: ["event stream", "websocket", "long poll"],
    lines: ["event stream", "websocket", "long poll"].map(transport),
    show: (values) => [count(values.reduce((sum, value) => sum + value, 0)), ""],
    each: (value) => count(value),
  },
  {
    title: "Messages in",
    lines: [() => perSecond("messages")],
    show: ([value]) => [rate(value), "/s"],
    says: () => `${count(now("messages"))} in all, ${count(now("channels"))} channels`,
  },
  {
    title: "Deliveries",
    lines: [() => perSecond("deliveries")],
    show: ([value]) => [rate(value), "/s"],
    says: () => `${count(now("deliveries"))} in all, ${count(now("subjects"))} subjects`,
  },
  {
    title: "Bytes out",
    lines: [() => perSecond("delivered_bytes")],
    show: ([value]) => suffixed(bytes(value), "/s"),
    says: () => `${bytes(now("delivered_bytes")).join(" ")} in all`,
  },
  {
    title: "To the last write, 99 %",
    names: ["from publish", "from Redis"],
    lines: [
      () => percentile("message_age_seconds", 0.99),
      () => percentile("delivery_seconds", 0.99),
    ],
    // Not every message tells when it was published.
    show: ([published, read]) => seconds(published ?? read),
    each: (value) => seconds(value).join(" "),
  },
  {
    title: "Redis and the event loop",
    names: ["through Redis", "lag, 99 %"],
    lines: [
      () => percentile("redis_probe_seconds", 0.5),
      () => percentile("loop_lag_seconds", 0.99),
    ],
    show: ([value]) => seconds(value),
    each: (value) => seconds(value).join(" "),
  },
  {
    title: "Waiting to be written",
    lines: [() => now("pending_bytes")],
    show: ([value]) => bytes(value),
    says: () => `${count(now("streams_behind"))} streams are behind`,
  },
  {
    title: "CPU",
    lines: [cpu],
    show: ([value]) => [rate(value), "%"],
    says: () => `${bytes(process("resident_memory_bytes")() ?? 0).join(" ")} of memory`,
  },
];

function suffixed([value, unit], suffix) {
  return [value, unit + suffix];
}

class Card {
  constructor(kind) {
    this.kind = kind;
    this.series = kind.lines.map(() => Array(PLOT.points).fill(null));
    this.pointed = null;
    this.value = made("p", { className: "value" });
    this.legend = made("p", { className: "legend" });
    this.plot = new Plot(kind.lines.length, (index) => {
      this.pointed = index;
      this.tell();
    });
    const caption = made("figcaption", {}, made("h2", { textContent: kind.title }), this.value, this.legend);
    const card = made("figure", { className: "card" }, caption);
    card.append(this.plot.svg);
    element("cards").append(card);
  }

  // Takes a look, after some that were missed.
  look(isThere, missed) {
    this.kind.lines.forEach((line, number) => {
      const values = [...Array(missed).fill(null), isThere ? line() : null];
      this.series[number] = [...this.series[number], ...values].slice(-PLOT.points);
    });
    this.plot.show(this.series);
    this.tell();
  }

  // Tells what is now, or what was where somebody points at.
  tell() {
    const index = this.pointed ?? PLOT.points - 1;
    const values = this.series.map((values) => values[index]);
    const known = values[0] !== null;
    const [value, unit] = known ? this.kind.show(values) : ["–", ""];
    this.value.replaceChildren(value, made("small", { textContent: unit }));
    if (this.kind.names) {
      this.legend.replaceChildren(
        ...this.kind.names.map((name, number) =>
          made("span", {
            className: ["first", "second", "third"][number],
            textContent: `${values[number] === null ? "–" : this.kind.each(values[number])} ${name}`,
          }),
        ),
      );
    } else {
      const ago = (PLOT.points - 1 - index) * (EACH / 1000);
      const text = this.pointed === null ? (looks.at(-1) ? this.kind.says() : "") : `${age(ago)} ago`;
      this.legend.replaceChildren(made("span", { className: "plain", textContent: text }));
    }
  }
}

function made(name, properties, ...children) {
  const one = Object.assign(document.createElement(name), properties);
  one.append(...children);
  return one;
}

function row(...cells) {
  return made("tr", {}, ...cells);
}

function cell(text, isNumber = false) {
  return made("td", { textContent: text, className: isNumber ? "number" : "" });
}

function heading(text) {
  return made("th", { scope: "row", textContent: text, title: text });
}

// Asking the node

async function ask(path, options = {}) {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(new Error("no answer in time")), PATIENCE);
  try {
    const response = await fetch(path, { cache: "no-store", signal: limit.signal, ...options });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    return answer;
  } finally {
    clearTimeout(timer);
  }
}

function say(text) {
  element("alert").textContent = text;
  element("alert").hidden = !text;
}

const cards = CARDS.map((kind) => new Card(kind));

let latest = null; // ms, when there was a look

function remember(figures) {
  const at = performance.now();
  // Nobody looks while the page is hidden.
  const missed = latest === null ? 0 : Math.round((at - latest) / EACH) - 1;
  latest = at;
  looks.push(figures && { ...figures, at: at / 1000 });
  if (looks.length > WINDOW + 2) looks.shift();
  for (const card of cards) card.look(figures !== null, Math.min(PLOT.points, Math.max(0, missed)));
}

function showNode(figures) {
  element("node").textContent = figures.version;
  const redis = element("redis");
  const under = figures.prefix && ` under ${figures.prefix}`;
  redis.textContent = `Redis${under}: ${figures.redis}`;
  redis.dataset.state = figures.redis_up ? "live" : "off";
  document.title = `${count(figures.streams)} streams · Sinapse`;
  const facts = {
    up: age(figures.uptime),
    process: figures.pid,
    "open descriptors": figures.process?.open_fds && `${count(figures.process.open_fds)} of ${count(figures.process.max_fds)}`,
    "streams opened": count(figures.streams_opened),
    replays: count(figures.replays),
    resets: count(figures.resets),
    "history reads": count(figures.history_reads),
    "invalid payloads": count(figures.invalid_payloads),
    "Redis reached": `${count(figures.redis_connects)} ×`,
    "Redis lost": `${count(figures.redis_losses)} ×`,
  };
  element("facts").replaceChildren(
    ...Object.entries(facts)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => made("div", {}, made("dt", { textContent: key }), made("dd", { textContent: value }))),
  );
}

function showWorkers(workers = []) {
  element("workers").hidden = workers.length === 0;
  element("worker-rows").replaceChildren(
    ...workers.map((worker) => {
      const state = worker.serves ? (worker.answers ? worker.redis : "does not answer") : "starts";
      const known = (value, show = count) => (value === undefined ? "–" : show(value));
      return row(
        cell(`${worker.number}`),
        cell(`${worker.pid ?? "–"}`),
        cell(state),
        cell(known(worker.streams), true),
        cell(known(worker.messages), true),
        cell(known(worker.deliveries), true),
        cell(known(worker.uptime, age), true),
        cell(known(worker.ends), true),
      );
    }),
  );
}

function showReasons(figures) {
  const reasons = [
    ["second", "streams_closed", "streams closed"],
    ["third", "requests_refused", "requests refused"],
    ["third", "connections_refused", "connections refused"],
  ].flatMap(([colour, name, what]) =>
    Object.entries(figures[name] ?? {}).map(([reason, total]) => [colour, reason, total, what]),
  ).filter(([, , total]) => total > 0);
  reasons.sort((one, other) => other[2] - one[2]);
  const most = Math.max(1, ...reasons.map(([, , total]) => total));
  element("no-reasons").hidden = reasons.length > 0;
  element("reasons").replaceChildren(
    ...reasons.map(([colour, reason, total, what]) => {
      const meter = made("meter", { max: most, value: total, textContent: total });
      meter.setAttribute("aria-hidden", "true");
      return made(
        "div",
        { className: colour, title: `${what}: ${reason}` },
        made("dt", { textContent: reason }),
        meter,
        made("dd", { textContent: count(total), className: "number" }),
      );
    }),
  );
}

let formerChannels = new Map(); // name -> [messages, when]

async function showChannels() {
  const by = document.querySelector("#by :checked").value;
  const { channels, total } = await ask(`channels?top=20&by=${by}`);
  const at = performance.now() / 1000;
  element("channels-total").textContent = total > channels.length ? `${channels.length} of ${count(total)}` : "";
  element("no-channels").hidden = channels.length > 0;
  element("channels").replaceChildren(
    ...channels.map(({ channel, streams, messages }) => {
      const [before, when] = formerChannels.get(channel) ?? [];
      const each = when === undefined || at === when ? "–" : rate(Math.max(0, messages - before) / (at - when));
      return row(heading(channel), cell(count(streams), true), cell(count(messages), true), cell(each, true));
    }),
  );
  formerChannels = new Map(channels.map(({ channel, messages }) => [channel, [messages, at]]));
}

// One subject

let shown = null; // its id

const subjectPath = (identifier) => `subjects/${encodeURIComponent(identifier)}`;

async function showSubject(identifier, isNew = false) {
  const found = await ask(subjectPath(identifier));
  if (isNew) shown = identifier;
  else if (shown !== identifier) return; // Somebody has looked for another one meanwhile.
  const { streams, channels } = found;
  element("subject").hidden = false;
  element("no-subject").hidden = true;
  element("subject-id").textContent = identifier;
  element("subject-says").textContent = streams.length
    ? `${count(streams.length)} open, ${count(channels.length)} channels`
    : "has no open stream here";
  element("end").hidden = streams.length === 0;
  element("subject-channels").replaceChildren(
    ...channels.map((channel) => made("li", { textContent: channel })),
  );
  element("streams").replaceChildren(
    ...streams.map((stream) =>
      row(
        cell(stream.worker ? `${stream.transport}, worker ${stream.worker}` : stream.transport),
        cell(stream.state),
        cell(stream.address),
        cell(age(stream.age), true),
        cell(bytes(stream.pending_bytes).join(" "), true),
      ),
    ),
  );
}

element("look-up").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await showSubject(element("identifier").value, true);
    say("");
  } catch (error) {
    say(`The subject cannot be looked up: ${error.message}`);
  }
});

element("end").addEventListener("click", () => {
  element("confirm-text").textContent = `End all streams of ${shown}?`;
  element("confirm").returnValue = "";
  element("confirm").showModal();
});

element("confirm").addEventListener("close", async () => {
  if (element("confirm").returnValue !== "end") return;
  try {
    await ask(subjectPath(shown), { method: "DELETE" });
    await showSubject(shown);
  } catch (error) {
    say(`The streams cannot be ended: ${error.message}`);
  }
});

element("by").addEventListener("change", () => showChannels().catch(() => {}));

// Light and dark: as the system has it, unless somebody chose

const THEMES = { system: "◐", light: "☀", dark: "☾" };
const system = matchMedia("(prefers-color-scheme: dark)");

function stored() {
  try {
    return localStorage.getItem("theme") ?? "system";
  } catch {
    return "system"; // Storage may be forbidden.
  }
}

function paint(theme) {
  const isDark = theme === "system" ? system.matches : theme === "dark";
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
  const says = `Colours: ${theme === "system" ? "as the system has them" : theme}`;
  Object.assign(element("theme"), { textContent: THEMES[theme], title: says, ariaLabel: says });
}

let theme = stored();
paint(theme);
system.addEventListener("change", () => paint(theme));
element("theme").addEventListener("click", () => {
  const themes = Object.keys(THEMES);
  theme = themes[(themes.indexOf(theme) + 1) % themes.length];
  paint(theme);
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // It lasts as long as the page, then.
  }
});

// Looking, each second, one look after the other

let isLost = false;

async function look(number) {
  let figures = null;
  try {
    figures = await ask("status");
    remember(figures);
    showNode(figures);
    showWorkers(figures.workers);
    showReasons(figures);
    if (number % CHANNELS_EACH === 0) {
      await showChannels();
      if (shown !== null) await showSubject(shown);
    }
    if (isLost) say("");
    isLost = false;
  } catch (error) {
    isLost = true;
    if (figures === null) remember(null);
    say(`The node cannot be asked: ${error.message}`);
  }
}

async function lookAround() {
  for (let number = 0; ; number += 1) {
    const begun = performance.now();
    if (!document.hidden) await look(number);
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, EACH - (performance.now() - begun))));
  }
}

lookAround();
