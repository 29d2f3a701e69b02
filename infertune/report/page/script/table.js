// The table of all trials: sorted by a column, filtered by words, phase and outcome.

import { at, data, isFailed } from "./data.js";
import { counted, number, settings } from "./text.js";

const FIRST_ROWS = 100; // shown before "Show all" is pressed

function toBase(trial) {
  if (trial.figure === null || data.default_figure === null) return "";
  const change = (trial.figure / data.default_figure - 1) * 100;
  return `${change.toFixed(1).replace(/^(?!-)/, "+")}%`;
}

function outcome(trial) {
  if (trial.status !== "measured") return trial.status;
  return trial.live ? "live" : "launched";
}

// `key` is what a column is sorted by, `text` what its cells show, `style` the class of its cells.
const COLUMNS = [
  { name: "#", key: (t) => t.n, text: (t) => t.n, style: "n" },
  { name: "phase", key: (t) => t.phase, text: (t) => t.phase },
  { name: data.unit, key: (t) => t.figure, text: (t) => number(t.figure), style: "n" },
  { name: `to ${data.base_name}`, key: (t) => t.figure, text: toBase, style: "n" },
  { name: "J/token", key: (t) => t.j, text: (t) => number(t.j), style: "n" },
  { name: "outcome", key: (t) => t.status, text: outcome },
  {
    name: "changed settings",
    key: (t) => settings(t.at),
    text: (t) => settings(t.at) + (t.what ? ` – ${t.what}` : ""),
    style: "setting",
  },
  { name: "launch s", key: (t) => t.launch, text: (t) => t.launch.toFixed(1), style: "n" },
  { name: "run s", key: (t) => t.run, text: (t) => t.run.toFixed(1), style: "n" },
];

const columns = COLUMNS.filter(({ name }) => name !== "J/token" || data.trials.some((trial) => trial.j !== null));
// What the filter looks for words in, once for every trial.
const searchable = data.trials.map((trial) =>
  columns
    .map(({ text }) => text(trial))
    .join(" ")
    .toLowerCase(),
);
const order = { column: 0, direction: 1 };
let unfolded = false;

// Unknown values come last in both directions; equal ones in the order of the trials.
function byOrder(a, b) {
  const { key } = columns[order.column];
  const [x, y] = [key(a), key(b)];
  if (x === null || y === null) return (x === null) - (y === null) || a.n - b.n;
  if (x === y) return a.n - b.n;
  return x < y ? -order.direction : order.direction;
}

function wanted() {
  const words = at("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const phase = at("filter-phase").value;
  const status = at("filter-status").value;
  return data.trials.filter(
    (trial, n) =>
      (!phase || trial.phase === phase) &&
      (!status || trial.status === status) &&
      words.every((word) => searchable[n].includes(word)),
  );
}

function rowOf(trial) {
  const row = document.createElement("tr");
  if (isFailed(trial)) row.className = "failed";
  for (const { text, style } of columns) {
    const cell = row.insertCell();
    cell.textContent = text(trial);
    if (style) cell.className = style;
  }
  return row;
}

function headCell({ name, style }, n) {
  const cell = document.createElement("th");
  const button = document.createElement("button");
  cell.scope = "col";
  if (style === "n") cell.className = style;
  button.type = "button";
  button.textContent = name;
  button.addEventListener("click", () => {
    order.direction = order.column === n ? -order.direction : 1;
    order.column = n;
    list();
  });
  cell.append(button);
  return cell;
}

function markOrder(cell, n) {
  const rising = order.direction > 0;
  if (n === order.column) cell.setAttribute("aria-sort", rising ? "ascending" : "descending");
  else cell.removeAttribute("aria-sort");
  const arrow = rising ? " ↑" : " ↓";
  cell.firstChild.textContent = columns[n].name + (n === order.column ? arrow : "");
}

function list() {
  const found = wanted().toSorted(byOrder);
  const shown = unfolded ? found : found.slice(0, FIRST_ROWS);
  const table = at("table");
  [...table.tHead.rows[0].cells].forEach(markOrder);
  table.tBodies[0].replaceChildren(...shown.map(rowOf));
  const part = shown.length < found.length ? `${counted(shown.length)} shown of ` : "";
  const all = found.length < data.trials.length ? ` found of ${counted(data.trials.length)}` : "";
  at("count").textContent = `${part}${counted(found.length)}${all} trials`;
  at("more").hidden = shown.length === found.length;
  at("more").textContent = `Show all ${counted(found.length)}`;
}

// Fill a menu with the different values, in the order in which they occur.
function offer(id, values) {
  at(id).append(...[...new Set(values)].map((value) => new Option(value, value)));
}

export function showTable() {
  at("table").tHead.rows[0].append(...columns.map(headCell));
  offer(
    "filter-phase",
    data.trials.map((trial) => trial.phase),
  );
  offer(
    "filter-status",
    data.trials.map((trial) => trial.status),
  );
  for (const id of ["filter", "filter-phase", "filter-status"]) at(id).addEventListener("input", list);
  at("more").addEventListener("click", () => {
    unfolded = true;
    list();
  });
  list();
}
