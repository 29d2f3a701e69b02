// What the page shows, as `infertune/report/data.py` (PageData) wrote it into the page, and questions about it.

export const at = (id) => document.getElementById(id);

export const data = JSON.parse(at("data").textContent);

// The knobs of which more than one value was measured. `index` is the knob's place in every list of positions (`at`).
export const varied = data.knobs.map((knob, index) => ({ ...knob, index })).filter((knob) => knob.varied);

export const knobNamed = (name) => varied.find((knob) => knob.name === name);

export const better = (a, b) => (data.lower_is_better ? a < b : a > b);

// Whether two configurations have the same values, apart from those of the knobs at the indices `except`.
export const same = (a, b, except = []) => a.every((value, index) => except.includes(index) || value === b[index]);

export const isFailed = (trial) => !["measured", "over a limit", "unknown"].includes(trial.status);

// What a configuration changes of the default, as a list of NAME=VALUE.
export function changes(positions) {
  return data.knobs
    .map((knob, index) => {
      const position = positions[index];
      return position === data.default_at[index] ? "" : `${knob.name}=${knob.values[position] ?? "?"}`;
    })
    .filter((text) => text !== "");
}
