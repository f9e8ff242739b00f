// The view of a rollout tree: bars for an overview, nested lines to open, tokens in colour.

const MODES = {
  entropy: { title: "entropy", low: "0", unit: "nats", of: (token) => token.entropy, paint: [232, 113, 10] },
  logprob: { title: "log-prob", low: "0", unit: "nats", of: (token) => -token.logprob, paint: [194, 24, 91] },
  advantage: { title: "advantage", unit: "" },
  none: { title: "no colour" },
};

class TreeView {
  constructor(holder, trees) {
    Object.assign(this, { trees, number: trees.length - 1, mode: "entropy" });
    this.body = make("div", { class: "tree" });
    this.overview = make("div", { class: "overview" });
    this.scale = make("span", { class: "scale" });
    holder.replaceChildren(this.controls(), this.overview, this.body);
    this.show();
  }

  controls() {
    const choice = make("select", { id: "tree-choice" });
    this.trees.forEach((tree, number) => {
      choice.append(make("option", { value: number }, `step ${tree.step}: ${tree.prompt}`));
    });
    choice.value = this.number;
    choice.addEventListener("change", () => this.show(Number(choice.value)));
    const modes = Object.entries(MODES).map(([mode, { title }]) => {
      const button = make("button", { "data-mode": mode, class: mode === this.mode ? "on" : "" }, title);
      button.addEventListener("click", () => this.color(mode));
      return button;
    });
    const open = make("button", { id: "open-all" }, "open all");
    const close = make("button", { id: "close-all" }, "close all");
    open.addEventListener("click", () => this.toggleAll(false));
    close.addEventListener("click", () => this.toggleAll(true));
    return make("div", { class: "controls" }, make("label", {}, "tree", choice), make("label", {}, "colour", ...modes), open, close, this.scale);
  }

  toggleAll(isClosed) {
    for (const node of this.nodes) this.setClosed(node, isClosed && node.depth > 0);
  }

  // ---- reading a tree -------------------------------------------------------

  show(number = this.number) {
    this.number = number;
    this.tree = this.trees[number];
    this.nodes = this.tree.segments.map((segment, id) => ({ ...segment, id, children: [], leaves: [] }));
    for (const node of this.nodes) {
      const parent = node.parent === null ? null : this.nodes[node.parent];
      node.depth = parent ? parent.depth + 1 : 0;
      node.start = parent ? parent.start + parent.tokens.length : 0;
      if (parent) parent.children.push(node);
    }
    for (const node of [...this.nodes].reverse()) {
      if (node.finish !== null) node.leaves = [node];
      else node.leaves = node.children.flatMap((child) => child.leaves);
      node.meanAdvantage = mean(node.leaves.map((leaf) => leaf.advantage));
      node.meanScore = mean(node.leaves.map((leaf) => leaf.score));
    }
    this.body.replaceChildren(this.element(this.nodes[0]));
    for (const node of this.nodes) this.setClosed(node, node.depth > 2);
    this.color(this.mode);
  }

  // ---- lines ----------------------------------------------------------------

  element(node) {
    node.mark = make("span", { class: "mark" });
    node.spans = node.tokens.map((token) => this.token(token));
    const text = make("span", { class: "text" }, ...node.spans);
    const number = make("span", { class: "number" }, `${node.id} [${node.tokens.length}]`);
    node.line = make("div", { class: "line", "data-segment": node.id }, node.mark, number, text, this.badges(node));
    node.line.addEventListener("click", () => this.setClosed(node, !node.isClosed));
    const children = make("div", { class: "children" }, ...node.children.map((child) => this.element(child)));
    node.box = make("div", { class: "segment" }, node.line, children);
    return node.box;
  }

