"use strict";

/* One row a photo: its pictures on one canvas, and what is known of it. */
const Rows = (() => {
  const { meta } = Gallery;
  const { el } = Page;
  const BETWEEN = 8;
  const KINDS = { ok: "good", no_face: "bad", no_figure: "warn", unreadable: "bad" };
  /* The first column is the original, if any is there. */
  const first = meta.originals ? 1 : 0;
  const columns = meta.caches.length + first;
  let tile = 160;

  /** Lay out for the window's width; the height of a row, px. */
  function measure(width) {
    const narrow = matchMedia("(max-width: 820px)").matches;
    const lines = meta.caches.length + (meta.caches.length > 1);
    const beside = narrow ? width : width - 320;
    const fits = Math.floor((beside - (columns - 1) * BETWEEN) / columns);
    const text = 54 + 23 * lines + 32;
    tile = Math.max(56, Math.min(fits, narrow ? 200 : Math.max(160, text - 16)));
    const height = narrow ? tile + 16 + 6 + 42 + 21 * lines : Math.max(tile, text) + 17;
    const root = document.documentElement.style;
    root.setProperty("--tile", `${tile}px`);
    root.setProperty("--between", `${BETWEEN}px`);
    root.setProperty("--columns", columns);
    root.setProperty("--row", `${height}px`);
    root.setProperty("--which", `${Math.max(...meta.caches.map((cache) => cache.name.length)) + 0.5}ch`);
    return height;
  }

  function make() {
    const canvas = el("canvas", { "aria-hidden": "true" });
    const name = el("div", { class: "name" });
    const labels = el("div", { class: "labels" });
    const lines = el("div", { class: "lines" });
    const tick = el("input", { type: "checkbox" });
    const open = el("button", { type: "button", class: "open" }, canvas);
    const row = el("li", { class: "row" }, open,
      el("div", { class: "info" }, name, labels, lines, el("label", { class: "tick" }, tick, "Bad")));
    row.parts = { canvas, name, labels, lines, tick, open };
    return row;
  }

  function nameParts(row) {
    const key = Gallery.key[row];
    const cut = key.lastIndexOf("/") + 1;
    const face = Gallery.face[row] ? ` (face ${Gallery.face[row] + 1})` : "";
    return [cut ? el("span", { class: "folder" }, key.slice(0, cut)) : null, key.slice(cut) + face];
  }

  function badge(status) {
    const name = meta.statuses[status];
    return status < 0 ? el("span", { class: "badge bad" }, "not in this cache")
      : el("span", { class: `badge ${KINDS[name]}` }, name);
  }

  /** What one cache found: status, rung, score, coverage. */
  function cacheLine(row, i) {
    const cache = Gallery.caches[i];
    const facts = [
      cache.rung[row] >= 0 ? meta.rungs[cache.rung[row]] : null,
      cache.score[row] !== null ? `score ${cache.score[row].toFixed(3)}` : null,
      cache.coverage[row] !== null ? `coverage ${cache.coverage[row].toFixed(2)}` : null,
    ].filter(Boolean);
    return el("div", { class: "of-cache" },
      el("span", { class: "swatch", "data-colour": i % 6, "aria-hidden": "true" }),
      el("span", { class: "which" }, meta.caches[i].name), " ", badge(cache.status[row]),
      facts.length ? ` ${facts.join(" · ")}` : "");
  }

  function disagreementLine(row) {
    const value = Gallery.disagreement[row];
    return value === null ? "" : el("div", { class: "of-cache" }, `disagreement ${value.toFixed(2)}`);
  }

  /** Show a row's facts, and its pictures as soon as they are there. */
  function fill(node, row, { ground, lines, here }) {
    const { canvas, name, labels, lines: facts, tick, open } = node.parts;
    const key = Gallery.key[row];
    node.dataset.row = row;
    node.classList.toggle("bad", Gallery.marks.has(key));
    node.classList.toggle("here", here);
    name.replaceChildren(...nameParts(row).filter(Boolean));
    name.title = key;
    const person = meta.groups[Gallery.group[row]];
    labels.replaceChildren();
    if (person !== undefined) {
      labels.append(el("button", { type: "button", class: "plain person", "data-person": person, title: "Show this person" }, person));
      if (meta.labels.length) labels.append(" · ");
    }
    labels.append(Gallery.labelsOf(row).join(" · "));
    facts.replaceChildren(...meta.caches.map((_, i) => cacheLine(row, i)));
    if (meta.caches.length > 1) facts.append(disagreementLine(row));
    tick.checked = Gallery.marks.has(key);
    tick.setAttribute("aria-label", `Bad: ${key}`);
    open.setAttribute("aria-label", `Enlarge ${key}`);
    draw(canvas, node, row, ground, lines);
  }

  async function draw(canvas, node, row, ground, lines) {
    const scale = Math.min(devicePixelRatio || 1, 2);
    const side = Math.round(tile * scale);
    const between = Math.round(BETWEEN * scale);
    const wide = columns * (side + between) - between;
    // Setting a size clears, and costs more than painting over.
    if (canvas.width !== wide || canvas.height !== side) [canvas.width, canvas.height] = [wide, side];
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, wide, side);
    for (let i = 0; i < columns; i++) {
      pen.fillStyle = Picture.themed("sunk");
      pen.fillRect(i * (side + between), 0, side, side);
    }
    delete node.dataset.drawn;
    let one;
    let image;
    try {
      [one, image] = await Gallery.load(row);
    } catch (error) {
      one = { cuts: meta.caches.map(() => null), broken: String(error.message) };
    }
    // The row may show another photo by now.
    if (node.dataset.row !== String(row)) return;
    const boxed = (i, run) => {
      pen.save();
      pen.beginPath();
      pen.rect(i * (side + between), 0, side, side);
      pen.clip();
      pen.translate(i * (side + between), 0);
      run();
      pen.restore();
    };
    if (first) boxed(0, () => drawOriginal(pen, one, image, side, lines, scale));
    meta.caches.forEach((_, i) => boxed(i + first, () => drawCut(pen, one.cuts[i], image, side, ground, scale)));
    node.dataset.drawn = row;
  }

  function say(pen, text, side, scale) {
    pen.fillStyle = Picture.themed("quiet");
    pen.font = `${13 * scale}px system-ui, sans-serif`;
    pen.textAlign = "center";
    pen.fillText(text, side / 2, side / 2, side - 8);
  }

  const STATES = { missing: "no original", unreadable: "unreadable" };

  function drawOriginal(pen, one, image, side, lines, scale) {
    if (!one.original) {
      say(pen, one.broken ? "no picture" : STATES[one.state] ?? "no original", side, scale);
      return;
    }
    const [x, y, width, height] = one.original;
    const fit = side / Math.max(width, height);
    pen.translate((side - width * fit) / 2, (side - height * fit) / 2);
    pen.imageSmoothingQuality = "high";
    pen.drawImage(image, x, y, width, height, 0, 0, width * fit, height * fit);
    if (!lines || !one.photo[0]) return;
    const perPx = (width * fit) / one.photo[0];
    pen.scale(perPx, (height * fit) / one.photo[1]);
    Picture.overlay(pen, one.cuts, scale / perPx);
  }

  function drawCut(pen, cut, image, side, ground, scale) {
    if (!cut?.tile) {
      say(pen, cut ? "no crop" : "not here", side, scale);
      return;
    }
    const fit = side / Math.max(cut.tile[2], cut.tile[3]);
    const [width, height] = [Math.round(cut.tile[2] * fit), Math.round(cut.tile[3] * fit)];
    const fill = (context) => {
      context.translate(width / 2, height / 2);
      context.scale(width, height);
    };
    const result = Picture.cutout(image, cut.tile, cut.alpha, ground, [width, height], fill, 8 * scale);
    pen.drawImage(result, Math.round((side - width) / 2), Math.round((side - height) / 2));
  }

  return { measure, make, fill, nameParts, badge };
})();
