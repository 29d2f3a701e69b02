// Every trial in order, by number or by time, with the best so far.

import { at, better, data, isFailed } from "./data.js";
import { axis, colour, cross, draw, floorBelow, layout, points } from "./plot.js";
import { escaped, number, settingLines } from "./text.js";

const EXPLORING = new Set(["search", "grid"]); // phases whose best counts as the best so far
const STYLES = {
  search: { symbol: "circle", color: "--accent" },
  grid: { symbol: "circle", color: "--accent" },
  bench: { symbol: "circle", color: "--accent" },
  device: { symbol: "diamond", color: "--other" },
  confirm: { symbol: "diamond", color: "--other" },
  final: { symbol: "square", color: "--good" },
};
const LONG_S = 7200; // a run that is longer is shown in hours

function labelOf(trial) {
  const result = trial.figure === null ? escaped(trial.status) : `${number(trial.figure)} ${escaped(data.unit)}`;
  return `trial ${trial.n}${trial.live ? ", live" : ""}<br>${settingLines(trial.at)}<br><b>${result}</b>`;
}

// The best figure so far, as the corners of a line of steps.
function stepsOf(trials, xOf) {
  const explored = trials.filter((trial) => EXPLORING.has(trial.phase));
  const steps = [];
  let best = null;
  for (const trial of explored) {
    if (trial.status === "measured" && (best === null || better(trial.figure, best))) {
      best = trial.figure;
      steps.push({ x: xOf(trial), y: best });
    }
  }
  if (best !== null) steps.push({ x: xOf(explored.at(-1)), y: best });
  return steps;
}

// A dashed line at the default's figure, and its name; nothing where the default has none.
function defaultLine() {
  const y = data.default_figure;
  if (y === null) return {};
  const line = { color: colour("--default"), width: 1.5, dash: "dash" };
  const font = { color: colour("--quiet"), size: 12 };
  return {
    shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line }],
    annotations: [
      { xref: "paper", x: 1, xanchor: "right", y, yanchor: "bottom", text: data.base_name, showarrow: false, font },
    ],
  };
}

export function drawProgress() {
  const byTime = at("by-time").getAttribute("aria-pressed") === "true";
  const long = data.trials.length > 0 && data.trials.at(-1).t > LONG_S;
  const xOf = (trial) => (byTime ? trial.t / (long ? 3600 : 60) : trial.n);
  const kept = data.trials.filter((trial) => trial.figure !== null);
  const failed = data.trials.filter(isFailed);
  const floor = floorBelow(kept.map((trial) => trial.figure));
  const line = { shape: "hv", color: colour("--accent"), width: 2 };
  const traces = [points("best so far", stepsOf(data.trials, xOf), { mode: "lines", line, hoverinfo: "skip" })];
  for (const phase of new Set(data.trials.map((trial) => trial.phase))) {
    const own = kept.filter((trial) => trial.phase === phase);
    const { symbol, color } = STYLES[phase];
    const marker = { symbol, size: own.length > 500 ? 4 : 7, color: colour(color), opacity: 0.85 };
    const places = own.map((trial) => ({ x: xOf(trial), y: trial.figure, text: labelOf(trial) }));
    traces.push(points(phase, places, { marker }));
  }
  if (failed.length) {
    const places = failed.map((trial) => ({ x: xOf(trial), y: floor, text: labelOf(trial) }));
    traces.push(points("failed", places, { marker: cross() }));
  }
  const clock = `${data.simulated_clock ? "simulated " : ""}${long ? "h" : "min"} since the start`;
  const xaxis = axis(byTime ? clock : "trial");
  draw("chart-progress", traces, layout({ ...defaultLine(), height: 400, xaxis, yaxis: axis(escaped(data.unit)) }));
}

export function connectProgress() {
  const buttons = ["by-trial", "by-time"].map(at).filter(Boolean);
  for (const pressed of buttons) {
    pressed.addEventListener("click", () => {
      for (const button of buttons) button.setAttribute("aria-pressed", String(button === pressed));
      drawProgress();
    });
  }
}
