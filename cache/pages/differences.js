"use strict";

/* The page of differences: the form chooses the photos. */
(() => {
  const { el, data } = Page;
  const { classes, names, tiles } = data.meta[0];
  const items = data.photos.flat();
  const at = (id) => document.getElementById(id);
  const form = at("finder");

  const rights = (item) => item.says.map((code) => code === item.truth);
  const percent = (share) => (share == null ? "" : ` ${(100 * share).toFixed(0)} %`);

  /** What each file says, right or wrong where that is known. */
  function answers(item) {
    const right = rights(item);
    return item.says.map((code, file) => el("p", { class: "line" },
      el("span", { class: item.truth < 0 ? "badge" : right[file] ? "badge good" : "badge bad" }, classes[code]),
      el("span", { class: "quiet small" }, `${percent(item.sure[file])} ${names[file]}`)));
  }

  const list = Page.photos({
    items,
    tiles,
    card: (item) => [...answers(item), item.truth < 0 ? null : el("p", { class: "line small" }, "is ", el("strong", {}, classes[item.truth]))].filter(Boolean),
    facts: (item) => {
      const right = rights(item);
      const rows = item.says.map((code, file) => el("tr", {},
        el("th", { scope: "row" }, names[file]),
        el("td", {}, el("span", { class: item.truth < 0 ? "badge" : right[file] ? "badge good" : "badge bad" }, classes[code])),
        el("td", { class: "number" }, percent(item.sure[file])),
        el("td", { class: "long" }, item.sure[file] == null ? "" : list.bar(item.sure[file], percent(item.sure[file]).trim()))));
      return [el("table", { class: "guesses" }, el("tbody", {}, ...rows)),
        el("p", {}, item.truth < 0 ? "What it is, is not known." : `It is ${classes[item.truth]}.`)];
    },
  });

  const KINDS = {
    some: (right) => right.includes(true),
    none: (right) => !right.includes(true),
  };

  function apply() {
    const wanted = Object.fromEntries(new FormData(form));
    const words = wanted.search.toLowerCase().split(/\s+/).filter(Boolean);
    const pair = wanted.pair ? wanted.pair.split(",").map(Number) : null;
    const only = (right) => right.every((one, file) => one === (file === Number(wanted.right)));
    const chosen = items.map((_, number) => number).filter((number) => {
      const item = items[number];
      return (!wanted.class || item.class === Number(wanted.class))
        && (!wanted.right || (item.truth >= 0 && (KINDS[wanted.right] ?? only)(rights(item))))
        && (!pair || item.says[pair[0]] !== item.says[pair[1]])
        && words.every((word) => item.key.toLowerCase().includes(word));
    });
    if (wanted.sort === "name") chosen.sort((a, b) => (items[a].key < items[b].key ? -1 : 1));
    list.show(chosen);
    at("found").textContent = `${Page.count(chosen.length)} photos`;
  }

  for (const button of document.querySelectorAll("[data-class]")) {
    button.addEventListener("click", () => {
      form.reset();
      form.elements.class.value = button.dataset.class;
      apply();
      at("list").scrollIntoView();
    });
  }
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
  document.documentElement.dataset.ready = "yes";
})();
