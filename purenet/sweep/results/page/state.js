"use strict";
// What the page knows: the data, what is filtered, sorted and chosen. Nothing here draws.

const byId = (id) => document.getElementById(id);

async function unpack(id) {
  const text = byId(id).textContent.trim();
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(plain).text();
}

function floats(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

// Plotly takes a subset of HTML in its texts.
const escaped = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

function shortNumber(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return String(value);
  const text = Number(value.toPrecision(4));
  const size = Math.abs(text);
  return size >= 1e-3 && size < 1e7 ? String(text) : text.toExponential().replace("e+", "e");
}

// A column is a hyperparameter, a metric or an objective; `show(i)` is its text for point i.
function column(name, values, options = {}) {
  const { names = null, log = false, bad = null } = options;
  const show = (i) => (values[i] === null ? "–" : names ? names[values[i]] : shortNumber(values[i]));
  return { name, values, names, log, bad, show };
}

// An axis of the parallel coordinates: where each point is, and its ticks. A value that is absent
// has a place of its own: below, or, for a score, at the end where scores are bad.
function axis(col) {
  const unit = (v) => (col.log ? Math.log10(v) : v);
  const known = col.values.filter((v) => v !== null).map(unit);
  let low = known.reduce((a, b) => Math.min(a, b), Infinity);
  let high = known.reduce((a, b) => Math.max(a, b), -Infinity);
  if (!known.length) [low, high] = [0, 1];
  if (high - low <= 1e-12 * Math.max(Math.abs(low), Math.abs(high))) {
    const half = Math.abs(low) / 2 || 0.5;
    [low, high] = [low - half, high + half];
  }
  const found = { name: col.name, column: col, unit, low, high, absent: null };
  if (known.length < col.values.length) {
    const away = 0.12 * (high - low || 1);
    found.absent = col.bad === "high" ? high + away : low - away;
  }
  found.at = col.values.map((v) => (v === null ? found.absent : unit(v)));
  found.range = [Math.min(low, found.absent ?? low), Math.max(high, found.absent ?? high)];
  if (col.names) {
    const margin = 0.3;
    found.range = [found.range[0] - margin, found.range[1] + margin];
  }
  return Object.assign(found, axisTicks(found));
}

function axisTicks({ column: col, at, low, high, absent }) {
  const few = [...new Set(at)];
  if (!col.names && !col.log && absent === null && few.length <= 6 && few.every(Number.isInteger)) {
    return { ticks: distinct(few.map((value) => [value, String(value)])) };
  }
  if (!col.names && !col.log && absent === null) return {}; // Plotly's own
  const label = col.bad ? "diverged" : "none";
  let marks = absent === null ? [] : [[absent, label]];
  if (col.names) {
    marks = marks.concat(col.names.map((name, i) => [i, clipped(name, 18)]));
    return { ticks: distinct(marks) };
  }
  marks = marks.concat((col.log ? decades(low, high) : rounds(low, high)));
  // Brushes snap to the ticks of an axis that has any: many without a visible text keep them fine.
  const steps = 80;
  const taken = marks.map(([at]) => at);
  const near = (at) => taken.some((other) => Math.abs(other - at) < (high - low) / (3 * steps));
  for (let i = 0; i <= steps; i++) {
    const at = low + ((high - low) * i) / steps;
    if (!near(at)) marks.push([at, ""]);
  }
  return { ticks: distinct(marks) };
}

// Plotly needs texts that differ from one another: spaces of no width make them so.
function distinct(marks) {
  const sorted = [...marks].sort((a, b) => a[0] - b[0]);
  return sorted.map(([at, text], i) => [at, escaped(text) + "\u200b".repeat(i)]);
}

function decades(low, high) {
  const found = [];
  for (let e = Math.floor(low) - 1; e <= Math.ceil(high); e++) {
    for (const m of high - low > 2 ? [1] : [1, 2, 5]) {
      const at = e + Math.log10(m);
      if (at >= low - 1e-9 && at <= high + 1e-9) found.push([at, shortNumber(m * 10 ** e)]);
    }
  }
  const every = Math.ceil(found.length / 8);
  return found.filter((_, i) => i % every === 0);
}

function rounds(low, high) {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) found.push([k * step, shortNumber(k * step)]);
  return found;
}

