"use strict";
// The charts, each drawn by Plotly from the state.

const BUTTONS = [["zoom2d", "pan2d", "resetScale2d", "toImage"]]; // none that would need a network
const CONFIG = { displaylogo: false, responsive: true, modeBarButtons: BUTTONS };
const PLAIN = { displayModeBar: false, responsive: true };
const MANY = 20000; // numbers of curves beyond which WebGL draws them
const dark = matchMedia("(prefers-color-scheme: dark)");

function look() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  // from bad to good, also in greyscale: towards the background, and away from it
  const scale = dark.matches
    ? ["#2c343d", "#31446b", "#2c728e", "#28ae80", "#addc30", "#fde725"]
    : ["#e3e6e8", "#bcd9a8", "#5ec08b", "#21918c", "#3b528b", "#440154"];
  return { text: of("--text"), soft: of("--soft"), grid: of("--grid"), back: of("--back"),
           accent: of("--accent"), scale };
}

function layout(extra = {}) {
  const { text, grid, back } = look();
  const axisLook = { gridcolor: grid, zerolinecolor: grid, automargin: true };
  const { xaxis = {}, yaxis = {}, ...rest } = extra;
  return {
    paper_bgcolor: back, plot_bgcolor: back, font: { color: text, size: 12 },
    margin: { l: 60, r: 20, t: 20, b: 45 }, hovermode: "closest", showlegend: false,
    xaxis: { ...axisLook, ...xaxis }, yaxis: { ...axisLook, ...yaxis }, ...rest,
  };
}

// 1 for the best point, 0 for the worst; the few best stand out from the many others
function goodness(point) {
  const rank = state.data.rank[point];
  return rank ? 1 - Math.sqrt((rank - 1) / state.ranked) : 0;
}

// parallel coordinates
function dimensions() {
  return state.axes.map((one) => {
    const found = { label: escaped(clipped(one.name, 30)), name: one.name, values: one.at, range: one.range };
    if (one.ticks) {
      found.tickvals = one.ticks.map(([at]) => at);
      found.ticktext = one.ticks.map(([, text]) => text);
    }
    const ranges = state.filters.get(one.name);
    if (ranges) found.constraintrange = ranges.length === 1 ? ranges[0] : ranges;
    return found;
  });
}

function drawParallel() {
  const { text, scale, back, grid } = look();
  const share = scale.map((colour, i) => [i / (scale.length - 1), colour]);
  const shades = state.data.rank.map((_, i) => goodness(i));
  const trace = {
    type: "parcoords", dimensions: dimensions(),
    line: { color: shades, colorscale: share, cmin: 0, cmax: 1 },
    unselected: { line: { color: grid, opacity: 0.25 } },
    labelfont: { color: text, size: 12 }, tickfont: { color: text, size: 10, shadow: "auto" },
    rangefont: { color: "rgba(0,0,0,0)", size: 1 },
  };
  const chart = byId("parallel");
  const width = Math.max(chart.clientWidth, 95 * state.axes.length);
  const margin = { l: 95, r: 80, t: 45, b: 20 };
  return Plotly.react(chart, [trace],
    { paper_bgcolor: back, margin, width, height: 410, font: { color: text } }, { displayModeBar: false });
}

function readBrushes() {
  const found = byId("parallel").data[0].dimensions;
  state.filters = new Map();
  for (const { name, constraintrange: range } of found) {
    if (range && range.length) state.filters.set(name, Array.isArray(range[0]) ? range : [range]);
  }
  const order = new Map(found.map(({ name }, i) => [name, i]));
  state.axes.sort((a, b) => order.get(a.name) - order.get(b.name));
}

// learning curves: the points fall into a few colours, and each colour is one trace with gaps
function curvesOf(metric, part) {
  const parts = state.data.curves.metrics[metric];
  if (!(part in parts)) return null;
  if (typeof parts[part] === "string") parts[part] = floats(parts[part]);
  return parts[part];
}

