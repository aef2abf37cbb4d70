"use strict";

/* A list of photos as cards, some at a time, and a window that shows one of them large. */
Page.photos = ({ items, tiles, card, facts }) => {
  const { el } = Page;
  const AT_ONCE = 48;
  const at = (id) => document.getElementById(id);
  const [holder, dialog] = [at("photos"), at("photo")];
  let view = [];
  let place = 0;

  /** Which tiles a photo's picture holds; all, unless the item says how many. */
  const shown = (item) => tiles.slice(0, item.tiles ?? tiles.length);

  /* One file holds a photo's tiles side by side: each is shown as a background that is moved along. */
  function tile(item, number) {
    const count = shown(item).length;
    const node = el("span", { class: "tile" });
    node.style.backgroundImage = `url("${item.picture}")`;
    node.style.backgroundSize = `${count * 100}% 100%`;
    node.style.backgroundPosition = `${count > 1 ? (100 * number) / (count - 1) : 0}% 0`;
    node.style.aspectRatio = String(item.ratio ?? 1);
    return node;
  }

  function make(number) {
    const item = items[number];
    const picture = item.picture ? el("span", { class: "tiles" }, ...shown(item).map((_, i) => tile(item, i)))
      : el("span", { class: "no-picture" }, "no picture", el("span", { class: "only-heard" }, ` of ${item.key}: enlarge`));
    const open = el("button", { type: "button", class: "open", "aria-label": item.picture && `Enlarge ${item.key}`, click: () => show(view.indexOf(number)) }, picture);
    return el("li", { class: "photo" }, open, ...card(item), el("p", { class: "name" }, item.key));
  }

  function grow() {
    const from = holder.children.length;
    holder.append(...view.slice(from, from + AT_ONCE).map(make));
    at("photos-more").hidden = holder.children.length >= view.length;
    at("photos-more").textContent = `Show more (${Page.count(view.length - holder.children.length)})`;
  }

  function show(index) {
    if (index < 0 || index >= view.length) return;
    place = index;
    const item = items[view[place]];
    at("photo-name").textContent = item.key;
    at("photo-tiles").replaceChildren(...(item.picture ? shown(item) : []).map((name, i) => {
      const picture = tile(item, i);
      picture.setAttribute("role", "img");
      picture.setAttribute("aria-label", name);
      picture.style.display = "block";
      return el("figure", {}, picture, el("figcaption", {}, name));
    }));
    at("photo-facts").replaceChildren(...facts(item));
    at("photo-place").textContent = `${Page.count(place + 1)} of ${Page.count(view.length)}`;
    at("photo-previous").disabled = place === 0;
    at("photo-next").disabled = place === view.length - 1;
    at("photo-body").scrollTop = 0;
    if (!dialog.open) dialog.showModal();
  }

  const buttons = () => [...holder.querySelectorAll(".open")];

  function walk(by) {
    if (dialog.open) {
      show(place + by);
      return;
    }
    const all = buttons();
    const here = all.indexOf(document.activeElement);
    if (here + by === all.length && all.length < view.length) grow();
    buttons()[here < 0 ? 0 : Math.max(0, here + by)]?.focus();
  }

  at("photos-more").addEventListener("click", () => {
    const from = holder.children.length;
    grow();
    buttons()[from]?.focus();
  });
  at("photo-close").addEventListener("click", () => dialog.close());
  at("photo-previous").addEventListener("click", () => walk(-1));
  at("photo-next").addEventListener("click", () => walk(1));
  dialog.addEventListener("close", () => {
    while (holder.children.length <= place && holder.children.length < view.length) grow();
    buttons()[place]?.focus();
  });
  const KEYS = { j: 1, k: -1 };
  const IN_WINDOW = { ArrowRight: 1, ArrowLeft: -1 };
  addEventListener("keydown", (event) => {
    if (Page.typing(event)) return;
    const by = KEYS[event.key] ?? (dialog.open ? IN_WINDOW[event.key] : undefined);
    if (by) walk(by);
    else if (event.key === "/" && !dialog.open) document.querySelector("input[type=search]")?.focus();
    else return;
    event.preventDefault();
  });

  /** A share as a bar, for people and for readers of screens alike. */
  function bar(part, label) {
    const SVG = "http://www.w3.org/2000/svg";
    const node = document.createElementNS(SVG, "svg");
    for (const [name, value] of Object.entries({ class: "bar", viewBox: "0 0 100 8", preserveAspectRatio: "none", role: "img", "aria-label": label })) {
      node.setAttribute(name, value);
    }
    for (const [name, width] of [["rail", 100], ["part", 100 * part]]) {
      const rect = document.createElementNS(SVG, "rect");
      rect.setAttribute("class", name);
      rect.setAttribute("width", width);
      rect.setAttribute("height", 8);
      node.append(rect);
    }
    return node;
  }

  return {
    /** Show these items, given by number, in this order. */
    show(numbers) {
      view = numbers;
      holder.replaceChildren();
      grow();
      at("photos-none").hidden = view.length > 0;
    },
    bar,
  };
};
