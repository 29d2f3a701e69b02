// Where the time went: one bar a phase.

import { data } from "./data.js";
import { axis, colour, draw, layout } from "./plot.js";
import { duration } from "./text.js";

const PARTS = [
  { key: "launch", name: "launch", color: "--other" },
  { key: "warmup", name: "warm-up", color: "--default" },
  { key: "windows", name: "run", color: "--accent" },
  { key: "ours", name: "infertune", color: "--bad" },
];

function unitFor(total) {
  if (total > 7200) return { name: "h", seconds: 3600 };
  return total > 180 ? { name: "min", seconds: 60 } : { name: "s", seconds: 1 };
}

export function drawTime() {
  const rows = data.times.toReversed(); // Plotly counts upwards
  const total = rows.flatMap((row) => PARTS.map((part) => row[part.key])).reduce((sum, part) => sum + part, 0);
  const unit = unitFor(total);
  const told = (seconds) => `${duration(seconds)} (${Math.round((100 * seconds) / (total || 1))}% of all)`;
  const traces = PARTS.map(({ key, name, color }) => ({
    type: "bar",
    orientation: "h",
    name,
    y: rows.map((row) => row.phase),
    x: rows.map((row) => row[key] / unit.seconds),
    customdata: rows.map((row) => told(row[key])),
    hovertemplate: `%{customdata}<extra>${name}</extra>`,
    marker: { color: colour(color) },
  }));
  const shape = layout({
    barmode: "stack",
    height: 130 + 46 * rows.length,
    bargap: 0.35,
    xaxis: axis(`${data.simulated_clock ? "simulated " : ""}${unit.name}`),
    yaxis: axis("", { showgrid: false }),
    legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0, traceorder: "normal" },
  });
  draw("chart-time", traces, shape);
}
