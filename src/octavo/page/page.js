"use strict";
(() => {
  // Tables: a header's button sorts by its column, a second time the other way; empty cells come last.
  const keyOf = (row, place) => {
    const cell = row.cells[place];
    return cell.dataset.key ?? cell.textContent;
  };
  const order = (kind, sign) => (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    if (kind !== "text") {
      const difference = Number(a) - Number(b);
      if (!Number.isNaN(difference)) return sign * difference;
    }
    return sign * a.localeCompare(b, undefined, { numeric: true });
  };
  const sort = (table, header) => {
    const place = header.cellIndex;
    const down = header.getAttribute("aria-sort") === "ascending";
    for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const compare = order(header.className, down ? -1 : 1);
    const rows = [...table.tBodies[0].rows].map((row) => [keyOf(row, place), row]);
    rows.sort((a, b) => compare(a[0], b[0]));
    table.tBodies[0].append(...rows.map((pair) => pair[1]));
  };
  for (const table of document.querySelectorAll("table.sortable"))
    for (const header of table.tHead.rows[0].cells)
      header.querySelector("button").addEventListener("click", () => sort(table, header));

  // Pictures: a click shows them at their own size; Esc, the button or a click beside them closes.
  const dialog = document.querySelector("dialog.enlarged");
  for (const button of document.querySelectorAll("button.picture"))
    button.addEventListener("click", () => {
      const picture = button.querySelector("img"), large = dialog.querySelector("img");
      large.src = picture.src;
      large.alt = picture.alt;
      dialog.querySelector("p").textContent = button.parentNode.querySelector("figcaption").textContent;
      dialog.showModal();
    });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });

  // Paper has no folds: tables are opened for it, and closed again.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details.rows:not([open]), .beware details:not([open]), details.how:not([open])")];
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
  });
  // A link into what is folded opens it.
  addEventListener("hashchange", () => {
    for (let at = document.getElementById(location.hash.slice(1)); at; at = at.parentElement)
      if (at.tagName === "DETAILS") at.open = true;
  });
})();