  token(token) {
    const text = token.text === null ? `\u2039${token.id}\u203a` : token.text;
    const shown = text === "" ? "\u2022" : text;
    const kind = token.sampled ? "" : " fixed";
    const span = make("span", { class: `token${kind}${text === "" ? " control" : ""}` }, shown);
    span.addEventListener("mousemove", (event) => {
      const lines = [`${JSON.stringify(text)}  token ${token.id}`];
      if (token.sampled && token.logprob !== null) {
        lines.push(`log-prob ${token.logprob.toFixed(4)} nats, probability ${Math.exp(token.logprob).toFixed(4)}`);
        lines.push(`entropy ${fullNumber(token.entropy)} nats`);
      } else {
        lines.push("not sampled");
      }
      showTip(event, lines.join("\n"));
    });
    span.addEventListener("mouseleave", hideTip);
    return span;
  }

  badges(node) {
    const items = [];
    if (node.finish !== null) {
      items.push(make("span", { class: "badge" }, node.finish));
      if (node.score !== null) items.push(badge("score", node.score, fullNumber(node.score)));
      else items.push(make("span", { class: "badge" }, "not judged"));
      if (node.advantage !== null) items.push(badge("adv", node.advantage, signed(node.advantage)));
    } else {
      const facts = [node.leaves.length === 1 ? "1 leaf" : `${node.leaves.length} leaves`];
      if (node.meanScore !== null) facts.push(`score ${fullNumber(Number(node.meanScore.toPrecision(3)))}`);
      if (node.meanAdvantage !== null) facts.push(`adv ${signed(node.meanAdvantage)}`);
      items.push(make("span", { class: "badge" }, facts.join(", ")));
    }
    return make("span", { class: "badges" }, ...items);
  }

  setClosed(node, isClosed) {
    node.isClosed = isClosed;
    node.box.classList.toggle("closed", isClosed);
    node.mark.textContent = node.children.length === 0 ? (isClosed ? "\u2026" : "") : isClosed ? "\u25b8" : "\u25be";
  }

  reveal(node) {
    for (let at = node; at; at = at.parent === null ? null : this.nodes[at.parent]) this.setClosed(at, false);
    node.line.scrollIntoView({ block: "center", behavior: "smooth" });
    node.line.classList.remove("flash");
    void node.line.offsetWidth; // restarts the animation
    node.line.classList.add("flash");
  }

  // ---- colour ---------------------------------------------------------------

  color(mode) {
    this.mode = mode;
    for (const button of document.querySelectorAll("[data-mode]")) {
      button.classList.toggle("on", button.getAttribute("data-mode") === mode);
    }
    this.top = this.highest(mode);
    for (const node of this.nodes) {
      node.tokens.forEach((token, i) => {
        node.spans[i].style.background = token.sampled ? this.tokenColor(node, token) : "";
      });
    }
    this.drawScale();
    this.drawOverview();
  }

  highest(mode) {
    if (mode === "none") return 1;
    if (mode === "advantage") return Math.max(1e-9, ...this.nodes.map((node) => Math.abs(node.meanAdvantage || 0)));
    const values = this.nodes.flatMap((n) => n.tokens.filter((t) => t.sampled).map(MODES[mode].of)).sort((a, b) => a - b);
    // The 98th percentile: one very unlikely token must not make all others pale.
    return Math.max(0.05, values[Math.floor(0.98 * (values.length - 1))] || 0);
  }

  tokenColor(node, token) {
    if (this.mode === "none") return "";
    if (this.mode === "advantage") return this.signedColor(node.meanAdvantage);
    return shade(MODES[this.mode].paint, MODES[this.mode].of(token) / this.top);
  }

  signedColor(value) {
    if (value === null) return "";
    return shade(value >= 0 ? [31, 111, 214] : [214, 69, 42], (0.6 * Math.abs(value)) / this.top);
  }

  drawScale() {
    if (this.mode === "none") return this.scale.replaceChildren();
    const bar = make("i", {});
    if (this.mode === "advantage") {
      bar.style.background = `linear-gradient(90deg, ${this.signedColor(-this.top)}, ${this.signedColor(0)}, ${this.signedColor(this.top)})`;
      this.scale.replaceChildren(signed(-this.top), bar, signed(this.top), " (mean of the leaves below)");
      return undefined;
    }
    const { paint, unit } = MODES[this.mode];
    bar.style.background = `linear-gradient(90deg, ${shade(paint, 0)}, ${shade(paint, 1)})`;
    const top = this.mode === "logprob" ? -this.top : this.top;
    this.scale.replaceChildren("0", bar, `${fullNumber(Number(top.toPrecision(2)))} ${unit} and beyond`);
    return undefined;
  }

