// Numbers and settings as people read them.

import { changes, data } from "./data.js";

export const counted = (n) => n.toLocaleString("en-US");

// A figure with three significant digits: `1,234`, `12.3`.
export function number(value) {
  if (value === null) return "–";
  return Math.abs(value) >= 100 ? counted(Math.round(value)) : String(Number(value.toPrecision(3)));
}

const twoDigits = (value) => String(value).padStart(2, "0");

// A duration in seconds, written as `format_duration` of infertune/units.py does: `0.42 s`, `12 s`, `3m 05s`, `2h 07m`.
export function duration(s) {
  if (s < 10) return `${Number(s.toPrecision(2))} s`;
  const whole = Math.round(s);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${twoDigits(whole % 60)}s`;
  return `${Math.floor(whole / 3600)}h ${twoDigits(Math.floor((whole % 3600) / 60))}m`;
}

// Text without markup: Plotly reads a small part of HTML in its labels, and a formula between `$`.
export const escaped = (text) => String(text).replace(/[&<>"'$]/g, (letter) => `&#${letter.charCodeAt(0)};`);

export const settings = (positions) => changes(positions).join(" ") || data.base_name;

// A configuration as lines of a chart's label.
export const settingLines = (positions) => changes(positions).map(escaped).join("<br>") || data.base_name;

export const named = (knob) => escaped(knob.unit ? `${knob.name} (${knob.unit})` : knob.name);

// The label of a measured configuration: its settings, figure with interval, energy, and how often it ran and failed.
export function label(spot) {
  const lines = [settingLines(spot.at)];
  if (spot.figure !== null) {
    const interval = spot.low === null ? "" : ` (${number(spot.low)} – ${number(spot.high)})`;
    lines.push(`<b>${number(spot.figure)} ${escaped(data.unit)}</b>${interval}`);
  } else {
    lines.push(spot.failed ? "<b>failed</b>" : "<b>over a limit, or unknown</b>");
  }
  if (spot.j !== null) lines.push(`${number(spot.j)} J/token`);
  if (spot.n) lines.push(`measured ${spot.n}×`);
  if (spot.failed) lines.push(`failed ${spot.failed}×`);
  return lines.join("<br>");
}
