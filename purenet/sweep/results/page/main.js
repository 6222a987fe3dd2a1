"use strict";
// Start: unpack, draw, listen.

function refresh() {
  applyFilters();
  drawCount();
  drawTable();
  drawCurves();
  drawPareto();
  drawDetails();
}

function typed(name, ranges) {
  if (ranges) state.filters.set(name, ranges);
  else state.filters.delete(name);
  drawParallel().then(refresh);
}

// before anything is drawn: charts take the size of their sections
function reveal() {
  const { objectives, rungs, lineage } = state.data;
  byId("s-pareto").hidden = !objectives || objectives.goals.length < 2;
  byId("s-rungs").hidden = !rungs;
  byId("s-lineage").hidden = !lineage || !lineage.ancestors.length;
  byId("importance").hidden = !state.data.importance.names.length;
  document.querySelector("main").hidden = false;
}

function drawAll() {
  const drawn = drawParallel();
  refresh();
  drawImportance();
  drawRungs();
  drawLineage();
  return drawn;
}

function listen() {
  byId("parallel").on("plotly_restyle", () => {
    readBrushes();
    setTimeout(() => { // once Plotly has painted the brush
      refresh();
      drawFields(typed);
    }, 0);
  });
  byId("parallel").on("plotly_hover", (event) => point(event.curveNumber));
  byId("parallel").on("plotly_unhover", () => point(null));
  for (const id of ["curves", "pareto"]) {
    const chart = byId(id);
    if (!chart.on) continue;
    chart.on("plotly_hover", ({ points }) => point(points[0].customdata));
    chart.on("plotly_unhover", () => point(null));
    chart.on("plotly_click", ({ points }) => choose(points[0].customdata));
  }
  byId("clear").addEventListener("click", () => {
    state.filters.clear();
    drawParallel().then(refresh);
    drawFields(typed);
  });
  byId("metric").addEventListener("change", drawCurves);
  byId("scale").addEventListener("change", drawCurves);
  byId("moved").addEventListener("change", drawLineage);
  listenToTable();
  dark.addEventListener("change", drawAll);
  addEventListener("resize", () => drawParallel());
}

function reloadAfter(seconds) {
  if (!seconds) return;
  byId("live").hidden = false;
  let pressed = false;
  addEventListener("pointerdown", () => (pressed = true), true);
  addEventListener("pointerup", () => (pressed = false), true);
  setInterval(() => {
    const typing = byId("fields").contains(document.activeElement);
    if (byId("follow").checked && !pressed && !typing && !document.hidden) location.reload();
  }, 1000 * seconds);
}

async function start() {
  if (typeof DecompressionStream === "undefined") throw Error("this browser is too old to unpack the page");
  const library = document.createElement("script");
  library.textContent = await unpack("library");
  document.head.append(library);
  state.data = JSON.parse(await unpack("data"));
  state.ranked = state.data.rank.reduce((a, b) => Math.max(a, b), 1);
  buildColumns(state.data);
  recall();
  const options = (id, names) => names.forEach((name) => byId(id).append(element("option", name, { value: name })));
  options("metric", Object.keys(state.data.curves.metrics));
  options("moved", Object.keys(state.data.lineage?.numbers ?? {}));
  const { every } = state.data.curves;
  byId("thinned").textContent = every > 1 ? `Only every ${every} epochs are drawn.` : "";
  const { constants } = state.data;
  byId("constants").textContent = constants.length ? `The same in all trials: ${constants.join(", ")}.` : "";
  reveal();
  await drawAll();
  drawFields(typed);
  listen();
  reloadAfter(state.data.reload);
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) => {
  byId("trouble").hidden = false;
  byId("trouble").textContent = `The page cannot be shown: ${error.message}.`;
  throw error;
});
