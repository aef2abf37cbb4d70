"use strict";

/* A photo enlarged: two layers, one over the other, and a slider that wipes between them. */
const Zoom = (() => {
  const { meta } = Gallery;
  const { el } = Page;
  const at = (id) => document.getElementById(id);
  const dialog = at("zoom");
  const [left, right, wipe] = ["left", "right", "wipe"].map(at);
  const layers = [at("stage-left"), at("stage-right")].map((canvas) => canvas.getContext("2d"));
  const lastWithAlpha = meta.caches.findLastIndex((cache) => cache.alpha);
  left.value = "original";
  right.value = String(lastWithAlpha < 0 ? meta.caches.length - 1 : lastWithAlpha);
  let row = -1;
  let shown = null;
  let look = { ground: "chequered", lines: true };

  /** Show a row; the dialog opens if it is closed. */
  async function show(which, how) {
    row = which;
    look = how;
    at("zoom-name").replaceChildren(...Rows.nameParts(row).filter(Boolean));
    at("lines").checked = look.lines;
    facts(null);
    marks();
    if (!dialog.open) {
      dialog.showModal();
      wipe.focus();
    }
    delete dialog.dataset.drawn;
    let loaded;
    try {
      loaded = await Gallery.load(row);
    } catch (error) {
      loaded = [{ photo: [0, 0], cuts: meta.caches.map(() => null), why: error.message }, null];
    }
    if (row !== which) return;
    shown = loaded;
    facts(shown[0]);
    draw();
  }

  function marks() {
    const key = Gallery.key[row];
    at("zoom-mark").checked = Gallery.marks.has(key);
    at("reason").disabled = !Gallery.marks.has(key);
    at("reason").value = Gallery.marks.get(key) ?? "";
  }

  function facts(one) {
    const said = [];
    const person = meta.groups[Gallery.group[row]];
    const first = [person, ...Gallery.labelsOf(row)];
    if (one?.photo[0]) first.push(`${one.photo[0]} x ${one.photo[1]} px`);
    said.push(el("div", {}, first.filter(Boolean).join(" · ")));
    const states = {
      missing: "The original is not there: only the crop is shown.",
      changed: "The original has changed since the cache was built.",
      unreadable: "The original can't be decoded.",
    };
    if (one && states[one.state]) said.push(el("div", {}, states[one.state]));
    meta.caches.forEach((cache, i) => {
      const its = Gallery.caches[i];
      const parts = [
        its.rung[row] >= 0 ? meta.rungs[its.rung[row]] : null,
        its.score[row] !== null ? `score ${its.score[row].toFixed(3)}` : null,
        its.coverage[row] !== null ? `coverage ${its.coverage[row].toFixed(3)}` : null,
        one?.cuts[i]?.reason || null,
      ].filter(Boolean);
      said.push(el("div", {},
        el("span", { class: "swatch", "data-colour": i % 6, "aria-hidden": "true" }), `${cache.name} `,
        Rows.badge(its.status[row]), ` ${parts.join(" · ")}`));
    });
    const value = Gallery.disagreement[row];
    if (value) said.push(el("div", {}, `disagreement ${value.toFixed(2)}${one?.why ? `: ${one.why}` : ""}`));
    at("facts").replaceChildren(...said);
  }

  /** What is looked at, px of the photo: the crops, or all of the photo. */
  function view(one) {
    const [width, height] = one.photo;
    const boxes = one.cuts.filter((cut) => cut?.crop && cut.tile).map(({ crop: [cx, cy, w, h, angle] }) => {
      const turn = (angle * Math.PI) / 180;
      const across = Math.abs(w * Math.cos(turn)) + Math.abs(h * Math.sin(turn));
      const down = Math.abs(w * Math.sin(turn)) + Math.abs(h * Math.cos(turn));
      return [cx - across / 2, cy - down / 2, cx + across / 2, cy + down / 2];
    });
    if (width && (at("whole").checked || !boxes.length)) boxes.push([0, 0, width, height]);
    if (!boxes.length) return [0, 0, 1, 1];
    const [x0, y0] = [0, 1].map((i) => Math.min(...boxes.map((box) => box[i])));
    const [x1, y1] = [2, 3].map((i) => Math.max(...boxes.map((box) => box[i])));
    return [x0, y0, x1, y1];
  }

  function draw() {
    if (!shown || !dialog.open) return;
    const [one, image] = shown;
    const box = at("stage").getBoundingClientRect();
    const scale = Math.min(devicePixelRatio || 1, 2);
    const [width, height] = [Math.round(box.width * scale), Math.round(box.height * scale)];
    const [x0, y0, x1, y1] = view(one);
    const fit = Math.min(width / (x1 - x0), height / (y1 - y0)) * 0.98;
    const place = (context) => {
      context.translate(width / 2, height / 2);
      context.scale(fit, fit);
      context.translate(-(x0 + x1) / 2, -(y0 + y1) / 2);
    };
    [left.value, right.value].forEach((layer, i) => {
      const context = layers[i];
      Picture.blank(context, width, height);
      context.imageSmoothingQuality = "high";
      if (layer === "original") drawOriginal(context, one, image, place, fit, scale);
      else drawCut(context, one.cuts[layer], image, place, [width, height], scale);
    });
    wiped();
    dialog.dataset.drawn = row;
  }

  function drawOriginal(context, one, image, place, fit, scale) {
    const { canvas } = context;
    context.fillStyle = Picture.themed("sunk");
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.save();
    place(context);
    const [width, height] = one.photo;
    if (one.original) context.drawImage(image, ...one.original, 0, 0, width, height);
    // The crop holds more detail than the small original; without an original it is all there is.
    const sharp = one.cuts.find((cut) => cut?.tile && cut.crop);
    if (sharp && width) {
      context.save();
      context.beginPath();
      context.rect(0, 0, width, height);
      context.clip();
      Picture.intoCrop(context, sharp.crop);
      Picture.paste(context, image, sharp.tile);
      context.restore();
    }
    if (look.lines && width) Picture.overlay(context, one.cuts, (1.4 * scale) / fit);
    context.restore();
    if (!one.original && !sharp) say(context, "no picture", scale);
  }

  function drawCut(context, cut, image, place, size, scale) {
    if (!cut?.tile || !cut.crop) {
      say(context, cut ? "no crop" : "not in this cache", scale);
      return;
    }
    const into = (layer) => {
      place(layer);
      Picture.intoCrop(layer, cut.crop);
    };
    context.drawImage(Picture.cutout(image, cut.tile, cut.alpha, look.ground, size, into, 12 * scale), 0, 0);
  }

  function say(context, text, scale) {
    const { canvas } = context;
    context.fillStyle = Picture.themed("sunk");
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = Picture.themed("quiet");
    context.font = `${16 * scale}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.fillText(text, canvas.width / 2, canvas.height / 2);
  }

  function wiped() {
    layers[1].canvas.style.clipPath = `inset(0 0 0 ${wipe.value}%)`;
    at("edge").style.left = `${wipe.value}%`;
  }

  function drag(event) {
    const box = at("stage").getBoundingClientRect();
    wipe.value = (100 * (event.clientX - box.left)) / box.width;
    wiped();
  }

  at("stage").addEventListener("pointerdown", (event) => {
    at("stage").setPointerCapture(event.pointerId);
    drag(event);
  });
  at("stage").addEventListener("pointermove", (event) => {
    if (at("stage").hasPointerCapture(event.pointerId)) drag(event);
  });
  wipe.addEventListener("input", wiped);
  for (const field of [left, right, at("whole")]) field.addEventListener("change", draw);
  at("zoom-close").addEventListener("click", () => dialog.close());
  new ResizeObserver(Page.oncePerFrame(draw)).observe(at("stage"));

  return { dialog, show, marks, redraw: draw, isOpen: () => dialog.open, row: () => row, at };
})();
