"use strict";

// Tables: a click on a column's button sorts by it, rising first; cells without a value stay at the end.
function sortTable(header) {
  const body = header.closest("table").tBodies[0];
  const column = [...header.parentNode.cells].indexOf(header);
  const order = header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  const sign = order === "ascending" ? 1 : -1;
  for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);
  const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const difference = Number(a) - Number(b);
    return sign * (Number.isNaN(difference) ? a.localeCompare(b) : difference);
  };
  [...body.rows].sort((a, b) => compare(value(a), value(b))).forEach((row) => body.append(row));
}
for (const button of document.querySelectorAll("th button"))
  button.addEventListener("click", () => sortTable(button.closest("th")));
for (const search of document.querySelectorAll("input[data-rows]"))
  search.addEventListener("input", () => {
    const wanted = search.value.toLowerCase();
    for (const row of document.getElementById(search.dataset.rows).tBodies[0].rows)
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });

// Galleries: selects choose pictures and fade the other marks, checkboxes switch layers on and off.
function filterGallery(form) {
  const gallery = document.getElementById(form.dataset.gallery);
  const wanted = Object.fromEntries([...form.querySelectorAll("select")].map((x) => [x.name, x.value]));
  const fits = (mark) =>
    ["class", "kind"].every((name) => !wanted[name] || mark.dataset[name].split(" ").includes(wanted[name]));
  let shown = 0;
  for (const figure of gallery.children) {
    const marks = [...figure.querySelectorAll(".mark")];
    const chosen = !wanted.class && !wanted.kind;
    figure.hidden = !(chosen || marks.some(fits));
    for (const mark of marks) mark.classList.toggle("faded", !chosen && !fits(mark));
    shown += !figure.hidden;
  }
  for (const box of form.querySelectorAll("input[type=checkbox]"))
    for (const place of [gallery, document.getElementById("lightbox")])
      place.classList.toggle(`hide-${box.name}`, !box.checked);
  form.querySelector("output").textContent = `${shown} of ${gallery.children.length} pictures`;
}
for (const form of document.querySelectorAll("[data-gallery]")) {
  form.addEventListener("change", () => filterGallery(form));
  filterGallery(form);
}

// Curves: a select makes one of many lines strong.
for (const select of document.querySelectorAll("select[data-lines]"))
  select.addEventListener("change", () => {
    for (const line of document.getElementById(select.dataset.lines).querySelectorAll("[data-line]")) {
      line.classList.toggle("strong", line.dataset.line === select.value);
      line.classList.toggle("pale", select.value !== "" && line.dataset.line !== select.value);
    }
  });

// Enlarged pictures: arrows go on, Escape closes (the dialog's own), and the focus returns.
const lightbox = document.getElementById("lightbox");
let opener = null;
function enlarge(button) {
  opener = button;
  const figure = button.closest("figure");
  lightbox.querySelector(".picture").replaceChildren(button.firstElementChild.cloneNode(true));
  lightbox.querySelector("p").textContent = [...(figure.querySelector("figcaption")?.childNodes ?? [])]
    .map((part) => part.textContent.trim())
    .filter(Boolean)
    .join(": ");
  if (!lightbox.open) lightbox.showModal();
}
function step(by) {
  const group = [...opener.closest(".gallery, .wide, section").querySelectorAll(".open")];
  const open = group.filter((x) => !x.closest("figure").hidden);
  enlarge(open[(open.indexOf(opener) + by + open.length) % open.length]);
}
for (const button of document.querySelectorAll(".open")) button.addEventListener("click", () => enlarge(button));
for (const button of lightbox.querySelectorAll("[data-step]"))
  button.addEventListener("click", () => step(Number(button.dataset.step)));
lightbox.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
lightbox.addEventListener("click", (event) => event.target === lightbox && lightbox.close());
lightbox.addEventListener("close", () => opener?.focus());

// On paper everything folded is open.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((x) => (x.open = true)));
