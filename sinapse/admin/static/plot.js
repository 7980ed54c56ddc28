// A small plot of the last minutes, as SVG. Knows nothing of what it shows.
"use strict";

const PLOT = { width: 300, height: 72, points: 180 }; // a point a second: three minutes

class Plot {
  // `count` lines; `tell` is called with the index of the point that is pointed at, or null.
  constructor(count, tell) {
    this.count = count;
    this.svg = shape("svg", {
      class: "plot",
      viewBox: `0 0 ${PLOT.width} ${PLOT.height}`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    });
    this.parts = ["first", "second", "third"].slice(0, count).map((name, number) => {
      // Areas of several lines would hide one another.
      const area = number === 0 ? shape("path", { class: `area ${name}` }) : null;
      const line = shape("path", { class: `line ${name}` });
      this.svg.append(...[area, line].filter(Boolean));
      return { area, line };
    });
    this.cursor = shape("path", { class: "cursor" });
    this.svg.append(this.cursor);
    this.svg.addEventListener("pointermove", (event) => {
      const box = this.svg.getBoundingClientRect();
      const index = Math.round(((event.clientX - box.left) / box.width) * (PLOT.points - 1));
      const x = round(this.x(index));
      this.cursor.setAttribute("d", `M${x} 0V${PLOT.height}`);
      tell(index);
    });
    this.svg.addEventListener("pointerleave", () => {
      this.cursor.setAttribute("d", "");
      tell(null);
    });
  }

  x(index) {
    return (index / (PLOT.points - 1)) * PLOT.width;
  }

  // `series` is a list for each line, oldest first, as long as PLOT.points; null is a gap.
  show(series) {
    const highest = Math.max(0, ...series.flat().filter((value) => value !== null));
    const scale = (PLOT.height - 6) / (highest || 1);
    series.forEach((values, number) => {
      const runs = [];
      values.forEach((value, index) => {
        if (value === null) return;
        const point = `${round(this.x(index))} ${round(PLOT.height - 1.5 - value * scale)}`;
        if (index === 0 || values[index - 1] === null) runs.push([]);
        runs.at(-1).push(point);
      });
      const { area, line } = this.parts[number];
      line.setAttribute("d", runs.map((run) => `M${run.join("L")}${run.length < 2 ? "h.01" : ""}`).join(""));
      area?.setAttribute("d", runs.map((run) => `M${left(run[0])} ${PLOT.height}L${run.join("L")}L${left(run.at(-1))} ${PLOT.height}Z`).join(""));
    });
  }
}

function shape(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function left(point) {
  return point.split(" ")[0];
}

function round(number) {
  return Math.round(number * 100) / 100;
}
