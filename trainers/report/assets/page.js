// Puts the parts of the page together from the values in it.

const data = JSON.parse(document.getElementById("page-data").textContent);
const page = { runs: data.runs, axes: data.axes, axis: "step", charts: [] };

function mountCharts() {
  const groups = new Map(data.groups.map((group) => [group.name, group.charts]));
  groups.set("rest", data.rest || []);
  for (const holder of document.querySelectorAll(".charts")) {
    for (const spec of groups.get(holder.getAttribute("data-group")) || []) {
      const chart = new Chart(spec, page);
      page.charts.push(chart);
      holder.append(chart.element);
    }
  }
}

function mountAxisChoice() {
  const nav = document.querySelector("nav");
  if (!nav || page.charts.length === 0) return;
  const choice = make("select", { id: "axis" });
  for (const [axis, title] of Object.entries(AXES)) choice.append(make("option", { value: axis }, title));
  choice.addEventListener("change", () => {
    page.axis = choice.value;
    for (const chart of page.charts) chart.redraw();
  });
  nav.append(make("label", { class: "axis-choice" }, make("small", {}, "curves over "), choice));
}

function mountRunColors() {
  for (const chip of document.querySelectorAll("[data-run]")) {
    chip.style.setProperty("--run", color(Number(chip.getAttribute("data-run"))));
  }
}

function mountExtremes() {
  const holder = document.getElementById("extremes");
  if (!holder) return;
  const columns = [["Best", data.best], ["Worst", data.worst]].map(([title, responses]) =>
    make("div", {}, make("h3", {}, title), ...responses.map(response)),
  );
  holder.replaceChildren(make("div", { class: "extremes" }, ...columns));
}

function response(found) {
  const facts = make(
    "div",
    { class: "facts" },
    badge("score", found.score, fullNumber(found.score)),
    badge("adv", found.advantage, signed(found.advantage)),
    make("span", { class: "badge" }, found.finish),
    make("span", {}, `step ${found.step}, ${found.numTokens} tokens`),
    found.answer === null ? null : make("span", {}, `reference ${found.answer}`),
  );
  const text = make("div", { class: "text" }, make("span", { class: "prompt" }, found.prompt), found.text);
  return make("div", { class: "response" }, facts, text);
}

mountCharts();
mountAxisChoice();
mountRunColors();
mountExtremes();
for (const holder of document.querySelectorAll(".intervals")) drawIntervals(holder);
const treeHolder = document.getElementById("tree-view");
if (treeHolder && data.trees.length > 0) page.tree = new TreeView(treeHolder, data.trees);