const clipped = (text, most) => (text.length <= most ? text : text.slice(0, most - 1) + "…");

const state = {
  data: null,
  ranked: 1, // the number of points with a rank
  axes: [], // of the parallel coordinates, in their order
  columns: [], // of the table
  filters: new Map(), // name of an axis -> [[low, high], ...] in its units
  shown: [], // points that pass the filters, best first
  chosen: null, // a point, kept
  pointed: null, // a point under the pointer
  sort: { name: "rank", down: false },
  limit: 100, // rows of the table
};

function passes(point) {
  return state.axes.every((one) => {
    const ranges = state.filters.get(one.name);
    return !ranges || ranges.some(([low, high]) => one.at[point] >= low && one.at[point] <= high);
  });
}

function applyFilters() {
  const last = state.data.rank.length + 1;
  const place = (i) => state.data.rank[i] || last;
  const all = state.data.rank.map((_, i) => i).filter(passes);
  state.shown = all.sort((a, b) => place(a) - place(b) || a - b);
}

function buildColumns(data) {
  const bad = data.maximize ? "low" : "high";
  const taken = new Set(["rank", "trial", "epochs", "status", ...data.metrics.map((m) => m.name)]);
  const named = (name) => (taken.has(name) ? `hyper ${name}` : name);
  const hyper = data.hyper.map((h) => column(named(h.name), h.values, h));
  const metrics = data.metrics.map((m) => column(m.name, m.values, { bad }));
  const known = new Set([...data.hyper.map((h) => h.name), ...data.metrics.map((m) => m.of)]);
  const goals = data.objectives
    ? data.objectives.goals
        .map((g) => column(g.name, g.values, { bad: g.maximize ? "low" : "high" }))
        .filter((g) => !known.has(g.name))
    : [];
  const ranks = column("rank", data.rank.map((r) => r || null));
  const status = [...new Set(data.status)];
  const epochs = column("epochs", data.trained);
  const ends = column("status", data.status.map((s) => status.indexOf(s)), { names: status });
  state.columns = [ranks, column("trial", data.number), ...metrics, ...goals, epochs, ends, ...hyper];
  const varied = new Set(data.trained).size > 1;
  // points that diverged have no score; the score is the last axis
  const alive = (m) => ({ ...m, values: m.values.map((v, i) => (data.rank[i] ? v : null)) });
  const others = metrics.slice(1).filter((m) => m.name.startsWith("val ")).slice(0, 2);
  const scores = [...others, metrics[0]].map(alive);
  const shown = [...hyper, ...goals, ...(varied ? [epochs] : []), ...scores];
  const used = new Set();
  state.axes = shown.map(axis).filter((a) => !used.has(a.name) && used.add(a.name));
}

// What is remembered when the page loads itself again.
function remember() {
  const { filters, sort, chosen, limit } = state;
  const kept = JSON.stringify({ filters: [...filters], sort, chosen, limit });
  try { sessionStorage.setItem(location.pathname, kept); } catch { /* storage may be forbidden */ }
}

function recall() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(location.pathname)) || {};
    const names = new Set(state.axes.map((one) => one.name));
    state.filters = new Map((kept.filters || []).filter(([name]) => names.has(name)));
    if (state.columns.some((c) => c.name === kept.sort?.name)) state.sort = kept.sort;
    if (kept.chosen !== null && kept.chosen < state.data.rank.length) state.chosen = kept.chosen ?? null;
    state.limit = kept.limit || state.limit;
  } catch { /* storage may be forbidden, or hold what another page left */ }
}
