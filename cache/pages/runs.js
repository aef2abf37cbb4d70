"use strict";

/* The page of runs: columns sort, a run that is pointed at stands out in the curves. */
(() => {
  const table = document.getElementById("runs");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];

  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    button.addEventListener("click", () => {
      const number = button.dataset.sort === "number";
      const was = head.getAttribute("aria-sort");
      // Numbers begin with the largest, texts with the first.
      const up = was ? was === "descending" : !number;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => (number ? row.cells[column].dataset.value : row.cells[column].textContent.trim());
      const order = new Intl.Collator("en", { numeric: true });
      const compare = (a, b) => {
        const [one, two] = [value(a), value(b)];
        if (number && (one === "" || two === "")) return (one === "") - (two === ""); // what is missing stays last
        return (up ? 1 : -1) * (number ? one - two : order.compare(one, two));
      };
      body.append(...[...body.rows].sort(compare));
    });
  });

  const lines = [...document.querySelectorAll("#curves .series")];
  let picked = null;
  const emphasise = (run) => lines.forEach((line) => line.classList.toggle("faint", run !== null && line.dataset.name !== run));
  for (const row of body.rows) {
    row.addEventListener("pointerenter", () => emphasise(row.dataset.run));
    row.addEventListener("pointerleave", () => emphasise(picked));
    row.addEventListener("click", () => {
      picked = picked === row.dataset.run ? null : row.dataset.run;
      for (const other of body.rows) other.classList.toggle("picked", other.dataset.run === picked);
      emphasise(picked);
    });
  }
  document.documentElement.dataset.ready = "yes";
})();
