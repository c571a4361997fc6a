// A line chart as inline SVG: drawn at the size that it has on the screen, read out as a sentence, and beside it as a table.

import { element } from "./dom.js";

const HEIGHT = 190;
const [LEFT, RIGHT, TOP, BOTTOM] = [52, 12, 14, 28];
const MEAN = 5; // points that the line is the running mean of
const ROWS = 500; // of the table, the newest

export class Chart {
  /** `says` is what is shown, in a few words. */
  constructor(title, says) {
    this.title = title;
    this.points = [];
    this.picture = element("div", { class: "picture" });
    this.readout = element("p", { class: "readout quiet" });
    this.table = element("table", {});
    this.details = element(
      "details",
      { ontoggle: () => this.fillTable() },
      element("summary", {}, "Figures"),
      element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Figures of ${title}` }, this.table),
    );
    this.node = element(
      "figure",
      { class: "chart" },
      element("figcaption", {}, element("strong", {}, title), element("span", { class: "quiet" }, says)),
      this.picture,
      this.readout,
      this.details,
    );
    this.picture.addEventListener("pointermove", (event) => this.point(event));
    this.picture.addEventListener("pointerleave", () => this.read(this.points.at(-1)));
    new ResizeObserver(() => this.paint()).observe(this.picture);
  }

  /** Draw `points`, [step, value] by rising step; `levels`, [{ name, value }], are lines to hold them against; `last` is the last step. */
  draw(points, { levels = [], last = 0, smooth = true } = {}) {
    const smoothed = smooth
      ? points.map(([x], at) => [x, mean(points.slice(Math.max(0, at + 1 - MEAN), at + 1).map(([, y]) => y))])
      : points;
    Object.assign(this, { points, smoothed, levels, last, smooth });
    this.paint();
    this.read(points.at(-1));
    this.fillTable();
  }

  paint() {
    const width = Math.floor(this.picture.clientWidth);
    if (!width || !(this.points.length || this.levels?.length)) return;
    const values = [...this.points.map(([, y]) => y), ...this.levels.map((level) => level.value)];
    const ticks = nice(Math.min(...values), Math.max(...values));
    const [low, high] = [ticks[0], ticks.at(-1)];
    const first = this.points[0]?.[0] ?? 0;
    const end = Math.max(this.last, this.points.at(-1)?.[0] ?? 0, first + 1);
    this.x = (step) => LEFT + ((width - LEFT - RIGHT) * (step - first)) / (end - first);
    this.y = (value) => HEIGHT - BOTTOM - ((HEIGHT - TOP - BOTTOM) * (value - low)) / (high - low);
    this.cursor = svg("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
    this.picture.replaceChildren(
      svg(
        "svg",
        { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": this.sentence() },
        ...ticks.flatMap((tick) => [
          svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: this.y(tick), y2: this.y(tick) }),
          svg("text", { x: LEFT - 8, y: this.y(tick) + 4, "text-anchor": "end" }, figure(tick)),
        ]),
        svg("text", { x: LEFT, y: HEIGHT - 8 }, `step ${first}`),
        svg("text", { x: width - RIGHT, y: HEIGHT - 8, "text-anchor": "end" }, `step ${end}`),
        ...this.levels.flatMap(({ name, value }) => [
          svg("line", { class: "level", x1: LEFT, x2: width - RIGHT, y1: this.y(value), y2: this.y(value) }),
          svg("text", { class: "name", x: width - RIGHT, y: this.y(value) - 6, "text-anchor": "end" }, name),
        ]),
        ...this.points.map(([step, value]) =>
          svg("circle", {
            class: this.smooth ? "dot" : "dot strong",
            cx: this.x(step),
            cy: this.y(value),
            r: this.smooth ? 2.5 : 4,
          }),
        ),
        this.smoothed?.length > 1 &&
          svg("polyline", {
            class: "line",
            points: this.smoothed.map(([step, value]) => `${this.x(step)},${this.y(value)}`).join(" "),
          }),
        this.cursor,
      ),
    );
  }

  sentence() {
    const levels = this.levels.map(({ name, value }) => `${name} ${figure(value)}`);
    if (!this.points.length) return [this.title, ...levels].join("; ");
    const [[first, from], [last, to]] = [this.points[0], this.points.at(-1)];
    return [
      `${this.title}: ${this.points.length} points, ${figure(from)} at step ${first}, ${figure(to)} at step ${last}`,
      ...levels,
    ].join("; ");
  }

  point(event) {
    if (!this.points.length || !this.x) return;
    const at = event.clientX - this.picture.getBoundingClientRect().left;
    const nearest = this.points.reduce((best, each) =>
      Math.abs(this.x(each[0]) - at) < Math.abs(this.x(best[0]) - at) ? each : best,
    );
    for (const end of ["x1", "x2"]) this.cursor.setAttribute(end, this.x(nearest[0]));
    this.cursor.setAttribute("visibility", "visible");
    this.read(nearest);
  }

  read(point) {
    this.readout.textContent = point ? `Step ${point[0]}: ${figure(point[1])}` : "No figure yet.";
    if (point === this.points.at(-1)) this.cursor?.setAttribute("visibility", "hidden");
  }

  fillTable() {
    if (!this.details.open) return;
    const row = (name, value) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, figure(value)));
    this.table.replaceChildren(
      element(
        "thead",
        {},
        element("tr", {}, element("th", { scope: "col" }, "step"), element("th", { scope: "col" }, this.title)),
      ),
      element(
        "tbody",
        {},
        ...this.levels.map(({ name, value }) => row(name, value)),
        ...this.points.slice(-ROWS).map(([step, value]) => row(String(step), value)),
      ),
    );
  }
}

/** Four digits that matter: ".0428" is 0.0428, 12.35, 1,204. */
export function figure(value) {
  return value === 0 || Math.abs(value) >= 1e-4
    ? value.toLocaleString("en", { maximumSignificantDigits: 4 })
    : value.toExponential(1);
}

/** Three to six round values that begin at or below `low` and end at or above `high`; near 0 they begin at 0. */
function nice(low, high) {
  const bottom = low > 0 && low < 0.6 * high ? 0 : low;
  const span = high - bottom || Math.abs(high) || 1;
  const power = 10 ** Math.floor(Math.log10(span / 3));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => span / each <= 4);
  const first = Math.floor(bottom / step + 1e-9);
  const count = Math.max(1, Math.ceil(high / step - 1e-9) - first);
  return Array.from({ length: count + 1 }, (_, at) => Number(((first + at) * step).toPrecision(12)));
}

const mean = (values) => values.reduce((sum, each) => sum + each, 0) / values.length;

function svg(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter(Boolean));
  return made;
}