function joined(points, values) {
  const epochs = state.data.curves.x;
  const x = [], y = [], point = [];
  for (const i of points) {
    const before = x.length;
    for (let e = 0; e < epochs.length; e++) {
      const value = values[i * epochs.length + e];
      if (!Number.isFinite(value)) continue; // not evaluated, or after its end
      x.push(epochs[e]);
      y.push(value);
      point.push(i);
    }
    if (x.length > before) {
      x.push(null);
      y.push(null);
      point.push(i);
    }
  }
  return { x, y, customdata: point };
}

// The range of the y axis: what is shown, but not the worst that happens at the beginning or where
// a trial runs away.
function yRange(values, points) {
  const n = state.data.curves.x.length;
  const some = [];
  const step = Math.max(1, Math.floor((points.length * n) / 50000));
  for (const i of points) for (let e = i % step; e < n; e += step) {
    const v = values[i * n + e];
    if (Number.isFinite(v)) some.push(v);
  }
  if (!some.length) return undefined;
  some.sort((a, b) => a - b);
  const at = (q) => some[Math.round(q * (some.length - 1))];
  const better = byId("metric").value !== state.data.metric ? 0 : state.data.maximize ? 1 : -1;
  let low = better === -1 ? some[0] : at(0.02), high = better === 1 ? some[some.length - 1] : at(0.98);
  if (byId("scale").value === "log") {
    low = some.find((v) => v > 0) && Math.max(low, some.find((v) => v > 0));
    if (!(high > 0)) return undefined;
    [low, high] = [Math.log10(low), Math.log10(high)];
  }
  const margin = 0.04 * (high - low) || 0.5;
  return [low - margin, high + margin];
}

function drawCurves() {
  const metric = byId("metric").value;
  const values = curvesOf(metric, "validation");
  const kind = state.shown.length * state.data.curves.x.length > MANY ? "scattergl" : "scatter";
  const steps = look().scale.length;
  const step = (i) => Math.min(steps - 1, Math.floor(goodness(i) * steps));
  const traces = [];
  for (let k = 0; k < steps; k++) { // the worst first, so that the best lie on top
    const curves = joined(state.shown.filter((i) => step(i) === k).reverse(), values);
    traces.push({
      ...curves, text: curves.customdata.map((i) => state.data.number[i]), type: kind,
      // a trial that was stopped after one epoch is a point
      mode: kind === "scatter" ? "lines+markers" : "lines", marker: { size: 4 }, connectgaps: false, opacity: 0.4 + (0.6 * k) / (steps - 1),
      line: { color: look().scale[k], width: k === steps - 1 ? 1.6 : 1 },
      hovertemplate: "trial %{text}: %{y:.4g} after epoch %{x}<extra></extra>",
    });
  }
  traces.push(...highlights());
  const text = `validation ${escaped(metric)}`;
  return Plotly.react("curves", traces, layout({
    xaxis: { title: { text: "epoch" }, ...(state.data.epochs <= 12 ? { dtick: 1 } : {}) },
    yaxis: { title: { text }, type: byId("scale").value, range: yRange(values, state.shown) },
  }), CONFIG);
}

// the chosen trial and the one under the pointer: validation solid, training dashed
function highlights() {
  const { accent, text } = look();
  const metric = byId("metric").value;
  const found = [];
  for (const [point, color] of [[state.chosen, accent], [state.pointed, text]]) {
    for (const [part, dash] of [["train", "dash"], ["validation", "solid"]]) {
      const values = point === null ? null : curvesOf(metric, part);
      const curve = values ? joined([point], values) : { x: [], y: [] };
      found.push({ x: curve.x, y: curve.y, type: "scatter", mode: "lines", connectgaps: true,
                   hoverinfo: "skip", line: { color, width: part === "train" ? 1.6 : 3, dash } });
    }
  }
  return found;
}

