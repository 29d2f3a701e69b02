"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const varied = data.knobs.map((knob, k) => ({ ...knob, k })).filter((knob) => knob.varied);
  const byName = (name) => varied.find((knob) => knob.name === name);
  const better = (a, b) => (data.lower_is_better ? a < b : a > b);
  const number = (v) => v === null ? "–" : Math.abs(v) >= 100 ? Math.round(v).toLocaleString("en-US") : String(Number(v.toPrecision(3)));
  const seconds = (s) => s < 10 ? Number(s.toPrecision(2)) + " s" : s < 60 ? Math.round(s) + " s" : s < 3600 ? Math.floor(s / 60) + "m " + String(Math.round(s % 60)).padStart(2, "0") + "s" : Math.floor(s / 3600) + "h " + String(Math.round(s % 3600 / 60)).padStart(2, "0") + "m";
  const escape = (text) => String(text).replace(/[&<>"']/g, (c) => "&#" + c.charCodeAt(0) + ";");
  const same = (a, b, but) => a.every((v, k) => but.includes(k) || v === b[k]);
  const settings = (place) => data.knobs.map((knob, k) => place[k] === data.default_at[k] ? "" : knob.name + "=" + (knob.values[place[k]] ?? "?")).filter(Boolean).join(" ") || "default";
  const failed = (trial) => !["measured", "over a limit", "unknown"].includes(trial.status);
  const narrow = () => innerWidth < 760;

  // ---- charts ----------------------------------------------------------------------------------------------------
  const layout = (more) => ({
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: css("--text") },
    margin: { l: 64, r: 18, t: 14, b: 52 }, autosize: true, hoverlabel: { align: "left" },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, xanchor: "left", font: { size: narrow() ? 11.5 : 13 }, itemwidth: 30 },
    ...more,
  });
  const axis = (title, more) => ({ title: { text: title, standoff: 10 }, gridcolor: css("--grid"), linecolor: css("--line"), zerolinecolor: css("--grid"), automargin: true, fixedrange: true, ...more });
  const config = { displayModeBar: false, responsive: true };
  const draw = (id, traces, shape) => (at(id).style.height = shape.height + "px", Plotly.react(id, traces, shape, config).then(() => at(id).setAttribute("data-drawn", "")));
  const named = (knob) => escape(knob.name + (knob.unit ? " (" + knob.unit + ")" : ""));
  const about = (spot) => settings(spot.at).split(" ").map(escape).join("<br>") + "<br><b>" + (spot.figure === null ? (spot.failed ? "failed" : "over a limit, or unknown") : number(spot.figure) + " " + escape(data.unit)) + "</b>" +
    (spot.low === null ? "" : " (" + number(spot.low) + " – " + number(spot.high) + ")") + (spot.j === null ? "" : "<br>" + number(spot.j) + " J/token") +
    (spot.n ? "<br>measured " + spot.n + "×" : "") + (spot.failed ? "<br>failed " + spot.failed + "×" : "");
  const cross = (color) => ({ symbol: "x-thin", size: 9, line: { width: 2, color } });

  const rests = {
    best: () => true,
    chosen: (spot, x, y) => same(spot.at, data.chosen_at, [x.k, y.k]),
    default: (spot, x, y) => same(spot.at, data.default_at, [x.k, y.k]),
  };

  function drawMap() {
    const x = byName(at("map-x").value), y = byName(at("map-y").value), joules = at("map-z").value === "j";
    const value = (spot) => joules ? spot.j : spot.figure;
    const wins = (a, b) => joules ? a < b : better(a, b);
    const shown = data.spots.filter((spot) => rests[at("map-rest").value](spot, x, y));
    const one = x === y;
    const rows = one ? [""] : y.values;
    const z = rows.map(() => x.values.map(() => null)), text = rows.map(() => x.values.map(() => "")), cells = new Map();
    for (const spot of shown) {
      const i = one ? 0 : spot.at[y.k], j = spot.at[x.k];
      if (i < 0 || j < 0) continue;
      const key = i + " " + j;
      cells.set(key, [...(cells.get(key) ?? []), spot]);
      const v = value(spot);
      if (v !== null && (z[i][j] === null || wins(v, z[i][j]))) { z[i][j] = v; text[i][j] = about(spot); }
    }
    const dots = { x: [], y: [], text: [] }, fails = { x: [], y: [], text: [] };
    for (const [key, spots] of cells) {
      const [i, j] = key.split(" ").map(Number), wide = Math.ceil(Math.sqrt(spots.length));
      spots.slice(0, 64).forEach((spot, n) => {
        const side = Math.min(wide, 8), step = 0.72 / side;
        const to = spot.n ? dots : fails;
        to.x.push(j + (n % side - (side - 1) / 2) * step);
        to.y.push(i - 0.06 - (Math.floor(n / side) - (side - 1) / 2) * step * 0.72);
        to.text.push(about(spot));
      });
    }
    const marks = (place, name, symbol) => ({
      type: "scatter", mode: "markers", name, x: [place[x.k]], y: [one ? 0 : place[y.k]], hoverinfo: "name",
      marker: { symbol, size: symbol === "star" ? 19 : 22, color: symbol === "star" ? "#ff5a1f" : "rgba(0,0,0,0)", line: { color: symbol === "star" ? "#ffffff" : "#ff5a1f", width: symbol === "star" ? 1.5 : 3 } },
    });
    const labels = [];
    const many = x.values.length * rows.length > (narrow() ? 30 : 90);
    if (!many) z.forEach((row, i) => row.forEach((v, j) => v !== null && labels.push({ x: j, y: i + 0.36, text: number(v), showarrow: false, font: { size: narrow() ? 10 : 11.5, color: "#ffffff" }, bgcolor: "rgba(0,0,0,0.55)", borderpad: 1 })));
    const ticks = (knob) => ({ tickvals: knob.values.map((_, n) => n), ticktext: knob.values.map((v) => v.length > 14 ? escape(v.slice(0, 13)) + "…" : escape(v)), range: [-0.5, knob.values.length - 0.5], showgrid: false, zeroline: false });
    draw("chart-map", [
      { type: "heatmap", z, customdata: text, hovertemplate: "%{customdata}<extra>best here</extra>", colorscale: "Viridis", reversescale: joules || data.lower_is_better, xgap: 2, ygap: 2, showscale: !narrow(), hoverongaps: false,
        colorbar: { title: { text: joules ? "J/token" : escape(data.unit), side: "right" }, thickness: 12, len: 0.9, outlinewidth: 0 } },
      { type: "scatter", mode: "markers", name: "measured", ...dots, hovertemplate: "%{text}<extra></extra>", marker: { size: 5, color: "#ffffff", line: { width: 1, color: "#000000" } } },
      { type: "scatter", mode: "markers", name: "failed", ...fails, hovertemplate: "%{text}<extra></extra>", marker: cross(css("--bad")) },
      marks(data.default_at, "default", "circle"), marks(data.chosen_at, data.chosen_name, "star"),
    ], layout({ xaxis: axis(named(x), ticks(x)), yaxis: one ? { visible: false, range: [-0.5, 0.5] } : axis(narrow() ? "" : named(y), ticks(y)), annotations: labels, margin: { l: narrow() ? 44 : 64, r: narrow() ? 4 : 18, t: 14, b: 52 }, height: narrow() ? 420 : Math.max(380, Math.min(640, 120 + 52 * rows.length)) }));
  }

  function drawSlices() {
    const knobs = data.axes.map(byName).filter(Boolean), across = narrow() ? 1 : knobs.length === 4 ? 2 : Math.min(3, knobs.length), down = Math.ceil(knobs.length / across);
    const figures = data.spots.map((spot) => spot.figure).filter((v) => v !== null), low = Math.min(...figures), high = Math.max(...figures);
    const floor = low - 0.06 * (high - low || high);
    const traces = [], shape = { showlegend: false, height: down * (narrow() ? 230 : 250) + 20, annotations: [], margin: { l: 60, r: 14, t: 10, b: 44 } };
    knobs.forEach((knob, n) => {
      const id = n ? n + 1 : "", col = n % across, row = Math.floor(n / across), gap = 0.075, width = (1 - gap * (across - 1)) / across;
      const tall = 1 / down, pad = 74 / shape.height;
      shape["xaxis" + id] = axis(named(knob), { domain: [col * (width + gap), col * (width + gap) + width], anchor: "y" + id, tickvals: knob.values.map((_, i) => i), ticktext: knob.values.map((v) => escape(v.slice(0, 10))), range: [-0.5, knob.values.length - 0.5], showgrid: false, zeroline: false, tickfont: { size: 11.5 }, automargin: false });
      shape["xaxis" + id].title.font = { size: 13 }; shape["xaxis" + id].title.standoff = 4;
      shape["yaxis" + id] = axis(col ? "" : data.unit, { domain: [1 - (row + 1) * tall + (row + 1 < down ? pad : 0), 1 - row * tall], anchor: "x" + id, tickfont: { size: 11.5 }, automargin: false });
      const on = { xaxis: "x" + id, yaxis: "y" + id, type: "scatter", hovertemplate: "%{text}<extra></extra>" };
      const rest = data.spots.filter((spot) => spot.figure !== null);
      traces.push({ ...on, mode: "markers", x: rest.map((spot, i) => spot.at[knob.k] + ((i * 0.618) % 1 - 0.5) * 0.34), y: rest.map((spot) => spot.figure), text: rest.map(about), marker: { size: 4, color: css("--default"), opacity: 0.4 } });
      const bad = data.spots.filter((spot) => spot.failed && !spot.n);
      traces.push({ ...on, mode: "markers", x: bad.map((spot, i) => spot.at[knob.k] + ((i * 0.618) % 1 - 0.5) * 0.34), y: bad.map(() => floor), text: bad.map(about), marker: { ...cross(css("--bad")), size: 6 } });
      const line = data.spots.filter((spot) => spot.figure !== null && same(spot.at, data.chosen_at, [knob.k])).sort((a, b) => a.at[knob.k] - b.at[knob.k]);
      traces.push({ ...on, mode: knob.ordinal ? "lines+markers" : "markers", x: line.map((spot) => spot.at[knob.k]), y: line.map((spot) => spot.figure), text: line.map(about), line: { color: css("--accent"), width: 2 }, marker: { size: 8, color: css("--accent") },
        error_y: { type: "data", symmetric: false, array: line.map((spot) => spot.high === null ? 0 : spot.high - spot.figure), arrayminus: line.map((spot) => spot.low === null ? 0 : spot.figure - spot.low), color: css("--accent"), thickness: 1.5, width: 4 } });
    });
    draw("chart-slices", traces, layout(shape));
  }

  function drawImportance() {
    const rows = [...data.importance].reverse(), names = rows.map((row) => narrow() ? row.knob.split("_").reduce((lines, word) => { const last = lines[lines.length - 1]; if (last && (last + "_" + word).length <= 13) lines[lines.length - 1] = last + "_" + word; else lines.push(word); return lines; }, []).map(escape).join("_<br>") : escape(row.knob));
    const bar = (name, values, color, extra) => ({ type: "bar", orientation: "h", name, y: names, x: values, marker: { color }, hovertemplate: "%{y}: %{x:.1%}" + extra + "<extra>" + name + "</extra>" });
    draw("chart-importance", [
      { ...bar("explained variance", rows.map((row) => row.share), css("--default"), "<br>%{customdata}"), customdata: rows.map((row) => row.p === null ? "" : "×" + number(row.spread) + " best to worst value, p = " + row.p.toFixed(3)) },
      bar("PED-ANOVA", rows.map((row) => row.ped_anova), css("--accent"), ""),
    ], layout({ barmode: "group", bargap: 0.3, height: 110 + 44 * rows.length, xaxis: axis("share", { tickformat: ".0%", rangemode: "tozero", nticks: narrow() ? 4 : 10, tickangle: 0 }), yaxis: axis("", { ticks: "", showgrid: false }), margin: { l: 20, r: 14, t: 14, b: 48 }, legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0, traceorder: "reversed", font: { size: narrow() ? 11.5 : 13 } } }));
  }

  const styles = { search: ["circle", "--accent"], grid: ["circle", "--accent"], bench: ["circle", "--accent"], confirm: ["diamond", "--other"], final: ["square", "--good"] };
  function drawProgress() {
    const time = at("by-time").getAttribute("aria-pressed") === "true", where = (trial) => time ? trial.t : trial.n;
    const unit = data.trials.length && data.trials[data.trials.length - 1].t > 7200 ? ["h", 3600] : ["min", 60];
    const place = (trial) => time ? trial.t / unit[1] : trial.n;
    const text = (trial) => "trial " + trial.n + (trial.live ? ", live" : "") + "<br>" + settings(trial.at).split(" ").map(escape).join("<br>") + "<br><b>" + (trial.figure === null ? escape(trial.status) : number(trial.figure) + " " + escape(data.unit)) + "</b>";
    const traces = [], kept = data.trials.filter((trial) => trial.figure !== null);
    for (const phase of [...new Set(data.trials.map((trial) => trial.phase))]) {
      const own = kept.filter((trial) => trial.phase === phase), [symbol, color] = styles[phase];
      traces.push({ type: "scatter", mode: "markers", name: phase, x: own.map(place), y: own.map((t) => t.figure), text: own.map(text), hovertemplate: "%{text}<extra></extra>", marker: { symbol, size: own.length > 500 ? 4 : 7, color: css(color), opacity: 0.85 } });
    }
    const steps = []; let best = null;
    for (const trial of kept) if (["search", "grid"].includes(trial.phase) && trial.status === "measured" && (best === null || better(trial.figure, best))) { best = trial.figure; steps.push([place(trial), best]); }
    const last = data.trials.filter((trial) => ["search", "grid"].includes(trial.phase)).pop();
    if (last && best !== null) steps.push([place(last), best]);
    traces.unshift({ type: "scatter", mode: "lines", name: "best so far", x: steps.map((s) => s[0]), y: steps.map((s) => s[1]), line: { shape: "hv", color: css("--accent"), width: 2 }, hoverinfo: "skip" });
    const figures = kept.map((trial) => trial.figure), low = Math.min(...figures), floor = low - 0.06 * (Math.max(...figures) - low || low);
    const bad = data.trials.filter(failed);
    if (bad.length) traces.push({ type: "scatter", mode: "markers", name: "failed", x: bad.map(place), y: bad.map(() => floor), text: bad.map(text), hovertemplate: "%{text}<extra></extra>", marker: cross(css("--bad")) });
    const shapes = data.default_figure === null ? [] : [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: data.default_figure, y1: data.default_figure, line: { color: css("--default"), width: 1.5, dash: "dash" } }];
    const notes = data.default_figure === null ? [] : [{ xref: "paper", x: 1, xanchor: "right", y: data.default_figure, yanchor: "bottom", text: "default", showarrow: false, font: { color: css("--quiet"), size: 12 } }];
    draw("chart-progress", traces, layout({ shapes, annotations: notes, height: 400, xaxis: axis(time ? (data.simulated_clock ? "simulated " : "") + unit[0] + " since the start" : "trial"), yaxis: axis(data.unit) }));
  }

  function drawEnergy() {
    const known = data.spots.filter((spot) => spot.j !== null && spot.tps !== null);
    const front = known.filter((spot) => spot.front).sort((a, b) => a.j - b.j);
    const some = (find, name, symbol) => { const spot = known.find((s) => find(s)); return spot ? [{ type: "scatter", mode: "markers", name, x: [spot.j], y: [spot.tps], text: [about(spot)], hovertemplate: "%{text}<extra>" + name + "</extra>", marker: { symbol, size: symbol === "star-open" ? 17 : 15, color: css("--bad"), line: { width: 2.5, color: css("--bad") } } }] : []; };
    const left = { fastest: "left", greenest: "left", knee: "left" };
    draw("chart-energy", [
      { type: "scatter", mode: "markers", name: "measured", x: known.map((s) => s.j), y: known.map((s) => s.tps), text: known.map(about), hovertemplate: "%{text}<extra></extra>", marker: { size: known.length > 400 ? 5 : 8, color: css("--default"), opacity: 0.6 } },
      { type: "scatter", mode: "lines+markers", name: "Pareto front", x: front.map((s) => s.j), y: front.map((s) => s.tps), text: front.map(about), hovertemplate: "%{text}<extra>front</extra>", line: { color: css("--good"), width: 2 }, marker: { size: 9, color: css("--good") } },
      ...some((s) => same(s.at, data.default_at, []), "default", "circle-open"), ...some((s) => same(s.at, data.chosen_at, []), data.chosen_name, "star-open"),
    ], layout({ height: 400, annotations: front.filter((s) => left[s.front]).map((s) => ({ x: s.j, y: s.tps, text: s.front, ax: -34, ay: -22, arrowcolor: css("--quiet"), arrowwidth: 1, arrowhead: 0, font: { size: 12.5, color: css("--text") } })), xaxis: axis("gross J per output token"), yaxis: axis("output tok/s") }));
  }

  function drawTime() {
    const rows = [...data.times].reverse(), total = data.times.reduce((sum, row) => sum + row.launch + row.warmup + row.windows + row.ours, 0);
    const [unit, per] = total > 7200 ? ["h", 3600] : total > 180 ? ["min", 60] : ["s", 1];
    const colors = { launch: "--other", warmup: "--default", windows: "--accent", ours: "--bad" }, names = { launch: "launch", warmup: "warm-up", windows: "run", ours: "ours" };
    draw("chart-time", Object.keys(colors).map((key) => ({ type: "bar", orientation: "h", name: names[key], y: rows.map((row) => row.phase), x: rows.map((row) => row[key] / per), customdata: rows.map((row) => seconds(row[key]) + " (" + Math.round(100 * row[key] / (total || 1)) + "% of all)"), hovertemplate: "%{customdata}<extra>" + names[key] + "</extra>", marker: { color: css(colors[key]) } })),
      layout({ barmode: "stack", height: 130 + 46 * rows.length, bargap: 0.35, xaxis: axis((data.simulated_clock ? "simulated " : "") + unit), yaxis: axis("", { showgrid: false }), legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0, traceorder: "normal" } }));
  }

  const charts = { "chart-map": drawMap, "chart-slices": drawSlices, "chart-importance": drawImportance, "chart-progress": drawProgress, "chart-energy": drawEnergy, "chart-time": drawTime };
  const drawn = new Set();
  const drawOnce = (id) => { if (!drawn.has(id)) { drawn.add(id); charts[id](); } };
  const redraw = () => drawn.forEach((id) => charts[id]());

  async function start() {
    const packed = Uint8Array.from(atob(at("plotly").textContent), (c) => c.charCodeAt(0));
    const code = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
    const script = document.createElement("script");
    script.textContent = code;
    document.head.append(script);
    for (const id of Object.keys(charts).filter(at)) {
      drawOnce(id);
      await new Promise((next) => setTimeout(next, 0));  // the page stays quick to scroll and type in meanwhile
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    let wide = narrow();
    addEventListener("resize", () => { if (wide !== narrow()) { wide = narrow(); redraw(); } });
    const print = (on) => { document.documentElement.classList.toggle("printing", on); Object.keys(charts).filter(at).forEach(drawOnce); redraw(); };
    addEventListener("beforeprint", () => print(true));  // on white paper, whatever the screen
    addEventListener("afterprint", () => print(false));
    document.documentElement.setAttribute("data-charts", "ready");
  }

  // ---- controls --------------------------------------------------------------------------------------------------
  if (at("map-x")) {
    const option = (value, text) => new Option(text, value);
    const order = data.axes.map(byName).filter(Boolean);
    for (const id of ["map-x", "map-y"]) at(id).append(...order.map((knob) => option(knob.name, knob.name)));
    at("map-x").value = order[0].name;
    at("map-y").value = (order[1] ?? order[0]).name;
    at("map-z").append(option("figure", data.unit));
    if (data.spots.some((spot) => spot.j !== null)) at("map-z").append(option("j", "J/token"));
    for (const id of ["map-x", "map-y", "map-z", "map-rest"]) at(id).addEventListener("change", drawMap);
  }
  const axes = ["by-trial", "by-time"].map(at).filter(Boolean);
  axes.forEach((button) => button.addEventListener("click", () => { axes.forEach((b) => b.setAttribute("aria-pressed", String(b === button))); drawProgress(); }));
  document.querySelectorAll("button.copy").forEach((button) => button.addEventListener("click", async () => {
    const source = at(button.dataset.of), done = () => { button.textContent = "Copied"; setTimeout(() => { button.textContent = "Copy"; }, 1500); };
    try { await navigator.clipboard.writeText(source.textContent); done(); } catch {
      getSelection().selectAllChildren(source);
      if (document.execCommand("copy")) done();
    }
  }));

  // ---- table -----------------------------------------------------------------------------------------------------
  const columns = [
    { name: "#", of: (t) => t.n, text: (t) => t.n, n: true },
    { name: "phase", of: (t) => t.phase, text: (t) => t.phase },
    { name: data.unit, of: (t) => t.figure, text: (t) => number(t.figure), n: true },
    { name: "to the default", of: (t) => t.figure, text: (t) => t.figure === null || data.default_figure === null ? "" : ((t.figure / data.default_figure - 1) * 100).toFixed(1).replace(/^(?!-)/, "+") + "%", n: true },
    { name: "J/token", of: (t) => t.j, text: (t) => number(t.j), n: true, when: data.trials.some((t) => t.j !== null) },
    { name: "outcome", of: (t) => t.status, text: (t) => t.status === "measured" ? (t.live ? "live" : "launched") : t.status },
    { name: "changed settings", of: (t) => settings(t.at), text: (t) => settings(t.at) + (t.what ? " – " + t.what : ""), wide: true },
    { name: "launch s", of: (t) => t.launch, text: (t) => t.launch.toFixed(1), n: true },
    { name: "run s", of: (t) => t.run, text: (t) => t.run.toFixed(1), n: true },
  ].filter((column) => column.when !== false);
  const head = at("table").tHead.rows[0], body = at("table").tBodies[0], few = 100;
  let sorted = 0, direction = 1, all = false;
  const words = data.trials.map((trial) => columns.map((column) => column.text(trial)).join(" ").toLowerCase());
  columns.forEach((column, n) => {
    const cell = document.createElement("th"), button = document.createElement("button");
    button.type = "button"; button.textContent = column.name; cell.scope = "col"; if (column.n) cell.className = "n";
    button.addEventListener("click", () => { direction = sorted === n ? -direction : 1; sorted = n; list(); });
    cell.append(button); head.append(cell);
  });
  const fill = (id, values) => at(id).append(...[...new Set(values)].map((value) => new Option(value, value)));
  fill("filter-phase", data.trials.map((t) => t.phase));
  fill("filter-status", data.trials.map((t) => t.status));
  function list() {
    const wanted = at("filter").value.toLowerCase().split(/\s+/).filter(Boolean), phase = at("filter-phase").value, status = at("filter-status").value;
    const found = data.trials.filter((t, n) => (!phase || t.phase === phase) && (!status || t.status === status) && wanted.every((word) => words[n].includes(word)));
    const key = columns[sorted].of;
    found.sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === null || y === null) return (x === null) - (y === null) || a.n - b.n;
      return direction * (x < y ? -1 : x > y ? 1 : 0) || a.n - b.n;
    });
    [...head.cells].forEach((cell, n) => { n === sorted ? cell.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending") : cell.removeAttribute("aria-sort"); cell.firstChild.textContent = columns[n].name + (n === sorted ? (direction > 0 ? " ↑" : " ↓") : ""); });
    const shown = all ? found : found.slice(0, few);
    body.replaceChildren(...shown.map((trial) => {
      const row = document.createElement("tr");
      if (failed(trial)) row.className = "failed";
      for (const column of columns) { const cell = row.insertCell(); cell.textContent = column.text(trial); if (column.n) cell.className = "n"; if (column.wide) cell.className = "setting"; }
      return row;
    }));
    at("count").textContent = (shown.length < found.length ? shown.length + " shown of " : "") + found.length.toLocaleString("en-US") + (found.length < data.trials.length ? " found of " + data.trials.length.toLocaleString("en-US") : "") + " trials";
    at("more").hidden = shown.length === found.length;
    at("more").textContent = "Show all " + found.length.toLocaleString("en-US");
  }
  at("more").addEventListener("click", () => { all = true; list(); });
  for (const id of ["filter", "filter-phase", "filter-status"]) at(id).addEventListener("input", list);
  list();
  requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(start, 0)));  // after the first paint
})();
