"use strict";

/* The gallery at work: the form, the keys, and what they do. */
(() => {
  const { meta, marks } = Gallery;
  const at = (id) => document.getElementById(id);
  const form = at("tools");
  const look = { ground: "chequered", lines: true };
  let view = [];
  let cursor = 0;

  const list = Page.list(at("rows"), {
    make: Rows.make,
    fill: (node, index) => Rows.fill(node, view[index], { ...look, here: index === cursor }),
  });

  const wanted = () => Object.fromEntries(new FormData(form));

  /** Show what the form asks for. */
  function apply() {
    const here = view[cursor];
    view = Gallery.select(wanted());
    cursor = Math.max(0, view.indexOf(here));
    layOut();
    at("found").textContent = view.length === meta.count ? `${Page.count(meta.count)} photos`
      : `${Page.count(view.length)} of ${Page.count(meta.count)} photos`;
    at("empty").hidden = view.length > 0;
    const set = Object.entries(wanted()).filter(([name, value]) => value && !["search", "sort", "ground", "cache"].includes(name));
    at("filters-button").textContent = set.length ? `Filters (${set.length})` : "Filters";
    at("clear").disabled = !set.length;
  }

  function layOut() {
    const inner = at("columns").clientWidth - parseFloat(getComputedStyle(at("columns")).paddingLeft) * 2;
    const height = Rows.measure(inner);
    const shown = list.reset(view.length, height, at("bar").offsetHeight);
    at("too-many").hidden = shown === view.length;
    at("too-many").textContent = `The first ${Page.count(shown)} are shown: filter to see the others.`;
  }

  /** Go to the top of the list, if it has been scrolled beyond. */
  function toTop() {
    const top = at("rows").getBoundingClientRect().top - at("bar").offsetHeight;
    if (top < 0) scrollBy(0, top);
  }

  function asked() {
    cursor = 0;
    apply();
    cursor = 0;
    toTop();
    list.refill();
  }

  function walkTo(index, focus = true) {
    if (!view.length) return;
    const old = cursor;
    cursor = Math.max(0, Math.min(view.length - 1, index));
    const node = list.reveal(cursor, at("marked").hidden ? 0 : at("marked").offsetHeight + 16);
    for (const each of [old, cursor]) {
      const row = at("rows").querySelector(`[data-row="${view[each]}"]`);
      row?.classList.toggle("here", each === cursor);
    }
    if (focus) node?.parts.open.focus({ preventScroll: true });
    if (Zoom.isOpen()) Zoom.show(view[cursor], look);
  }

  /** A step from where one is; where one has scrolled away from it, to what is in sight. */
  function step(by) {
    if (Zoom.isOpen() || list.sees(cursor)) walkTo(cursor + by);
    else walkTo(list.firstInSight());
  }

  /** Mark what one is at, but never a photo that is out of sight. */
  function markHere() {
    if (Zoom.isOpen() || list.sees(cursor)) toggleMark(view[cursor], !isBad(view[cursor]));
    else walkTo(list.firstInSight());
  }

  function toggleMark(row, bad, reason) {
    Gallery.mark(row, bad, reason);
    showMarks();
    for (const node of at("rows").children) {
      const key = Gallery.key[node.dataset.row];
      node.classList.toggle("bad", marks.has(key));
      node.parts.tick.checked = marks.has(key);
    }
    if (Zoom.isOpen()) Zoom.marks();
  }

  function showMarks() {
    at("marked").hidden = !marks.size;
    at("marked-count").replaceChildren(`${Page.count(marks.size)} marked`, Page.el("span", { class: "hint" }, " as bad"));
  }

  const isBad = (row) => marks.has(Gallery.key[row]);

  at("rows").addEventListener("click", (event) => {
    const node = event.target.closest(".row");
    if (!node) return;
    const row = Number(node.dataset.row);
    const person = event.target.closest("[data-person]");
    if (person) {
      openFilters(true);
      form.elements.person.value = person.dataset.person;
      asked();
    } else if (event.target.closest(".open")) {
      walkTo(view.indexOf(row), false);
      Zoom.show(row, look);
    }
  });
  at("rows").addEventListener("change", (event) => {
    toggleMark(Number(event.target.closest(".row").dataset.row), event.target.checked);
  });
  at("rows").addEventListener("focusin", (event) => {
    const node = event.target.closest(".row");
    const index = node ? view.indexOf(Number(node.dataset.row)) : -1;
    if (index >= 0 && index !== cursor) walkTo(index, false);
  });

  const later = (() => {
    let timer;
    return () => {
      clearTimeout(timer);
      timer = setTimeout(asked, 80);
    };
  })();
  form.addEventListener("input", (event) => {
    if (event.target.name === "ground") {
      look.ground = event.target.value;
      list.refill();
    } else if (["search", "text", "number"].includes(event.target.type)) later();
    else asked();
  });
  form.addEventListener("submit", (event) => event.preventDefault());

  function openFilters(open) {
    at("filters").hidden = !open;
    at("filters-button").setAttribute("aria-expanded", open);
    layOut();
  }
  at("filters-button").addEventListener("click", () => openFilters(at("filters").hidden));
  at("clear").addEventListener("click", () => {
    const keep = Object.fromEntries(["search", "sort", "ground"].map((name) => [name, form.elements[name].value]));
    form.reset();
    for (const [name, value] of Object.entries(keep)) form.elements[name].value = value;
    asked();
  });
  for (const button of document.querySelectorAll("[data-set]")) {
    button.addEventListener("click", () => {
      openFilters(true);
      form.elements[button.dataset.set].value = button.dataset.value;
      if (form.elements.cache) form.elements.cache.value = button.dataset.cache;
      asked();
      at("bar").scrollIntoView();
    });
  }

  at("download").addEventListener("click", () => {
    const paths = [...marks].sort(([a], [b]) => (a < b ? -1 : 1));
    Page.save("exclude.csv", Page.csv([["path", "reason"], ...paths]));
  });
  at("unmark").addEventListener("click", () => {
    if (!confirm(`Unmark all ${marks.size} photos?`)) return;
    Gallery.unmarkAll();
    showMarks();
    list.refill();
  });

  Zoom.at("zoom-mark").addEventListener("change", (event) => toggleMark(Zoom.row(), event.target.checked));
  Zoom.at("reason").addEventListener("input", (event) => {
    Gallery.mark(Zoom.row(), true, event.target.value);
  });
  Zoom.at("lines").addEventListener("change", () => setLines(!look.lines));
  Zoom.at("previous").addEventListener("click", () => walkTo(cursor - 1, false));
  Zoom.at("next").addEventListener("click", () => walkTo(cursor + 1, false));
  Zoom.dialog.addEventListener("close", () => walkTo(cursor));

  function setLines(lines) {
    look.lines = lines;
    Zoom.at("lines").checked = lines;
    Zoom.redraw();
    list.refill();
  }

  function nextGround() {
    const grounds = Object.keys(Picture.GROUNDS);
    look.ground = grounds[(grounds.indexOf(look.ground) + 1) % grounds.length];
    form.elements.ground.value = look.ground;
    Zoom.redraw();
    list.refill();
  }

  const KEYS = {
    j: () => step(1),
    k: () => step(-1),
    ArrowDown: () => step(1),
    ArrowUp: () => step(-1),
    ArrowRight: () => (Zoom.isOpen() ? step(1) : false),
    ArrowLeft: () => (Zoom.isOpen() ? step(-1) : false),
    Enter: () => Zoom.show(view[cursor], look),
    x: markHere,
    g: nextGround,
    o: () => setLines(!look.lines),
    "/": () => form.elements.search.focus(),
  };

  addEventListener("keydown", (event) => {
    if (Page.typing(event)) {
      if (event.key === "Escape" && event.target === form.elements.search) event.target.blur();
      return;
    }
    const at = event.target;
    const own = { Enter: "button, summary, input", ArrowLeft: "[type=range]", ArrowRight: "[type=range]" };
    if (own[event.key] && at.closest?.(own[event.key])) return;
    if (["ArrowUp", "ArrowDown"].includes(event.key) && at.closest?.(".scroll, #facts")) return;
    if (!(event.key in KEYS) || !view.length || KEYS[event.key]() === false) return;
    event.preventDefault();
  });

  let width = 0;
  addEventListener("resize", Page.oncePerFrame(() => {
    if (innerWidth !== width) layOut();
    width = innerWidth;
  }));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    list.refill();
    Zoom.redraw();
  });

  look.ground = form.elements.ground.value;
  apply();
  showMarks();
  width = innerWidth;
  document.documentElement.dataset.ready = "yes";
})();
