// Bars of how much each knob matters, by two methods.

import { data } from "./data.js";
import { axis, colour, draw, isNarrow, layout, legendFont } from "./plot.js";
import { escaped, number } from "./text.js";

const LINE_LETTERS = 13; // of a knob's name beside the bars of a small screen

// A name broken after underscores into lines that fit a small screen.
function broken(name) {
  const lines = [];
  for (const word of name.split("_")) {
    const joined = lines.length ? `${lines.at(-1)}_${word}` : word;
    if (lines.length && joined.length <= LINE_LETTERS) lines[lines.length - 1] = joined;
    else lines.push(word);
  }
  return lines.map(escaped).join("_<br>");
}

function bars(name, names, values, color, more = "") {
  return {
    type: "bar",
    orientation: "h",
    name,
    y: names,
    x: values,
    marker: { color },
    hovertemplate: `%{y}: %{x:.1%}${more}<extra>${name}</extra>`,
  };
}

export function drawImportance() {
  const rows = data.importance.toReversed(); // Plotly counts upwards
  const names = rows.map((row) => (isNarrow() ? broken(row.knob) : escaped(row.knob)));
  const tested = rows.map((row) =>
    row.p === null ? "" : `×${number(row.spread)} best to worst value, p = ${row.p.toFixed(3)}`,
  );
  const shares = rows.map((row) => row.share);
  const deciding = rows.map((row) => row.ped_anova);
  const traces = [
    { ...bars("explained variance", names, shares, colour("--default"), "<br>%{customdata}"), customdata: tested },
    bars("PED-ANOVA", names, deciding, colour("--accent")),
  ];
  const shape = layout({
    barmode: "group",
    bargap: 0.3,
    height: 110 + 44 * rows.length,
    xaxis: axis("share", { tickformat: ".0%", rangemode: "tozero", nticks: isNarrow() ? 4 : 10, tickangle: 0 }),
    yaxis: axis("", { ticks: "", showgrid: false }),
    margin: { l: 20, r: 14, t: 14, b: 48 },
    legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0, traceorder: "reversed", font: legendFont() },
  });
  draw("chart-importance", traces, shape);
}
