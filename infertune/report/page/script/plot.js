// What all charts have in common: colours from the style sheet, axes, marks, and the drawing itself.

import { at } from "./data.js";

const NARROW_PX = 760; // the style sheet's own limit for a small screen

export const isNarrow = () => innerWidth < NARROW_PX;

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export const legendFont = () => ({ size: isNarrow() ? 11.5 : 13 });

export function layout(more) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("--text") },
    margin: { l: 64, r: 18, t: 14, b: 52 },
    autosize: true,
    hoverlabel: { align: "left" },
    legend: {
      orientation: "h",
      y: 1.02,
      yanchor: "bottom",
      x: 0,
      xanchor: "left",
      font: legendFont(),
      itemwidth: 30,
    },
    ...more,
  };
}

export function axis(title, more) {
  return {
    title: { text: title, standoff: 10 },
    gridcolor: colour("--grid"),
    linecolor: colour("--line"),
    zerolinecolor: colour("--grid"),
    automargin: true,
    fixedrange: true,
    ...more,
  };
}

// Points with a label each; `more` adds to the trace or replaces parts of it.
export function points(name, places, more) {
  return {
    type: "scatter",
    mode: "markers",
    name,
    x: places.map((place) => place.x),
    y: places.map((place) => place.y),
    text: places.map((place) => place.text),
    hovertemplate: "%{text}<extra></extra>",
    ...more,
  };
}

// The mark of a failure.
export const cross = (size = 9) => ({ symbol: "x-thin", size, line: { width: 2, color: colour("--bad") } });

// A height a little below the lowest figure, where failures stand.
export function floorBelow(figures) {
  if (figures.length === 0) return 0;
  const low = Math.min(...figures);
  return low - 0.06 * (Math.max(...figures) - low || low);
}

export async function draw(id, traces, shape) {
  const chart = at(id);
  chart.style.height = `${shape.height}px`;
  await Plotly.react(id, traces, shape, { displayModeBar: false, responsive: true });
  chart.setAttribute("data-drawn", "");
}
