"use strict";

/* A long list of rows of one height, of which only those in sight exist. The window scrolls. */
Page.list = (holder, { make, fill }) => {
  const OVERSCAN = 3;
  /* Browsers lose precision beyond some 17 million px, and cut off what is longer. */
  const LONGEST = 15e6;
  const shown = new Map();
  const spare = [];
  let count = 0;
  let height = 100;
  let covered = 0;

  function drop(index) {
    const node = shown.get(index);
    shown.delete(index);
    node.remove();
    spare.push(node);
  }

  function put(node, index) {
    node.style.transform = `translateY(${index * height}px)`;
    node.setAttribute("aria-posinset", index + 1);
    node.setAttribute("aria-setsize", count);
    fill(node, index);
  }

  function add(index) {
    const node = spare.pop() ?? make();
    put(node, index);
    // In order, so that Tab walks down; rows that stay are not moved, so that the focus stays.
    let after = null;
    let nearest = Infinity;
    for (const [other, its] of shown) {
      if (other > index && other < nearest) [nearest, after] = [other, its];
    }
    holder.insertBefore(node, after);
    shown.set(index, node);
  }

  function draw() {
    const top = holder.getBoundingClientRect().top - covered;
    const first = Math.max(0, Math.floor(-top / height) - OVERSCAN);
    const last = Math.min(count, Math.ceil((innerHeight - covered - top) / height) + OVERSCAN);
    for (const index of [...shown.keys()]) if (index < first || index >= last) drop(index);
    for (let index = first; index < last; index++) if (!shown.has(index)) add(index);
  }

  const later = Page.oncePerFrame(draw);
  addEventListener("scroll", later, { passive: true });
  addEventListener("resize", later);

  return {
    /** Other rows, or rows of another height: all are filled anew. */
    reset(rows, rowHeight, coveredAbove) {
      height = rowHeight;
      covered = coveredAbove;
      count = Math.min(rows, Math.floor(LONGEST / height));
      holder.style.height = `${count * height}px`;
      // Rows stay where they are, so that the focus does too.
      for (const [index, node] of [...shown]) {
        if (index < count) put(node, index);
        else drop(index);
      }
      draw();
      return count;
    },
    /** The rows in sight, filled anew. */
    refill() {
      for (const [index, node] of shown) fill(node, index);
    },
    /** Scroll just so far that a row is in sight, above what covers the window's foot; its element. */
    reveal(index, coveredBelow = 0) {
      const top = holder.getBoundingClientRect().top + index * height;
      const over = top + height - (innerHeight - coveredBelow);
      if (top < covered) scrollBy(0, top - covered);
      else if (over > 0) scrollBy(0, Math.min(over, top - covered));
      draw();
      return shown.get(index);
    },
    /** Is a part of a row in sight? */
    sees(index) {
      const top = holder.getBoundingClientRect().top + index * height;
      return top + height > covered && top < innerHeight;
    },
    /** The first row that is wholly in sight. */
    firstInSight() {
      const top = holder.getBoundingClientRect().top - covered;
      return Math.max(0, Math.min(count - 1, Math.ceil(-top / height)));
    },
  };
};
