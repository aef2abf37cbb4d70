"use strict";

/* The errors page: the matrix and the form choose the photos. */
(() => {
  const { el, data } = Page;
  const { classes } = data.meta[0];
  const items = data.photos.flat();
  const at = (id) => document.getElementById(id);
  const form = at("finder");
  const cells = [...at("matrix").querySelectorAll("button")];
  const percent = (share) => `${(100 * share).toFixed(1)} %`;

  const list = Page.photos({
    items,
    tiles: data.meta[0].tiles,
    card: (item) => [el("p", { class: "line" },
      item.truth === item.predicted ? el("span", { class: "badge good" }, "right") : el("span", { class: "badge bad" }, classes[item.predicted]),
      ` ${percent(item.sure)}`, ...(item.truth === item.predicted ? [`: ${classes[item.truth]}`] : [`, is ${classes[item.truth]} (${percent(item.true_p)})`]))],
    facts,
  });

  function facts(item) {
    const rows = item.top.map(([code, p]) => el("tr", { class: code === item.truth ? "true" : "" },
      el("th", { scope: "row" }, classes[code], code === item.truth ? " (true)" : ""),
      el("td", { class: "number" }, percent(p)),
      el("td", { class: "long" }, list.bar(p, percent(p)))));
    return [
      el("table", { class: "guesses" }, el("tbody", {}, ...rows)),
      el("p", { class: "quiet small" }, item.told),
    ];
  }

  const ORDERS = {
    worst: (a, b) => items[b].worse - items[a].worse,
    unsure: (a, b) => items[a].sure - items[b].sure,
    name: (a, b) => (items[a].key < items[b].key ? -1 : 1),
  };

  function apply() {
    const wanted = Object.fromEntries(new FormData(form));
    const words = wanted.search.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = items.map((_, number) => number).filter((number) => {
      const item = items[number];
      const right = item.truth === item.predicted;
      return (!wanted.kind || (wanted.kind === "right") === right)
        && (!wanted.truth || item.truth === Number(wanted.truth))
        && (!wanted.predicted || item.predicted === Number(wanted.predicted))
        && words.every((word) => item.key.toLowerCase().includes(word));
    });
    list.show(chosen.sort(ORDERS[wanted.sort]));
    let counted = 0;
    for (const cell of cells) {
      const { truth, predicted } = cell.dataset;
      const here = (!wanted.truth || truth === wanted.truth) && (!wanted.predicted || predicted === wanted.predicted)
        && (!wanted.kind || (wanted.kind === "right") === (truth === predicted));
      if (here) counted += Number(cell.textContent);
      cell.setAttribute("aria-pressed", truth === wanted.truth && predicted === wanted.predicted);
    }
    at("found").textContent = words.length || counted === chosen.length ? `${Page.count(chosen.length)} photos`
      : `${Page.count(chosen.length)} of ${Page.count(counted)} photos are in this page`;
  }

  for (const cell of cells) {
    cell.addEventListener("click", () => {
      const again = cell.getAttribute("aria-pressed") === "true";
      form.elements.kind.value = again ? "wrong" : "";
      form.elements.truth.value = again ? "" : cell.dataset.truth;
      form.elements.predicted.value = again ? "" : cell.dataset.predicted;
      apply();
      if (!again) at("list").scrollIntoView();
    });
  }

  /* From cell to cell: the next one that holds photos in that direction. */
  const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  at("matrix").addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step || event.target.tagName !== "BUTTON") return;
    event.preventDefault();
    let [row, column] = [Number(event.target.dataset.truth), Number(event.target.dataset.predicted)];
    for (;;) {
      [row, column] = [row + step[0], column + step[1]];
      if (row < 0 || column < 0 || row >= classes.length || column >= classes.length) return;
      const next = cells.find((cell) => cell.dataset.truth === String(row) && cell.dataset.predicted === String(column));
      if (next) {
        next.focus();
        return;
      }
    }
  });

  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
  document.documentElement.dataset.ready = "yes";
})();
