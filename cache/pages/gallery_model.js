"use strict";

/* What the gallery knows of its rows, which of them are asked for, in which order, and which are bad. */
const Gallery = (() => {
  const meta = Page.data.meta[0];
  const parts = Page.data.rows ?? [];
  const joined = (get) => [].concat(...parts.map(get));
  const key = joined((part) => part.key);
  const face = joined((part) => part.face);
  const group = joined((part) => part.group);
  const disagreement = joined((part) => part.disagreement);
  const labels = meta.labels.map((_, i) => joined((part) => part.labels[i]));
  const caches = meta.caches.map((_, i) => ({
    status: joined((part) => part.caches[i].status),
    rung: joined((part) => part.caches[i].rung),
    score: joined((part) => part.caches[i].score),
    coverage: joined((part) => part.caches[i].coverage),
  }));
  const folded = key.map(fold);

  /** Text as it is searched: without regard to case and to how accents are encoded. */
  function fold(text) {
    return text.normalize("NFKC").toLowerCase();
  }

  const most = (row, value) => caches.reduce((worst, cache) => Math.max(worst, value(cache, row)), -Infinity);
  const TROUBLE = { ok: 0, no_figure: 1, no_face: 2, unreadable: 3 };
  const trouble = meta.statuses.map((name) => TROUBLE[name]);
  const SORTS = {
    /* Status, then how far down the ladder, then the score. A photo that a cache lacks is the worst. */
    worst: (row) => [
      -most(row, (cache) => (cache.status[row] < 0 ? 9 : trouble[cache.status[row]])),
      -most(row, (cache) => cache.rung[row]),
      lowest(row),
    ],
    score: (row) => [lowest(row)],
    coverage: (row) => [
      -caches.reduce((far, cache, i) => {
        const its = cache.coverage[row];
        return its === null ? far : Math.max(far, Math.abs(its - meta.caches[i].usualCoverage));
      }, -1),
    ],
    disagreement: (row) => [-(disagreement[row] ?? -1)],
    source: () => [],
  };

  /* Where no detector saw a face, there is no score: below every score. */
  function lowest(row) {
    return caches.reduce((low, cache) => {
      const looked = cache.rung[row] >= 0 && meta.rungs[cache.rung[row]] !== "whole";
      return looked ? Math.min(low, cache.score[row] ?? -1) : low;
    }, 2);
  }

  const orders = new Map();

  /** All rows in an order; equal ones as in the cache. */
  function ordered(sort) {
    if (!orders.has(sort)) {
      const rows = Array.from(key, (_, row) => row);
      if (sort === "name") {
        const { compare } = new Intl.Collator("en", { numeric: true });
        rows.sort((a, b) => compare(key[a], key[b]) || face[a] - face[b]);
      } else {
        const by = rows.map(SORTS[sort]);
        rows.sort((a, b) => {
          for (let i = 0; i < by[a].length; i++) if (by[a][i] !== by[b][i]) return by[a][i] - by[b][i];
          return a - b;
        });
      }
      orders.set(sort, rows);
    }
    return orders.get(sort);
  }

  const number = (text) => (text === undefined || text === "" ? null : Number(text));
  const within = (value, [from, to]) =>
    (from === null || (value !== null && value >= from)) && (to === null || (value !== null && value <= to));

  /** Does a cache's record match all that is asked of one? */
  function recordTest(wanted) {
    const absent = wanted.status === "absent";
    const status = meta.statuses.indexOf(wanted.status);
    const rung = meta.rungs.indexOf(wanted.rung);
    const score = [number(wanted["score-from"]), number(wanted["score-to"])];
    const coverage = [number(wanted["coverage-from"]), number(wanted["coverage-to"])];
    const open = [status, rung].every((x) => x < 0) && [...score, ...coverage].every((x) => x === null);
    if (open && !absent) return null;
    return (cache, row) =>
      (absent ? cache.status[row] < 0 : status < 0 || cache.status[row] === status)
      && (rung < 0 || cache.rung[row] === rung)
      && within(cache.score[row], score)
      && within(cache.coverage[row], coverage);
  }

  /**
   * The rows to show.
   * @param wanted values of the form's fields by their names; an empty text asks for nothing
   */
  function select(wanted) {
    const tests = [];
    const words = fold(wanted.search ?? "").split(/\s+/).filter(Boolean);
    if (words.length) tests.push((row) => words.every((word) => folded[row].includes(word)));
    labels.forEach((values, i) => {
      const code = number(wanted[`label-${i}`]);
      const range = [number(wanted[`label-${i}-from`]), number(wanted[`label-${i}-to`])];
      if (code !== null) tests.push((row) => values[row] === code);
      if (range.some((x) => x !== null)) tests.push((row) => within(values[row], range));
    });
    const person = fold(wanted.person ?? "").trim();
    if (person) {
      const matches = new Set(meta.groups.flatMap((name, i) => (fold(name).includes(person) ? [i] : [])));
      tests.push((row) => matches.has(group[row]));
    }
    const least = number(wanted.disagreement);
    if (least !== null) tests.push((row) => disagreement[row] !== null && disagreement[row] >= least);
    if (wanted.marked) tests.push((row) => marks.has(key[row]));
    const record = recordTest(wanted);
    if (record) {
      const among = wanted.cache ? [caches[wanted.cache]] : caches;
      tests.push((row) => among.some((cache) => record(cache, row)));
    }
    return ordered(wanted.sort || "worst").filter((row) => tests.every((test) => test(row)));
  }

  /** A row's labels as texts. */
  function labelsOf(row) {
    return meta.labels.map((label, i) => {
      const value = labels[i][row];
      const text = label.values ? label.values[value] : value;
      return `${label.name} ${text ?? "unknown"}`;
    });
  }

  /* Marks outlive a reload: marking 20,000 photos takes more than one sitting. */
  const shelf = `figureground marks ${meta.id}`;
  const marks = new Map(Page.recall(shelf) ?? []);

  function mark(row, bad, reason = "") {
    if (bad) marks.set(key[row], reason);
    else marks.delete(key[row]);
    Page.remember(shelf, [...marks]);
  }

  function unmarkAll() {
    marks.clear();
    Page.remember(shelf, []);
  }

  /** Path and drawing data of a row's picture. */
  const picture = (row) => {
    const [folder, file] = [Math.floor(row / meta.chunk), row % meta.chunk];
    return `pictures/${String(folder).padStart(5, "0")}/${String(file).padStart(2, "0")}.jpg`;
  };
  const detail = async (row) => (await Page.chunk("detail", Math.floor(row / meta.chunk)))[row % meta.chunk];
  const drawn = (one) => one.original || one.cuts.some((cut) => cut?.tile);

  /** Drawing data and picture of a row; no picture where there is nothing to see. */
  async function load(row) {
    const one = await detail(row);
    return [one, drawn(one) ? await Picture.load(picture(row)) : null];
  }

  return { meta, key, face, group, disagreement, caches, marks, select, labelsOf, mark, unmarkAll, load };
})();