function drawHighlights() {
  const chart = byId("curves");
  const found = highlights();
  const first = chart.data.length - found.length;
  Plotly.restyle(chart, { x: found.map((t) => t.x), y: found.map((t) => t.y) },
                 found.map((_, i) => first + i));
}

// objectives, importance, rungs, lineage
function drawPareto() {
  const found = state.data.objectives;
  if (byId("s-pareto").hidden) return;
  const [a, b] = found.goals;
  const { accent, soft } = look();
  const text = state.data.number;
  const trace = (points, extra) => ({
    x: points.map((i) => a.values[i]), y: points.map((i) => b.values[i]),
    text: points.map((i) => text[i]), customdata: points, type: "scatter",
    hovertemplate: "trial %{text}: %{x:.4g}, %{y:.4g}<extra></extra>", ...extra,
  });
  const ends = [...found.front].sort((i, j) => a.values[i] - a.values[j]);
  Plotly.react("pareto", [
    trace(state.shown, { mode: "markers", marker: { color: soft, size: 7, opacity: 0.6 } }),
    trace(ends, { mode: "lines+markers", line: { color: accent }, marker: { color: accent, size: 10 } }),
  ], layout({ xaxis: { title: { text: escaped(a.name) } }, yaxis: { title: { text: escaped(b.name) } } }), CONFIG);
}

function drawImportance() {
  const { names, values, note } = state.data.importance;
  byId("importance-note").textContent = note;
  if (!names.length) return;
  const { accent } = look();
  const bars = { type: "bar", orientation: "h", x: [...values].reverse(), marker: { color: accent },
    y: [...names].reverse().map((name) => escaped(clipped(name, 30))),
    hovertemplate: "%{x:.3g}<extra></extra>" };
  Plotly.react("importance", [bars], layout({ xaxis: { title: { text: "lost R²" } } }), PLAIN);
}

function drawRungs() {
  const found = state.data.rungs;
  if (!found) return;
  const { accent, soft } = look();
  const x = found.levels.map((level) => `epoch ${level}`);
  const beyond = found.counts.map(([, more]) => more);
  const ended = found.counts.map(([reached, more]) => reached - more);
  const bar = (name, y, color) => ({ type: "bar", name, x, y, marker: { color },
    hovertemplate: `%{y} ${name}<extra></extra>` });
  Plotly.react("rungs", [bar("went on", beyond, accent), bar("ended here", ended, soft)],
    layout({ barmode: "stack", showlegend: true, legend: { orientation: "h", y: 1.15 },
             xaxis: { type: "category" }, yaxis: { title: { text: "trials" } } }), PLAIN);
}

function drawLineage() {
  const found = state.data.lineage;
  if (byId("s-lineage").hidden) return;
  const rows = found.numbers[byId("moved").value];
  const { accent, soft } = look();
  const ends = rows.map((_, r) => r * found.every);
  const x = [], y = [];
  rows[0].forEach((_, member) => {
    rows.forEach((row, r) => { x.push(ends[r]); y.push(row[member]); });
    x.push(null);
    y.push(null);
  });
  const wide = rows.flat().filter((v) => v > 0);
  const log = wide.length === rows.flat().length &&
    wide.reduce((a, b) => Math.max(a, b)) > 100 * wide.reduce((a, b) => Math.min(a, b));
  Plotly.react("lineage", [
    { x, y, type: "scatter", mode: "lines", line: { color: soft, width: 1, shape: "hv" }, opacity: 0.4,
      hoverinfo: "skip" },
    { x: ends, y: rows.map((row, r) => row[found.ancestors[r]]), type: "scatter", mode: "lines+markers",
      line: { color: accent, width: 3, shape: "hv" },
      hovertemplate: "member %{text} after epoch %{x}: %{y:.4g}<extra></extra>", text: found.ancestors },
  ], layout({ xaxis: { title: { text: "epoch" } },
              yaxis: { title: { text: escaped(byId("moved").value) }, type: log ? "log" : "linear" } }), CONFIG);
}
