// Throughput against energy, with the Pareto front: the configurations that no other one beats in both.

import { data, same } from "./data.js";
import { axis, colour, draw, layout, points } from "./plot.js";
import { label } from "./text.js";

const NAMED = new Set(["fastest", "greenest", "knee"]); // the points that have a name; others are "front"

const placeOf = (spot) => ({ x: spot.j, y: spot.tps, text: label(spot) });

function ringed(spots, positions, name, symbol, size) {
  const found = spots.filter((spot) => same(spot.at, positions)).slice(0, 1);
  const color = colour("--bad");
  return found.map((spot) =>
    points(name, [placeOf(spot)], {
      hovertemplate: `%{text}<extra>${name}</extra>`,
      marker: { symbol, size, color, line: { width: 2.5, color } },
    }),
  );
}

const nameOf = (spot) => ({
  x: spot.j,
  y: spot.tps,
  text: spot.front,
  ax: -34,
  ay: -22,
  arrowcolor: colour("--quiet"),
  arrowwidth: 1,
  arrowhead: 0,
  font: { size: 12.5, color: colour("--text") },
});

export function drawEnergy() {
  const known = data.spots.filter((spot) => spot.j !== null && spot.tps !== null);
  const front = known.filter((spot) => spot.front).toSorted((a, b) => a.j - b.j);
  const good = colour("--good");
  const traces = [
    points("measured", known.map(placeOf), {
      marker: { size: known.length > 400 ? 5 : 8, color: colour("--default"), opacity: 0.6 },
    }),
    points("Pareto front", front.map(placeOf), {
      mode: "lines+markers",
      hovertemplate: "%{text}<extra>front</extra>",
      line: { color: good, width: 2 },
      marker: { size: 9, color: good },
    }),
    ...ringed(known, data.default_at, data.base_name, "circle-open", 15),
    ...ringed(known, data.chosen_at, data.chosen_name, "star-open", 17),
  ];
  const shape = layout({
    height: 400,
    annotations: front.filter((spot) => NAMED.has(spot.front)).map(nameOf),
    xaxis: axis("gross J per output token"),
    yaxis: axis("output tok/s"),
  });
  draw("chart-energy", traces, shape);
}
