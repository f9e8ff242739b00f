// Line and area charts as SVG, with axes, a legend and values under the pointer. No library.

const PALETTE = ["#1f6fd6", "#e8710a", "#1a9850", "#c2185b", "#7b4fc9", "#0f97a7", "#a06a2c", "#7f8a99"];
const AXES = { step: "optimizer step", tokens: "sampled tokens", seconds: "training seconds" };

function color(number) {
  return PALETTE[number % PALETTE.length];
}

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  return fill(element, attributes, children);
}

function draw(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  return fill(element, attributes, children);
}

// Children are elements or texts; texts become text nodes, so nothing is ever parsed as HTML.
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// ---- numbers ----------------------------------------------------------------

function shortNumber(value) {
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (size >= 1e9) return trimmed(value / 1e9) + "G";
  if (size >= 1e6) return trimmed(value / 1e6) + "M";
  if (size >= 1e4) return trimmed(value / 1e3) + "k";
  if (size < 1e-3) return value.toExponential(1).replace(".0e", "e");
  return trimmed(value);
}

function trimmed(value) {
  return String(Number(value.toPrecision(4)));
}

function fullNumber(value) {
  const size = Math.abs(value);
  if (value !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(3);
  return String(Number(value.toPrecision(5)));
}

function niceStep(span, count) {
  const raw = span / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  const factor = [1, 2, 2.5, 5, 10].find((f) => f * power >= raw * 0.999);
  return factor * power;
}

function linearTicks(low, high, count) {
  const step = niceStep(high - low, count);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) ticks.push(i * step);
  return ticks.map((tick) => Number(tick.toPrecision(12)));
}

function logTicks(low, high) {
  const ticks = [];
  const first = Math.floor(Math.log10(low));
  const last = Math.ceil(Math.log10(high));
  const every = Math.ceil((last - first) / 6);
  for (let power = first; power <= last; power += every) ticks.push(10 ** power);
  if (last - first <= 1) ticks.push(2 * 10 ** first, 5 * 10 ** first);
  return ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
}

// ---- tooltip ----------------------------------------------------------------

const tip = document.getElementById("tip");

function showTip(event, ...content) {
  tip.replaceChildren(...content);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const right = event.clientX + 16 + box.width > window.innerWidth;
  const below = event.clientY + 14 + box.height > window.innerHeight;
  tip.style.left = `${Math.max(4, right ? event.clientX - 16 - box.width : event.clientX + 16)}px`;
  tip.style.top = `${Math.max(4, below ? event.clientY - 14 - box.height : event.clientY + 14)}px`;
}

function hideTip() {
  tip.hidden = true;
}

// ---- chart ------------------------------------------------------------------

// Position of an optimizer step on the chosen axis; between logged steps it is interpolated.
function position(axis, step, choice) {
  if (choice === "step" || !axis) return step;
  const values = axis[choice];
  const after = axis.steps.findIndex((known) => known >= step);
  if (after < 0) return values[values.length - 1];
  if (after === 0 || axis.steps[after] === step) return values[after];
  const share = (step - axis.steps[after - 1]) / (axis.steps[after] - axis.steps[after - 1]);
  return values[after - 1] + share * (values[after] - values[after - 1]);
}

class Chart {
  constructor(spec, page) {
    this.spec = spec;
    this.page = page;
    this.hidden = new Set();
    const facts = [spec.unit, spec.isLog ? "log scale" : "", spec.note].filter(Boolean).join(", ");
    this.holder = make("div", { class: "plot" });
    this.element = make(
      "div",
      { class: "chart" },
      make("div", { class: "head" }, make("h3", {}, spec.title), make("small", {}, facts)),
      this.legend(),
      this.holder,
    );
    // Charts are drawn when they get a width, which those in a closed box have not yet.
    new ResizeObserver(() => requestAnimationFrame(() => this.resize())).observe(this.element);
  }

  label(line) {
    return line.name === null ? this.page.runs[line.run] : line.name;
  }

  legend() {
    const shown = this.spec.series.filter((line) => !line.isFaint);
    const box = make("div", { class: "legend" });
    if (shown.length < 2) return box;
    for (const line of shown) {
      const name = this.label(line);
      const swatch = make("i", { style: `background:${color(line.color)}` });
      const item = make("span", { title: "show or hide" }, swatch, name);
      item.addEventListener("click", () => {
        this.hidden.has(name) ? this.hidden.delete(name) : this.hidden.add(name);
        item.classList.toggle("off", this.hidden.has(name));
        this.redraw();
      });
      box.append(item);
    }
    return box;
  }

