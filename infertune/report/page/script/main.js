// What happens when the page is opened: the table at once, the charts after the first paint.

import { connectCopying } from "./copy.js";
import { at } from "./data.js";
import { drawEnergy } from "./energy.js";
import { drawImportance } from "./importance.js";
import { connectMap, drawMap } from "./map.js";
import { isNarrow } from "./plot.js";
import { connectProgress, drawProgress } from "./progress.js";
import { drawSlices } from "./slices.js";
import { showTable } from "./table.js";
import { drawTime } from "./time.js";

// Those that this page has, in reading order.
const charts = [
  ["chart-map", drawMap],
  ["chart-slices", drawSlices],
  ["chart-importance", drawImportance],
  ["chart-progress", drawProgress],
  ["chart-energy", drawEnergy],
  ["chart-time", drawTime],
].filter(([id]) => at(id));

const drawAll = () => charts.forEach(([, drawChart]) => drawChart());

// Hold the page's load event back until the returned function is called. A program that prints the page or takes a
// picture of it waits for that event. An inner document that is still being written delays it.
function holdLoading() {
  const frame = document.createElement("iframe");
  frame.hidden = true;
  document.body.append(frame);
  frame.contentDocument.open();
  return () => {
    frame.contentDocument.close();
    frame.remove();
  };
}

// A page that is not seen is never painted: its charts wait for nothing.
async function firstPaint() {
  if (document.hidden) return;
  await new Promise((painted) => {
    requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(painted, 0)));
    document.addEventListener("visibilitychange", painted, { once: true });
  });
}

// plotly.js travels deflated inside the page, and is run as a script of the page's own.
async function loadPlotly() {
  const packed = Uint8Array.from(atob(at("plotly").textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

// Charts have the colours and the size of the moment they are drawn in: draw them again where those change.
function followChanges() {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  let narrow = isNarrow();
  addEventListener("resize", () => {
    if (narrow === isNarrow()) return;
    narrow = isNarrow();
    drawAll();
  });
  addEventListener("beforeprint", () => setPrinting(true));
  addEventListener("afterprint", () => setPrinting(false));
  matchMedia("print").addEventListener("change", ({ matches }) => setPrinting(matches));
}

// Paper is white, whatever the screen is.
function setPrinting(printing) {
  const { classList } = document.documentElement;
  if (classList.contains("printing") === printing) return;
  classList.toggle("printing", printing);
  drawAll();
}

async function showCharts() {
  const loaded = holdLoading();
  try {
    await firstPaint();
    await loadPlotly();
    followChanges();
    for (const [, drawChart] of charts) {
      drawChart();
      await new Promise((next) => setTimeout(next, 0)); // the page stays quick to scroll and type in meanwhile
    }
    document.documentElement.setAttribute("data-charts", "ready");
  } finally {
    loaded();
  }
}

connectMap();
connectProgress();
connectCopying();
showTable();
showCharts();
