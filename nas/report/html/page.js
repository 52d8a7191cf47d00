"use strict";
// Draws the figures of a report from the columns in #data. Every figure is drawn when it comes into
// view, so that a study of thousands of trials opens at once.
const DATA = JSON.parse(document.getElementById("data").textContent);
const T = DATA.columns;
// Okabe and Ito's colors; on a dark page the light blue comes first.
const [LIGHT, DARK] = ["#0072B2", "#56B4E9"];
const OTHERS = ["#E69F00", "#009E73", "#CC79A7", "#D55E00"];
const dark = matchMedia("(prefers-color-scheme: dark)");
const colors = () => [...(dark.matches ? [DARK, ...OTHERS, LIGHT] : [LIGHT, ...OTHERS, DARK]), "#8d8d8d"];
const ACCENT = "#D55E00";
const SYMBOLS = ["circle", "square", "triangle-up", "cross", "star", "triangle-down", "x"];
const COSTS = {
  flops: { name: "FLOPs", title: "FLOPs of one image, in 10⁹", scale: 1e-9 },
  params: { name: "parameters", title: "parameters, in millions", scale: 1e-6 },
  latency_ms: { name: "latency", title: "measured latency, ms", scale: 1 },
};

// Plotly reads a little HTML in texts: names are escaped, so that they stay names.
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
// Scores are shares, read as percent, or plain numbers.
const [SCALE, UNIT, DIGITS] = DATA.metric.unit === "percent" ? [100, " %", 2] : [1, "", 4];
const share = (score) => (score === null ? "no score" : (SCALE * score).toFixed(DIGITS) + UNIT);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const byId = (id) => document.getElementById(id);

function choiceOf(name, i) {
  const choice = T.choices[name];
  return choice.of[i] < 0 ? null : choice.options[choice.of[i]];
}

const HOVERS = [];
const hover = (i) => (HOVERS[i] ??= described(i));

function described(i) {
  const what = T.label[i] === null ? T.kinds[T.kind[i]] : T.label[i] + " (published)";
  const lines = [
    `<b>trial ${T.trial[i]}</b>, ${plain(what)}: ${share(T.score[i])}`,
    `${(T.flops[i] * 1e-9).toFixed(3)}G FLOPs, ${(T.params[i] * 1e-6).toFixed(2)}M parameters`,
  ];
  if (T.latency_ms && T.latency_ms[i] !== null) lines.push(`${T.latency_ms[i].toFixed(2)} ms`);
  for (const name of Object.keys(T.choices)) {
    const value = choiceOf(name, i);
    if (value !== null) lines.push(`${plain(name)}: ${plain(value)}`);
  }
  return lines.join("<br>");
}

function shown() {
  const learned = byId("learned-only").checked;
  return T.trial.map((_, i) => i).filter((i) => T.score[i] !== null && (!learned || T.learned[i]));
}

// Candidates in groups by how they were proposed or by a choice: the six largest, then the rest.
function groups(drawn) {
  const by = byId("color-by").value;
  const found = new Map();
  for (const i of drawn.filter((i) => T.label[i] === null)) {
    const value = by === "" ? T.kinds[T.kind[i]] : choiceOf(by.slice(1), i) ?? "without this choice";
    if (!found.has(value)) found.set(value, []);
    found.get(value).push(i);
  }
  const sorted = [...found].sort((a, b) => b[1].length - a[1].length);
  const rest = sorted.splice(SYMBOLS.length - 1).flatMap((group) => group[1]);
  if (rest.length) sorted.push(["others", rest]);
  return sorted;
}

function points(name, rows, x, marker) {
  return {
    type: "scatter", mode: "markers", name: plain(name), x: rows.map(x),
    y: rows.map((i) => SCALE * T.score[i]), text: rows.map(hover), marker,
    hovertemplate: "%{text}<extra></extra>", hoverlabel: { align: "left" },
  };
}

function marker(place, many) {
  return {
    color: colors()[place], symbol: SYMBOLS[place], size: many ? 5 : 8, opacity: many ? 0.6 : 0.85,
  };
}

function layout(x, extra) {
  const axis = { gridcolor: css("--line"), zerolinecolor: css("--line"), automargin: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
    font: { color: css("--ink"), size: 13 }, margin: { l: 55, r: 12, t: 8, b: 100 },
    legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom" },
    xaxis: { ...axis, title: { text: x, standoff: 6 } },
    yaxis: { ...axis, title: { text: plain(DATA.metric.metric) + " under the proxy" + (UNIT && "," + UNIT) } }, ...extra,
  };
}

const published = (rows) => rows.filter((i) => T.label[i] !== null);

function designs() {
  const cost = byId("cost").value;
  const { title, scale } = COSTS[cost];
  const x = (i) => T[cost][i] * scale;
  const drawn = shown().filter((i) => T[cost][i] !== null);
  const rows = groups(drawn);
  const many = rows.reduce((n, group) => n + group[1].length, 0) > 400;
  const front = DATA.pareto[cost];
  const traces = rows.map(([name, group], place) => points(name, group, x, marker(place, many)));
  traces.push({
    type: "scatter", mode: "lines", name: "Pareto front", x: front.map((p) => p[0] * scale),
    y: front.map((p) => SCALE * p[1]), line: { shape: "hv", color: css("--faint"), width: 1.5 },
    hoverinfo: "skip",
  });
  const named = published(drawn);
  if (named.length) {
    traces.push({
      ...points("published designs", named, x, {
        symbol: "diamond", size: 11, color: css("--paper"), line: { color: css("--ink"), width: 2 },
      }),
      mode: "markers+text", textposition: "top center", customdata: named.map(hover),
      text: named.map((i) => plain(T.label[i])), hovertemplate: "%{customdata}<extra></extra>",
      textfont: { size: 11 }, cliponaxis: false,
    });
  }
  return [traces, layout(title)];
}