  // Lines that are shown, as [x, y] on the chosen axis; stacked ones as [x, y, base].
  lines() {
    const { spec, page } = this;
    const usable = ([, y]) => y !== null && (!spec.isLog || y > 0);
    const lines = spec.series
      .filter((line) => !this.hidden.has(this.label(line)))
      .map((line) => ({
        ...line,
        points: line.points.filter(usable).map(([x, y]) => [position(page.axes[line.run], x, page.axis), y, 0]),
      }));
    if (spec.isStacked) {
      const sums = new Map();
      for (const line of lines) {
        for (const point of line.points) {
          point[2] = sums.get(point[0]) || 0;
          sums.set(point[0], point[2] + point[1]);
        }
      }
    }
    return lines.filter((line) => line.points.length > 0);
  }

  resize() {
    if (Math.floor(this.element.clientWidth) !== this.width) this.redraw();
  }

  redraw() {
    const width = Math.floor(this.element.clientWidth);
    this.width = width;
    if (width < 40) return;
    const height = Math.round(Math.min(230, Math.max(150, width * 0.5)));
    const lines = this.lines();
    const frame = new Frame(lines, this.spec, width, height, this.farthest());
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": this.spec.title });
    svg.append(...frame.axes(AXES[this.page.axis]));
    for (const line of lines) svg.append(...frame.line(line, this.spec.isStacked));
    this.pointer(svg, frame, lines);
    this.holder.replaceChildren(svg);
  }

  // The end of the axis is that of the whole page, so that charts lie below each other.
  farthest() {
    const key = this.page.axis === "step" ? "steps" : this.page.axis;
    return Math.max(0, ...this.page.axes.flatMap((axis) => axis[key]));
  }

  pointer(svg, frame, lines) {
    const rule = draw("line", { class: "axis", y1: frame.top, y2: frame.bottom, visibility: "hidden" });
    svg.append(rule);
    svg.addEventListener("mousemove", (event) => {
      const box = svg.getBoundingClientRect();
      const x = frame.valueAt(event.clientX - box.left);
      const clear = lines.filter((line) => !line.isFaint);
      const found = clear.map((line) => [line, nearest(line.points, x)]);
      if (found.length === 0) return;
      const closest = found.reduce((a, b) => (Math.abs(b[1][0] - x) < Math.abs(a[1][0] - x) ? b : a))[1][0];
      rule.setAttribute("x1", frame.x(closest));
      rule.setAttribute("x2", frame.x(closest));
      rule.setAttribute("visibility", "visible");
      const rows = found.map(([line, [at, y]]) => {
        const swatch = make("i", { style: `background:${color(line.color)}` });
        const off = Math.abs(at - closest) > 1e-9 ? ` at ${fullNumber(at)}` : "";
        return make("div", {}, make("span", {}, swatch, this.label(line) + off), make("b", {}, fullNumber(y)));
      });
      showTip(event, make("div", {}, `${AXES[this.page.axis]} ${fullNumber(closest)}`), ...rows);
    });
    svg.addEventListener("mouseleave", () => {
      rule.setAttribute("visibility", "hidden");
      hideTip();
    });
  }
}

function nearest(points, x) {
  return points.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a));
}

// Where values lie on the paper.
class Frame {
  constructor(lines, spec, width, height, farthest) {
    const xs = lines.flatMap((line) => line.points.map((point) => point[0]));
    const ys = lines.flatMap((line) => line.points.map((point) => point[1] + point[2]));
    Object.assign(this, { isLog: spec.isLog, top: 8, bottom: height - 34, right: width - 12 });
    this.xLow = Math.min(0, ...xs);
    this.xHigh = Math.max(...xs, farthest, this.xLow + 1e-9);
    this.scaleY(ys, spec);
    this.yTicks = this.isLog ? logTicks(this.yLow, this.yHigh) : linearTicks(this.yLow, this.yHigh, 4);
    this.left = 12 + 6.6 * Math.max(...this.yTicks.map((tick) => shortNumber(tick).length), 2);
  }

  scaleY(ys, spec) {
    let low = Math.min(...ys);
    let high = Math.max(...ys);
    if (ys.length === 0) [low, high] = [0.1, 1];
    if (this.isLog) {
      [this.yLow, this.yHigh] = [low / 1.25, high * 1.25];
      return;
    }
    if (spec.isStacked) low = 0;
    if (spec.unit === "share" && low >= 0 && high > 0.5 && high <= 1.001) high = 1;
    if (low > 0 && low < 0.6 * high) low = 0;
    if (high < 0 && high > 0.6 * low) high = 0;
    if (low === high) [low, high] = low === 0 ? [0, 1] : [low - Math.abs(low) / 2, high + Math.abs(high) / 2];
    const step = niceStep(high - low, 4);
    const snug = spec.unit === "share" && high === 1;
    this.yLow = low === 0 ? 0 : Math.floor(low / step + 1e-9) * step;
    this.yHigh = snug ? 1 : Math.ceil(high / step - 1e-9) * step;
  }

