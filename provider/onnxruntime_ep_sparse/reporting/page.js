"use strict";
(() => {
  const table = document.getElementById("nodes");
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
  if (!table) return;
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  const TAKEN = heads.findIndex((head) => head.textContent.trim() === "taken");
  const value = (row, column) => {
    const cell = row.cells[column];
    return "v" in cell.dataset ? (cell.dataset.v === "" ? NaN : Number(cell.dataset.v)) : cell.textContent;
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent.trim();
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sign = down ? -1 : 1;
      // values that are not known stand at the end in either order
      const order = (a, b) => {
        const [x, y] = [value(a, column), value(b, column)];
        if (typeof x === "string") return sign * x.localeCompare(y, "en", { numeric: true });
        return Number.isNaN(x) - Number.isNaN(y) || sign * (x - y) || 0;
      };
      body.append(...rows.sort(order));
    });
  });
  const text = document.getElementById("filter"), taken = document.getElementById("taken"), count = document.getElementById("count");
  const filter = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const content = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => content.includes(word)) || (taken.value !== "" && row.cells[TAKEN].textContent !== taken.value);
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length} nodes`;
  };
  text.addEventListener("input", filter);
  taken.addEventListener("change", filter);
  document.querySelector(".tools").hidden = false;
  filter();
})();