function course() {
  const rows = shown();
  const done = rows.filter((i) => T.label[i] === null);
  const traces = [points("candidates", done, (i) => T.trial[i], marker(0, done.length > 400))];
  const named = published(rows);
  if (named.length) {
    traces.push(points("published designs", named, (i) => T.trial[i], {
      symbol: "diamond", size: 9, color: css("--paper"), line: { color: css("--ink"), width: 2 },
    }));
  }
  const best = DATA.best.concat(DATA.best.length ? [[T.trial.at(-1), DATA.best.at(-1)[1]]] : []);
  const step = { shape: "hv", color: ACCENT, width: 2 };
  const x = best.map((p) => p[0]);
  if (DATA.noise !== null) {
    const edge = (sign) => best.map((p) => SCALE * (p[1] + sign * DATA.noise));
    const band = { type: "scatter", mode: "lines", x, line: { ...step, width: 0 }, hoverinfo: "skip" };
    traces.push({ ...band, y: edge(-1), showlegend: false });
    traces.push({
      ...band, y: edge(1), name: "± noise of one run", fill: "tonexty", fillcolor: "rgba(213,94,0,0.18)",
    });
  }
  traces.push({
    type: "scatter", mode: "lines", name: "best so far", x, y: best.map((p) => SCALE * p[1]), line: step,
    hovertemplate: `best so far %{y:.${DIGITS}f}${UNIT}<extra></extra>`,
  });
  return [traces, layout("trial")];
}

function outcomes() {
  const count = T.states.map((_, place) => T.state.filter((s) => s === place).length);
  const trace = {
    type: "bar", orientation: "h", x: count, y: T.states.map(plain), marker: { color: colors()[0] },
    text: count.map(String), textposition: "auto", hovertemplate: "%{y}: %{x}<extra></extra>",
  };
  const flat = layout("trials", { showlegend: false, bargap: 0.4 });
  flat.margin.b = 45;
  flat.yaxis = { ...flat.yaxis, title: undefined };
  return [[trace], flat];
}

const FIGURES = {
  "plot-designs": designs,
  "plot-course": course,
  "plot-outcomes": outcomes,
};
const drawn = new Set();

function draw(id) {
  drawn.add(id);
  const [traces, options] = FIGURES[id]();
  return Plotly.react(id, traces, options, { responsive: true, displaylogo: false });
}

function table() {
  const head = byId("trials").tHead, body = byId("trials").tBodies[0];
  const names = Object.keys(T.choices);
  const fill = (row, cells, tag) => cells.forEach((cell) => {
    row.appendChild(document.createElement(tag)).textContent = cell;
  });
  if (!head.rows.length) fill(head.insertRow(), ["trial", "design", "score", "FLOPs", "params", ...names], "th");
  const wanted = byId("find").value.trim().toLowerCase();
  const rows = T.trial.map((trial, i) => [
    trial, T.label[i] ?? T.kinds[T.kind[i]],
    T.score[i] === null ? T.states[T.state[i]] : share(T.score[i]),
    (T.flops[i] * 1e-9).toFixed(3) + "G", (T.params[i] * 1e-6).toFixed(2) + "M",
    ...names.map((name) => choiceOf(name, i) ?? ""),
  ]).filter((row) => !wanted || row.join(" ").toLowerCase().includes(wanted));
  body.replaceChildren();
  for (const row of rows.slice(0, 100)) fill(body.insertRow(), row, "td");
  byId("found").textContent = rows.length > 100 ? `the first 100 of ${rows.length}` : `${rows.length} found`;
}

async function loadPlotly() {
  const packed = await fetch("data:application/gzip;base64," + byId("plotly").textContent);
  const script = document.createElement("script");
  script.textContent = await new Response(
    packed.body.pipeThrough(new DecompressionStream("gzip"))).text();
  document.head.append(script);
}

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    seen.unobserve(entry.target);
    draw(entry.target.id);
  }
});
if (typeof DecompressionStream === "undefined") byId("too-old").hidden = false;
else loadPlotly().then(() => Object.keys(FIGURES).filter(byId).forEach((id) => seen.observe(byId(id))));
const again = () => drawn.forEach(draw);
dark.addEventListener("change", again);
if (byId("color-by")) {
  for (const [name, cost] of Object.entries(COSTS)) if (T[name]) byId("cost").add(new Option(cost.name, name));
  byId("cost").addEventListener("change", again);
  byId("color-by").add(new Option("how it was proposed", ""));
  for (const name of Object.keys(T.choices)) byId("color-by").add(new Option(name, "=" + name));
  byId("color-by").addEventListener("change", again);
  byId("learned-only").addEventListener("change", again);
  byId("find").addEventListener("input", table);
  byId("all-trials").addEventListener("toggle", table, { once: true });
}
