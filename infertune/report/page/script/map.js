// The landscape over two knobs: each cell shows the best that was measured there.

import { at, better, data, knobNamed, same } from "./data.js";
import { axis, cross, draw, isNarrow, layout, points } from "./plot.js";
import { escaped, label, named, number } from "./text.js";

const MARK = "#ff5a1f"; // legible on every colour of viridis
const MOST_DOTS = 64; // in one cell: more would be a smear

// Which configurations a cell may show, by what the knobs beside the two shown ones are set to.
const RESTS = {
  best: () => true,
  chosen: (spot, shown) => same(spot.at, data.chosen_at, shown),
  default: (spot, shown) => same(spot.at, data.default_at, shown),
};

// The configurations of each cell of the map: "row column" → spots. Of one knob alone there is one row.
function cellsOf(x, y) {
  const cells = new Map();
  const fits = RESTS[at("map-rest").value];
  for (const spot of data.spots) {
    const row = x === y ? 0 : spot.at[y.index];
    const column = spot.at[x.index];
    if (row < 0 || column < 0 || !fits(spot, [x.index, y.index])) continue;
    const key = `${row} ${column}`;
    cells.set(key, [...(cells.get(key) ?? []), spot]);
  }
  return [...cells].map(([key, spots]) => {
    const [row, column] = key.split(" ").map(Number);
    return { row, column, spots };
  });
}

function bestOf(spots, valueOf, wins) {
  let best = null;
  for (const spot of spots) {
    if (valueOf(spot) !== null && (best === null || wins(valueOf(spot), valueOf(best)))) best = spot;
  }
  return best;
}

// Where the dots of a cell's configurations stand: in a small grid in the middle of the cell.
function dotsOf({ row, column, spots }) {
  const side = Math.min(Math.ceil(Math.sqrt(spots.length)), Math.sqrt(MOST_DOTS));
  const step = 0.72 / side;
  return spots.slice(0, MOST_DOTS).map((spot, n) => ({
    spot,
    x: column + ((n % side) - (side - 1) / 2) * step,
    y: row - 0.06 - (Math.floor(n / side) - (side - 1) / 2) * step * 0.72,
    text: label(spot),
  }));
}

function mark(place, name, marker, x, y) {
  return {
    type: "scatter",
    mode: "markers",
    name,
    x: [place[x.index]],
    y: [x === y ? 0 : place[y.index]],
    hoverinfo: "name",
    marker,
  };
}

const shortened = (value) => (value.length > 14 ? `${escaped(value.slice(0, 13))}…` : escaped(value));

function ticks(knob) {
  return {
    tickvals: knob.values.map((_, position) => position),
    ticktext: knob.values.map(shortened),
    range: [-0.5, knob.values.length - 0.5],
    showgrid: false,
    zeroline: false,
  };
}

const numberIn = (row, column, value) => ({
  x: column,
  y: row + 0.36,
  text: number(value),
  showarrow: false,
  font: { size: isNarrow() ? 10 : 11.5, color: "#ffffff" },
  bgcolor: "rgba(0,0,0,0.55)",
  borderpad: 1,
});

export function drawMap() {
  const x = knobNamed(at("map-x").value);
  const y = knobNamed(at("map-y").value);
  const joules = at("map-z").value === "j";
  const valueOf = (spot) => (joules ? spot.j : spot.figure);
  const wins = joules ? (a, b) => a < b : better;
  const rows = x === y ? [""] : y.values;
  const heat = rows.map(() => x.values.map(() => null));
  const labels = rows.map(() => x.values.map(() => ""));
  const dots = [];
  for (const cell of cellsOf(x, y)) {
    const best = bestOf(cell.spots, valueOf, wins);
    if (best !== null) {
      heat[cell.row][cell.column] = valueOf(best);
      labels[cell.row][cell.column] = label(best);
    }
    dots.push(...dotsOf(cell));
  }
  const crowded = x.values.length * rows.length > (isNarrow() ? 30 : 90);
  const numbers = crowded
    ? []
    : heat.flatMap((values, row) =>
        values.flatMap((value, column) => (value === null ? [] : [numberIn(row, column, value)])),
      );
  const ring = { symbol: "circle", size: 22, color: "rgba(0,0,0,0)", line: { color: MARK, width: 3 } };
  const star = { symbol: "star", size: 19, color: MARK, line: { color: "#ffffff", width: 1.5 } };
  const white = { size: 5, color: "#ffffff", line: { width: 1, color: "#000000" } };
  const traces = [
    {
      type: "heatmap",
      z: heat,
      customdata: labels,
      hovertemplate: "%{customdata}<extra>best here</extra>",
      colorscale: "Viridis",
      reversescale: joules || data.lower_is_better,
      xgap: 2,
      ygap: 2,
      showscale: !isNarrow(),
      hoverongaps: false,
      colorbar: {
        title: { text: joules ? "J/token" : escaped(data.unit), side: "right" },
        thickness: 12,
        len: 0.9,
        outlinewidth: 0,
      },
    },
    points(
      "measured",
      dots.filter((dot) => dot.spot.n),
      { marker: white },
    ),
    points(
      "failed",
      dots.filter((dot) => !dot.spot.n),
      { marker: cross() },
    ),
    mark(data.default_at, data.base_name, ring, x, y),
    mark(data.chosen_at, data.chosen_name, star, x, y),
  ];
  const shape = layout({
    xaxis: axis(named(x), ticks(x)),
    yaxis: x === y ? { visible: false, range: [-0.5, 0.5] } : axis(isNarrow() ? "" : named(y), ticks(y)),
    annotations: numbers,
    margin: { l: isNarrow() ? 44 : 64, r: isNarrow() ? 4 : 18, t: 14, b: 52 },
    height: isNarrow() ? 420 : Math.max(440, Math.min(640, 120 + 52 * rows.length)),
  });
  draw("chart-map", traces, shape);
}

// Fill the map's menus, the knobs that matter most first, and redraw it when one is changed.
export function connectMap() {
  if (!at("map-x")) return;
  const knobs = data.axes.map(knobNamed).filter(Boolean);
  for (const id of ["map-x", "map-y"]) at(id).append(...knobs.map((knob) => new Option(knob.name, knob.name)));
  at("map-x").value = knobs[0].name;
  at("map-y").value = (knobs[1] ?? knobs[0]).name;
  at("map-z").append(new Option(data.unit, "figure"));
  if (data.spots.some((spot) => spot.j !== null)) at("map-z").append(new Option("J/token", "j"));
  for (const id of ["map-x", "map-y", "map-z", "map-rest"]) at(id).addEventListener("change", drawMap);
}