  x(value) {
    return this.left + ((value - this.xLow) / (this.xHigh - this.xLow)) * (this.right - this.left);
  }

  y(value) {
    const scale = this.isLog ? Math.log10 : (v) => v;
    const share = (scale(value) - scale(this.yLow)) / (scale(this.yHigh) - scale(this.yLow));
    return this.bottom - share * (this.bottom - this.top);
  }

  valueAt(pixel) {
    return this.xLow + ((pixel - this.left) / (this.right - this.left)) * (this.xHigh - this.xLow);
  }

  axes(name) {
    const parts = [];
    for (const tick of this.yTicks) {
      const y = this.y(tick);
      parts.push(draw("line", { class: "gridline", x1: this.left, x2: this.right, y1: y, y2: y }));
      parts.push(draw("text", { x: this.left - 6, y: y + 4, "text-anchor": "end" }, shortNumber(tick)));
    }
    for (const tick of linearTicks(this.xLow, this.xHigh, Math.max(3, (this.right - this.left) / 80))) {
      const x = this.x(tick);
      parts.push(draw("line", { class: "axis", x1: x, x2: x, y1: this.bottom, y2: this.bottom + 4 }));
      parts.push(draw("text", { x, y: this.bottom + 16, "text-anchor": "middle" }, shortNumber(tick)));
    }
    parts.push(draw("line", { class: "axis", x1: this.left, x2: this.right, y1: this.bottom, y2: this.bottom }));
    const middle = (this.left + this.right) / 2;
    parts.push(draw("text", { x: middle, y: this.bottom + 30, "text-anchor": "middle" }, name));
    return parts;
  }

  line(line, isStacked) {
    const at = (x, y) => `${this.x(x).toFixed(1)},${this.y(y).toFixed(1)}`;
    const upper = line.points.map(([x, y, base]) => at(x, base + y));
    const stroke = color(line.color);
    if (isStacked) {
      const lower = line.points.map(([x, , base]) => at(x, base)).reverse();
      return [draw("path", { d: `M${upper.concat(lower).join("L")}Z`, fill: stroke, "fill-opacity": 0.75 })];
    }
    const parts = [
      draw("path", {
        d: `M${upper.join("L")}`,
        fill: "none",
        stroke,
        "stroke-width": line.isFaint ? 1 : 1.8,
        "stroke-opacity": line.isFaint ? 0.35 : 1,
        "stroke-linejoin": "round",
      }),
    ];
    if (line.points.length <= 15 && !line.isFaint) {
      for (const [x, y] of line.points) {
        parts.push(draw("circle", { cx: this.x(x), cy: this.y(y), r: 2.6, fill: stroke }));
      }
    }
    return parts;
  }
}

// ---- dots with whiskers -----------------------------------------------------

function drawIntervals(holder) {
  const data = JSON.parse(holder.getAttribute("data-values"));
  const row = 18;
  const band = row * data.runs.length + 16;
  const [width, left, right] = [520, 112, 372];
  const height = band * data.names.length + 24;
  // Figures that all lie high start the axis there: runs differ by little at the end.
  const lowest = Math.min(...data.values.flat(2));
  const start = lowest > 0.4 ? Math.floor(lowest * 10) / 10 : 0;
  const x = (value) => left + ((value - start) / (1 - start)) * (right - left);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "held-out figures" });
  for (const tick of linearTicks(start, 1, 4)) {
    svg.append(draw("line", { class: "gridline", x1: x(tick), x2: x(tick), y1: 0, y2: height - 20 }));
    svg.append(draw("text", { x: x(tick), y: height - 5, "text-anchor": "middle" }, String(tick)));
  }
  data.names.forEach((name, group) => {
    const top = group * band + 8;
    svg.append(draw("text", { class: "strong", x: 0, y: top + (band - 16) / 2 + 4 }, name));
    data.runs.forEach((run, number) => {
      const [value, low, high] = data.values[number][group];
      const y = top + row * number + row / 2;
      const paint = run === "before" ? "var(--soft)" : color(data.runs[0] === "before" ? 0 : page.runs.indexOf(run));
      svg.append(draw("line", { x1: x(low), x2: x(high), y1: y, y2: y, stroke: paint, "stroke-width": 2.5 }));
      svg.append(draw("circle", { cx: x(value), cy: y, r: 4.6, fill: paint }));
      svg.append(draw("text", { x: right + 12, y: y + 4 }, `${value.toFixed(3)}  ${run}`));
    });
  });
  holder.replaceChildren(svg);
}
