// One small chart a knob: a line through the best configuration along that knob, and every other configuration.

import { data, knobNamed, same } from "./data.js";
import { axis, colour, cross, draw, floorBelow, isNarrow, layout, points } from "./plot.js";
import { escaped, label, named } from "./text.js";

const GAP = 0.075; // between two charts, as a share of the whole width
const BELOW_PX = 74; // below a chart: the labels of its axis
const GOLDEN = 0.618; // steps of the golden ratio spread points evenly: neighbours in a list do not overlap

const spread = (spot, index, n) => spot.at[index] + (((n * GOLDEN) % 1) - 0.5) * 0.34;

function columnsFor(count) {
  if (isNarrow()) return 1;
  return count === 4 ? 2 : Math.min(3, count);
}

// The axes of the chart in a column and row of the grid.
function axesOf(knob, { column, row, columns, rows, height, id }) {
  const width = (1 - GAP * (columns - 1)) / columns;
  const left = column * (width + GAP);
  const bottom = 1 - (row + 1) / rows + (row + 1 < rows ? BELOW_PX / height : 0);
  const across = axis(named(knob), {
    domain: [left, left + width],
    anchor: `y${id}`,
    tickvals: knob.values.map((_, position) => position),
    ticktext: knob.values.map((value) => escaped(value.slice(0, 10))),
    range: [-0.5, knob.values.length - 0.5],
    showgrid: false,
    zeroline: false,
    tickfont: { size: 11.5 },
    automargin: false,
  });
  across.title = { ...across.title, font: { size: 13 }, standoff: 4 };
  const up = axis(column ? "" : escaped(data.unit), {
    domain: [bottom, 1 - row / rows],
    anchor: `x${id}`,
    tickfont: { size: 11.5 },
    automargin: false,
  });
  return { [`xaxis${id}`]: across, [`yaxis${id}`]: up };
}

// Faint dots of everything measured, crosses of what failed, and the line through the best configuration.
function tracesOf(knob, id, floor) {
  const on = { xaxis: `x${id}`, yaxis: `y${id}` };
  const measured = data.spots.filter((spot) => spot.figure !== null);
  const failed = data.spots.filter((spot) => spot.failed && !spot.n);
  const line = measured
    .filter((spot) => same(spot.at, data.chosen_at, [knob.index]))
    .toSorted((a, b) => a.at[knob.index] - b.at[knob.index]);
  const dots = measured.map((spot, n) => ({ x: spread(spot, knob.index, n), y: spot.figure, text: label(spot) }));
  const crosses = failed.map((spot, n) => ({ x: spread(spot, knob.index, n), y: floor, text: label(spot) }));
  const slice = line.map((spot) => ({ x: spot.at[knob.index], y: spot.figure, text: label(spot) }));
  const accent = colour("--accent");
  return [
    points("", dots, { ...on, marker: { size: 4, color: colour("--default"), opacity: 0.4 } }),
    points("", crosses, { ...on, marker: cross(6) }),
    points("", slice, {
      ...on,
      mode: knob.ordinal ? "lines+markers" : "markers",
      line: { color: accent, width: 2 },
      marker: { size: 8, color: accent },
      error_y: {
        type: "data",
        symmetric: false,
        array: line.map((spot) => (spot.high === null ? 0 : spot.high - spot.figure)),
        arrayminus: line.map((spot) => (spot.low === null ? 0 : spot.figure - spot.low)),
        color: accent,
        thickness: 1.5,
        width: 4,
      },
    }),
  ];
}

export function drawSlices() {
  const knobs = data.axes.map(knobNamed).filter(Boolean);
  const columns = columnsFor(knobs.length);
  const rows = Math.ceil(knobs.length / columns);
  const height = rows * (isNarrow() ? 230 : 250) + 20;
  const floor = floorBelow(data.spots.map((spot) => spot.figure).filter((figure) => figure !== null));
  const traces = [];
  let shape = { showlegend: false, height, margin: { l: 60, r: 14, t: 10, b: 44 } };
  knobs.forEach((knob, n) => {
    const id = n ? n + 1 : ""; // Plotly's axes are x, x2, x3 …
    const place = { column: n % columns, row: Math.floor(n / columns), columns, rows, height, id };
    shape = { ...shape, ...axesOf(knob, place) };
    traces.push(...tracesOf(knob, id, floor));
  });
  draw("chart-slices", traces, layout(shape));
}
