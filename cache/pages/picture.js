"use strict";

/* Pictures of records. One file a photo holds all its tiles side by side: the original, and for each
   cache the crop and the figure's alpha as a grey picture. Ground, outlines and wipes are drawn here. */
const Picture = (() => {
  const KEEP = 160;
  const loaded = new Map();
  const PALETTE = ["#ff4d9d", "#22c7f2", "#ffb020", "#7bd84a", "#b18cff", "#ff7a45"];
  const GROUNDS = { chequered: null, black: "#000", white: "#fff", green: "#00b140", grey: "#808080" };

  /** A decoded picture; the latest stay at hand. */
  function load(src) {
    let picture = loaded.get(src);
    loaded.delete(src);
    if (!picture) {
      const image = new Image();
      image.src = src;
      picture = image.decode().then(() => image);
      picture.catch(() => loaded.delete(src));
    }
    loaded.set(src, picture);
    if (loaded.size > KEEP) loaded.delete(loaded.keys().next().value);
    return picture;
  }

  /* Colours of the scheme are read once: asking for a style makes the browser lay the page out. */
  let colours = null;
  const patterns = new Map();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    colours = null;
    patterns.clear();
  });

  /** A colour of the page by its name in kit.css. */
  function themed(name) {
    colours ??= Object.fromEntries(["sunk", "quiet", "chequer-a", "chequer-b"].map((each) =>
      [each, getComputedStyle(document.documentElement).getPropertyValue(`--${each}`)]));
    return colours[name];
  }

  function chequer(context, unit) {
    if (!patterns.has(unit)) patterns.set(unit, drawChequer(context, unit));
    return patterns.get(unit);
  }

  function drawChequer(context, unit) {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 2 * unit;
    const pen = tile.getContext("2d");
    pen.fillStyle = themed("chequer-a");
    pen.fillRect(0, 0, 2 * unit, 2 * unit);
    pen.fillStyle = themed("chequer-b");
    pen.fillRect(0, 0, unit, unit);
    pen.fillRect(unit, unit, unit, unit);
    return context.createPattern(tile, "repeat");
  }

  const scratch = [0, 1].map(() => document.createElement("canvas").getContext("2d"));

  function blank(context, width, height) {
    const { canvas } = context;
    // Setting the size clears, and costs more than clearing.
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.globalCompositeOperation = "source-over";
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
  }

  function paste(context, image, [x, y, width, height]) {
    context.drawImage(image, x, y, width, height, -0.5, -0.5, 1, 1);
  }

  /* figure = crop * alpha + ground * (1 - alpha), in blend modes alone: a page that was opened from the
     disk may draw pictures but not read their pixels, and no mask takes a grey picture as alpha. */
  /**
   * A crop or its figure on a ground.
   * @param size width and height of the result, px
   * @param place sets a context's transform so that the crop fills the unit square around 0, 0
   * @param unit side of a field of the chequers, px
   * @returns a canvas, which the next call draws over
   */
  function cutout(image, tile, alpha, ground, [width, height], place, unit) {
    const [front, back] = scratch;
    blank(front, width, height);
    front.save();
    place(front);
    paste(front, image, tile);
    if (alpha) {
      front.globalCompositeOperation = "multiply";
      paste(front, image, alpha);
    }
    front.restore();
    blank(back, width, height);
    back.save();
    place(back);
    if (alpha) paste(back, image, alpha);
    else {
      back.fillStyle = "#fff";
      back.fillRect(-0.5, -0.5, 1, 1);
    }
    back.restore();
    back.globalCompositeOperation = "difference";
    back.fillStyle = "#fff";
    back.fillRect(0, 0, width, height);
    back.globalCompositeOperation = "multiply";
    back.fillStyle = GROUNDS[ground] ?? chequer(back, Math.round(unit));
    back.fillRect(0, 0, width, height);
    back.globalCompositeOperation = "lighter";
    back.drawImage(front.canvas, 0, 0);
    return back.canvas;
  }

  /** A context whose unit square is the crop, seen from one whose unit is the photo's px. */
  function intoCrop(context, [cx, cy, width, height, angle]) {
    context.translate(cx, cy);
    context.rotate((angle * Math.PI) / 180);
    context.scale(width, height);
  }

  /* A dark rim under each line keeps it visible on any photo. */
  function line(context, path, colour, px, dash = []) {
    context.setLineDash(dash);
    context.lineWidth = px * 2.4;
    context.strokeStyle = "rgb(0 0 0 / 55%)";
    context.stroke(path);
    context.lineWidth = px;
    context.strokeStyle = colour;
    context.stroke(path);
    context.setLineDash([]);
  }

  /**
   * Face box, landmarks, crop frame and figure outline of each cache, on a context in the photo's px.
   * @param cuts per cache {box, marks, crop, outline} or null
   * @param px the photo's px that one px of the screen covers
   */
  function overlay(context, cuts, px) {
    const drawn = new Set();
    cuts.forEach((cut, number) => {
      if (!cut) return;
      const colour = PALETTE[number % PALETTE.length];
      const once = (what, draw) => {
        const id = JSON.stringify(what);
        if (!what || drawn.has(id)) return;
        drawn.add(id);
        draw();
      };
      once(cut.crop, () => {
        const frame = new Path2D();
        const turned = new DOMMatrix().translate(cut.crop[0], cut.crop[1]).rotate(cut.crop[4]);
        const corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([x, y]) =>
          turned.transformPoint({ x: (x * cut.crop[2]) / 2, y: (y * cut.crop[3]) / 2 }));
        corners.forEach((p, i) => (i ? frame.lineTo(p.x, p.y) : frame.moveTo(p.x, p.y)));
        frame.closePath();
        line(context, frame, colour, px, [5 * px, 3 * px]);
      });
      if (cut.outline && cut.crop) {
        const figure = new Path2D();
        const turned = new DOMMatrix().translate(cut.crop[0], cut.crop[1]).rotate(cut.crop[4])
          .scale(cut.crop[2] / 1000, cut.crop[3] / 1000).translate(-500, -500);
        for (const points of cut.outline) {
          for (let i = 0; i < points.length; i += 2) {
            const p = turned.transformPoint({ x: points[i], y: points[i + 1] });
            if (i) figure.lineTo(p.x, p.y);
            else figure.moveTo(p.x, p.y);
          }
          figure.closePath();
        }
        line(context, figure, colour, px * 1.2);
      }
      once(cut.box, () => {
        const face = new Path2D();
        face.rect(cut.box[0], cut.box[1], cut.box[2] - cut.box[0], cut.box[3] - cut.box[1]);
        line(context, face, "#ffe14d", px * 1.2);
      });
      once(cut.marks, () => {
        for (let i = 0; i < 10; i += 2) {
          context.beginPath();
          context.arc(cut.marks[i], cut.marks[i + 1], 2.2 * px, 0, 7);
          context.fillStyle = "#ffe14d";
          context.fill();
          context.lineWidth = 0.8 * px;
          context.strokeStyle = "rgb(0 0 0 / 70%)";
          context.stroke();
        }
      });
    });
  }

  return { load, cutout, intoCrop, paste, overlay, blank, themed, GROUNDS };
})();