  // ---- overview -------------------------------------------------------------

  drawOverview() {
    const rows = this.nodes[0].leaves.length;
    const length = Math.max(...this.nodes.map((node) => node.start + node.tokens.length));
    const [width, side] = [1240, 110];
    const row = rows > 16 ? 12 : 20;
    const svg = draw("svg", { viewBox: `0 0 ${width} ${rows * row + 22}`, role: "img", "aria-label": "rollout tree" });
    const x = (tokens) => (tokens / length) * (width - side);
    const place = (node, first) => {
      svg.append(this.bar(node, x, first * row, node.leaves.length * row));
      let next = first;
      for (const child of node.children) {
        place(child, next);
        next += child.leaves.length;
      }
      if (node.finish !== null && node.score !== null) {
        const advantage = node.advantage === null ? "" : signed(node.advantage);
        const at = { x: x(node.start + node.tokens.length) + 7, y: first * row + row / 2 + 4, class: node.advantage < 0 ? "bad" : "good" };
        svg.append(draw("text", at, `${fullNumber(node.score)}  ${advantage}`));
      }
    };
    place(this.nodes[0], 0);
    for (const tick of linearTicks(0, length, 8)) {
      svg.append(draw("text", { x: x(tick), y: rows * row + 15, "text-anchor": tick === 0 ? "start" : "middle" }, tick === 0 ? "0 tokens" : String(tick)));
    }
    this.overview.replaceChildren(svg);
  }

  // One cell per token, and over them a clear bar that takes the pointer.
  bar(node, x, y, height) {
    const left = x(node.start);
    const size = x(1) - x(0);
    const group = draw("g", {});
    node.tokens.forEach((token, i) => {
      const cell = draw("rect", { x: left + i * size, y, height, width: size + 0.3 });
      cell.style.fill = token.sampled ? this.tokenColor(node, token) || "var(--chip)" : "var(--chip)";
      group.append(cell);
    });
    const rect = draw("rect", { class: "bar", "data-bar": node.id, x: left, y, rx: 2, height, width: size * node.tokens.length });
    rect.addEventListener("click", () => this.reveal(node));
    rect.addEventListener("mousemove", (event) => showTip(event, this.summary(node)));
    rect.addEventListener("mouseleave", hideTip);
    group.append(rect);
    return group;
  }

  summary(node) {
    const text = node.tokens.map((token) => (token.text === null ? "" : token.text)).join("");
    const sampled = node.tokens.filter((token) => token.sampled);
    const lines = [`segment ${node.id}, ${node.tokens.length} tokens`, text.length > 200 ? `${text.slice(0, 200)} ...` : text];
    if (sampled.length > 0) {
      lines.push(`mean entropy ${fullNumber(mean(sampled.map((t) => t.entropy)))} nats`);
      lines.push(`mean log-prob ${fullNumber(mean(sampled.map((t) => t.logprob)))} nats`);
    }
    if (node.meanAdvantage !== null) lines.push(`advantage ${signed(node.meanAdvantage)}${node.finish === null ? " (mean of the leaves below)" : ""}`);
    if (node.finish !== null) lines.push(`stopped: ${node.finish}`);
    return lines.join("\n");
  }
}

function mean(values) {
  const known = values.filter((value) => value !== null && value !== undefined);
  return known.length === 0 ? null : known.reduce((a, b) => a + b, 0) / known.length;
}

function shade(paint, share, least = 0) {
  const alpha = least + (0.85 - least) * Math.min(1, Math.max(0, share));
  return `rgba(${paint.join(",")},${alpha.toFixed(3)})`;
}

function signed(value) {
  return (value >= 0 ? "+" : "\u2212") + Math.abs(value).toFixed(3);
}

function badge(name, value, text) {
  const kind = value > 0 ? " good" : value < 0 ? " bad" : "";
  return make("span", { class: `badge${kind}` }, `${name} ${text}`);
}
