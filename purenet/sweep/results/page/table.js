"use strict";
// The table of the points that pass the filters, the numbers of one point, and the typed filters.

function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function sorted() {
  const { name, down } = state.sort;
  const by = state.columns.find((c) => c.name === name);
  const value = (i) => (by.names && by.values[i] !== null ? by.names[by.values[i]] : by.values[i]);
  const less = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  const found = [...state.shown];
  return found.sort((i, j) => {
    const [a, b] = [value(i), value(j)];
    if (a === null || b === null) return (a === null) - (b === null); // those without one come last
    return down ? less(b, a) : less(a, b);
  });
}

function drawHead() {
  const row = element("tr");
  for (const col of state.columns) {
    const here = state.sort.name === col.name;
    const cell = element("th", "", { scope: "col", title: col.name });
    if (here) cell.setAttribute("aria-sort", state.sort.down ? "descending" : "ascending");
    const mark = here ? (state.sort.down ? " ▼" : " ▲") : "";
    const button = element("button", col.name + mark, { type: "button" });
    button.addEventListener("click", () => {
      state.sort = { name: col.name, down: here && !state.sort.down };
      drawTable();
      byId("table").querySelectorAll("th button")[state.columns.indexOf(col)].focus();
    });
    cell.append(button);
    row.append(cell);
  }
  byId("table").tHead.replaceChildren(row);
}

function drawTable() {
  drawHead();
  const rows = sorted();
  const body = document.createDocumentFragment();
  for (const point of rows.slice(0, state.limit)) {
    const row = element("tr", "", { tabindex: "0", "data-point": point });
    row.setAttribute("aria-selected", String(point === state.chosen));
    for (const col of state.columns) {
      const text = col.show(point);
      row.append(element("td", text, text.length > 24 ? { title: text } : {}));
    }
    body.append(row);
  }
  byId("table").tBodies[0].replaceChildren(body);
  byId("more").hidden = rows.length <= state.limit;
  remember();
}

function drawCount() {
  const all = state.data.rank.length;
  const what = state.data.runs > 1 ? `points of ${state.data.runs} runs each` : "trials";
  byId("count").textContent = `${state.shown.length} of ${all} ${what}`;
  byId("clear").disabled = !state.filters.size;
}

function drawDetails() {
  const point = state.pointed ?? state.chosen;
  const box = byId("details");
  if (point === null) {
    box.replaceChildren(element("p", "Point at a curve or a row to see its numbers; click to keep it.",
                                { class: "hint" }));
    return;
  }
  const list = element("dl");
  for (const col of state.columns) {
    const pair = element("div");
    pair.append(element("dt", col.name), element("dd", col.show(point)));
    list.append(pair);
  }
  box.replaceChildren(list);
}

let waiting = null;
function point(at) {
  if (state.pointed === at) return;
  state.pointed = at;
  drawDetails();
  clearTimeout(waiting);
  waiting = setTimeout(drawHighlights, 40);
}

function choose(at) {
  state.chosen = state.chosen === at ? null : at;
  for (const row of byId("table").tBodies[0].rows) {
    row.setAttribute("aria-selected", String(Number(row.dataset.point) === state.chosen));
  }
  drawDetails();
  drawHighlights();
  remember();
}

function listenToTable() {
  const body = byId("table").tBodies[0];
  const of = (event) => event.target.closest("tr");
  const number = (row) => Number(row.dataset.point);
  body.addEventListener("pointerover", (event) => of(event) && point(number(of(event))));
  body.addEventListener("pointerleave", () => point(null));
  body.addEventListener("focusin", (event) => of(event) && point(number(of(event))));
  body.addEventListener("click", (event) => of(event) && choose(number(of(event))));
  body.addEventListener("keydown", (event) => {
    const row = of(event);
    if (!row) return;
    const next = { ArrowDown: row.nextElementSibling, ArrowUp: row.previousElementSibling }[event.key];
    if (next) next.focus();
    if (event.key === "Enter" || event.key === " ") choose(number(row));
    if (next || event.key === " ") event.preventDefault();
  });
  byId("more").addEventListener("click", () => {
    state.limit += 500;
    drawTable();
  });
}

// filters for the keyboard: two numbers, or boxes for categories
function drawFields(changed) {
  const fields = state.axes.map((one) => {
    const set = element("fieldset");
    set.append(element("legend", one.name));
    const ranges = state.filters.get(one.name);
    if (one.column.names) {
      one.column.names.forEach((name, code) => {
        const label = element("label");
        const box = element("input", "", { type: "checkbox" });
        box.checked = !ranges || ranges.some(([low, high]) => low <= code && code <= high);
        label.append(box, ` ${name}`);
        set.append(label);
      });
      set.addEventListener("change", () => {
        const boxes = [...set.querySelectorAll("input")];
        const kept = boxes.flatMap((box, code) => (box.checked ? [[code - 0.25, code + 0.25]] : []));
        changed(one.name, kept.length === boxes.length ? null : kept);
      });
      return set;
    }
    const back = (at) => shortNumber(one.column.log ? 10 ** at : at);
    const inputs = ["from", "to"].map((word, end) => {
      const label = element("label", `${word} `);
      const input = element("input", "", { type: "text", inputmode: "decimal" });
      input.placeholder = back(end ? one.high : one.low);
      if (ranges) input.value = back(end ? ranges[ranges.length - 1][1] : ranges[0][0]);
      label.append(input);
      set.append(label);
      return input;
    });
    set.addEventListener("change", () => {
      const typed = inputs.map((input) => (input.value.trim() ? one.unit(Number(input.value)) : null));
      inputs.forEach((input, i) => input.setAttribute("aria-invalid", String(Number.isNaN(typed[i]))));
      if (typed.some(Number.isNaN)) return;
      const empty = typed[0] === null && typed[1] === null;
      changed(one.name, empty ? null : [[typed[0] ?? one.range[0], typed[1] ?? one.range[1]]]);
    });
    return set;
  });
  byId("fields").replaceChildren(...fields);
}
