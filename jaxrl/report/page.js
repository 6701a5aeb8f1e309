"use strict";
// Draws the charts of a report from the numbers in it, and sorts its tables. Text goes in as text, never as markup.

const COLORS = ["#000000", "#E69F00", "#0072B2", "#CC79A7", "#009E73", "#56B4E9", "#D55E00", "#7A5C00"];
const DASHES = ["", "7 3", "7 3 2 3", "2 2"];
const SHADES = [[254, 232, 56], [188, 174, 108], [125, 124, 120], [67, 78, 108], [0, 34, 78]];
const FAINT = "#b8b8b8"; // the lines after the first eight
const SVG = "http://www.w3.org/2000/svg";

function make(name, attributes, parent, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function element(name, parent, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  parent.append(made);
  return made;
}

/** A number as short text. */
function short(x) {
  if (x === null || x === undefined) return "none";
  const size = Math.abs(x);
  if (size >= 1e6 && size < 1e9) return `${+(x / 1e6).toPrecision(3)}M`;
  if (size >= 1e4 && size < 1e6) return `${+(x / 1e3).toPrecision(3)}k`;
  if (size >= 1e9 || (size && size < 1e-2)) return x.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  return String(+x.toPrecision(4));
}

/** Round numbers between low and high, about `count` of them. */
function ticks(low, high, count = 5) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((n) => n * power >= rough);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(i * step);
  return found;
}

function extent(values) {
  const known = values.filter((x) => x !== null && x !== undefined);
  if (!known.length) return [0, 1];
  const low = known.reduce((a, b) => Math.min(a, b), Infinity), high = known.reduce((a, b) => Math.max(a, b), -Infinity);
  const pad = Math.max(0.5, Math.abs(low) * 0.05); // at 1e16 a half is nothing
  return low < high ? [low, high] : [low - pad, low + pad];
}

const onto = ([low, high], from, to) => (x) => from + ((x - low) / (high - low)) * (to - from);

/** The path through points; a gap where one is missing. */
function path(xs, ys, x, y) {
  let pen = "M";
  return ys.map((value, i) => {
    if (value === null) { pen = "M"; return ""; }
    const part = `${pen}${x(xs[i]).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = "L";
    return part;
  }).join("");
}

function band(xs, low, high, x, y) {
  const known = xs.map((_, i) => i).filter((i) => low[i] !== null && high[i] !== null);
  if (known.length < 2) return "";
  const at = (i, ys) => `${x(xs[i]).toFixed(1)} ${y(ys[i]).toFixed(1)}`;
  return `M${known.map((i) => at(i, high)).join("L")}L${known.reverse().map((i) => at(i, low)).join("L")}Z`;
}

function nearest(xs, x) {
  return xs.reduce((best, value, i) => (Math.abs(value - x) < Math.abs(xs[best] - x) ? i : best), 0);
}

function frame(figure, chart, xs, ys, width, height) {
  const margin = { left: 58, right: 20, top: 10, bottom: 42 };
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${chart.ylabel} against ${chart.xlabel}` }, figure);
  const x = onto(xs, margin.left, width - margin.right), y = onto(ys, height - margin.bottom, margin.top);
  for (const at of ticks(...ys)) {
    make("line", { x1: margin.left, x2: width - margin.right, y1: y(at), y2: y(at), class: "grid" }, svg);
    make("text", { x: margin.left - 6, y: y(at) + 4, "text-anchor": "end" }, svg, short(at));
  }
  const named = chart.xticks ? chart.xticks.map((text, i) => [i, text]) : ticks(...xs, width / 130).map((at) => [at, short(at)]);
  const letters = Math.max(...named.map(([, text]) => text.length)); // so many of about seven units stand at each
  const every = Math.ceil(((7 * letters + 6) * (named.length - 1)) / (width - margin.left - margin.right)) || 1;
  for (const [at, text] of named.filter((_, i) => i % every === 0)) make("text", { x: x(at), y: height - margin.bottom + 17, "text-anchor": "middle" }, svg, text);
  make("text", { x: (margin.left + width) / 2, y: height - 6, "text-anchor": "middle", class: "label" }, svg, chart.xlabel);
  const turned = `rotate(-90) translate(${-(height - margin.bottom) / 2} 13)`;
  make("text", { transform: turned, "text-anchor": "middle", class: "label" }, svg, chart.ylabel);
  return { svg, x, y, margin };
}

function drawLines(figure, chart) {
  const [width, height] = chart.small ? [380, 240] : [820, 360];
  const lines = chart.lines.map((line, i) => ({ x: chart.x, ...line, faint: i >= COLORS.length, i }));
  const xs = extent(lines.flatMap((line) => line.x));
  const ys = extent(lines.flatMap((line) => [...line.y, ...(line.low || []), ...(line.high || [])]));
  const { svg, x, y, margin } = frame(figure, chart, xs, ys, width, height);
  for (const line of [...lines].reverse()) { // the best on top
    const color = line.faint ? FAINT : COLORS[line.i];
    line.group = make("g", { class: "series" }, svg);
    if (line.low) make("path", { d: band(line.x, line.low, line.high, x, y), fill: color, opacity: 0.15 }, line.group);
    make("path", { d: path(line.x, line.y, x, y), stroke: color, "stroke-dasharray": line.faint ? "" : DASHES[line.i % DASHES.length], class: "line" }, line.group);
  }
  const guide = make("line", { y1: margin.top, y2: height - margin.bottom, class: "guide", visibility: "hidden" }, svg);
  const light = (selected) => lines.forEach((line) => line.group.classList.toggle("dim", selected !== null && line !== selected));
  if (lines.length > 1) drawLegend(figure, lines, light);
  const tip = element("div", figure, "", "tip");
  svg.addEventListener("mousemove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = onto([x(xs[0]), x(xs[1])], xs[0], xs[1])(((event.clientX - box.left) / box.width) * width);
    const high = ((event.clientY - box.top) / box.height) * height;
    const found = lines.map((line) => ({ line, i: nearest(line.x, at) })).filter(({ line, i }) => line.y[i] !== null);
    if (!found.length) return;
    const place = x(found[0].line.x[found[0].i]);
    const selected = found.reduce((a, b) => (Math.abs(y(b.line.y[b.i]) - high) < Math.abs(y(a.line.y[a.i]) - high) ? b : a));
    light(lines.length > 1 ? selected.line : null);
    guide.setAttribute("x1", place);
    guide.setAttribute("x2", place);
    guide.setAttribute("visibility", "visible");
    fillTip(tip, chart, found, selected);
    tip.style.left = `${Math.min(place / width, 0.62) * 100}%`;
    tip.classList.add("shown");
  });
  svg.addEventListener("mouseleave", () => {
    light(null);
    guide.setAttribute("visibility", "hidden");
    tip.classList.remove("shown");
  });
}

/** Fills the tooltip: the nearest line, then the others from the top, eight at most. */
function fillTip(tip, chart, found, selected) {
  const at = selected.line.x[selected.i];
  tip.replaceChildren();
  element("b", tip, `${chart.xlabel} ${chart.xticks ? chart.xticks[at] : short(at)}`);
  const others = found.filter((each) => each !== selected).sort((a, b) => b.line.y[b.i] - a.line.y[a.i]);
  for (const { line, i } of [selected, ...others].slice(0, 8)) {
    const range = line.low ? ` [${short(line.low[i])}, ${short(line.high[i])}]` : "";
    const row = element("div", tip, `${line.label}: ${short(line.y[i])}${range}`, line === selected.line ? "chosen" : "");
    row.style.borderLeftColor = line.faint ? FAINT : COLORS[line.i];
  }
  if (others.length > 7) element("div", tip, `and ${others.length - 7} more`);
}

function drawLegend(figure, lines, light) {
  const legend = element("div", figure, "", "legend");
  for (const line of lines.filter((line) => !line.faint)) {
    const entry = element("span", legend, "");
    const key = make("svg", { viewBox: "0 0 26 8", width: 26, height: 8 }, entry);
    make("line", { x1: 0, x2: 26, y1: 4, y2: 4, stroke: COLORS[line.i], "stroke-width": 2.4, "stroke-dasharray": DASHES[line.i % DASHES.length] }, key);
    element("span", entry, line.label);
    entry.addEventListener("mouseenter", () => light(line));
    entry.addEventListener("mouseleave", () => light(null));
  }
  const faint = lines.filter((line) => line.faint).length;
  if (faint) element("span", legend, `and ${faint} more in grey: point at one`);
}

/** Values with intervals, one below the other. */
function drawDots(figure, chart) {
  const step = 22, width = 820, left = 300, height = chart.rows.length * step + 46;
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": chart.xlabel }, figure);
  const x = onto(chart.domain, left, width - 16), bottom = height - 40;
  for (const at of ticks(...chart.domain)) {
    make("line", { x1: x(at), x2: x(at), y1: 0, y2: bottom, class: "grid" }, svg);
    make("text", { x: x(at), y: bottom + 16, "text-anchor": "middle" }, svg, short(at));
  }
  if (chart.middle !== null) make("line", { x1: x(chart.middle), x2: x(chart.middle), y1: 0, y2: bottom, class: "guide" }, svg);
  chart.rows.forEach((row, i) => {
    const y = (i + 0.5) * step;
    make("text", { x: left - 10, y: y + 4, "text-anchor": "end" }, svg, brief(row.label, 46));
    if (row.value === null) return;
    const group = make("g", { class: "dot" }, svg);
    const range = row.low === null ? "" : ` [${short(row.low)}, ${short(row.high)}]`;
    make("title", {}, group, `${row.label}: ${short(row.value)}${range}`);
    if (row.low !== null) make("line", { x1: x(row.low), x2: x(row.high), y1: y, y2: y, class: "range" }, group);
    make("circle", { cx: x(row.value), cy: y, r: 4.5 }, group);
  });
  make("text", { x: (left + width) / 2, y: height - 5, "text-anchor": "middle", class: "label" }, svg, chart.xlabel);
}

/** The colour of a fraction between 0 and 1, from light to dark (cividis, which is safe for colour blindness). */
function shade(fraction) {
  const at = Math.min(Math.max(fraction, 0), 1) * (SHADES.length - 1), i = Math.min(Math.floor(at), SHADES.length - 2);
  return `rgb(${SHADES[i].map((from, k) => Math.round(from + (at - i) * (SHADES[i + 1][k] - from))).join(" ")})`;
}

const brief = (text, maxLength) => (text.length > maxLength ? `${text.slice(0, maxLength - 1)}…` : text);

/** A line for each setting, through its values to its score, which colours it. */
function drawParallel(figure, chart) {
  const width = 820, height = 340, top = 14, bottom = height - 40, left = 40, last = chart.axes.length - 1;
  const label = `${chart.name} of each setting against ${chart.axes.slice(0, -1).map((axis) => axis.label).join(", ")}`;
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, figure);
  const x = (i) => left + (i / last) * (width - left - 100), y = onto([0, 1], bottom, top);
  const most = Math.floor((width - left - 100) / last / 7); // letters between two axes
  for (const line of [...chart.lines].reverse()) { // the best on top
    line.group = make("g", { class: "series" }, svg);
    const points = line.at.map((at, i) => `${x(i).toFixed(1)} ${y(at).toFixed(1)}`);
    make("path", { d: `M${points.join("L")}`, stroke: shade(line.at[last]), class: "line" }, line.group);
  }
  chart.axes.forEach((axis, i) => {
    make("line", { x1: x(i), x2: x(i), y1: top, y2: bottom, class: "axis" }, svg);
    for (const [at, text] of axis.ticks) make("text", { x: x(i) + 5, y: y(at) + 4, class: "halo" }, svg, brief(text, most));
    make("text", { x: x(i), y: height - 14, "text-anchor": "middle", class: "label" }, svg, brief(axis.label, most));
  });
  const light = (selected) => chart.lines.forEach((line) => line.group.classList.toggle("dim", selected !== null && line !== selected));
  const tip = element("div", figure, "", "tip");
  svg.addEventListener("mousemove", (event) => {
    const box = svg.getBoundingClientRect();
    const across = ((event.clientX - box.left) / box.width) * width, high = ((event.clientY - box.top) / box.height) * height;
    const at = Math.min(Math.max(((across - left) / (width - left - 100)) * last, 0), last), i = Math.min(Math.floor(at), last - 1);
    const off = (line) => Math.abs(y(line.at[i] + (at - i) * (line.at[i + 1] - line.at[i])) - high);
    const selected = chart.lines.reduce((a, b) => (off(b) < off(a) ? b : a));
    light(selected);
    tip.replaceChildren();
    element("b", tip, `${chart.name} ${short(selected.score)}`);
    element("div", tip, selected.label, "chosen").style.borderLeftColor = shade(selected.at[last]);
    tip.style.left = `${Math.min(across / width, 0.62) * 100}%`;
    tip.classList.add("shown");
  });
  svg.addEventListener("mouseleave", () => {
    light(null);
    tip.classList.remove("shown");
  });
}

/** A heat map of fractions over two axes: the higher, the redder. */
function drawCells(figure, chart) {
  const left = 150, top = chart.ylabel ? 20 : 0, high = 26, width = 820;
  const wide = Math.min(Math.max(86, ...chart.x.map((text) => 7 * text.length)), (width - left - 16) / chart.x.length);
  const bottom = top + chart.y.length * high;
  const name = `${chart.xlabel}${chart.ylabel ? ` and ${chart.ylabel}` : ""}`;
  const svg = make("svg", { viewBox: `0 0 ${width} ${bottom + 42}`, role: "img", "aria-label": `${chart.note} ${name}` }, figure);
  const most = Math.max(...chart.cells.flat().map((cell) => cell.value ?? 0));
  chart.cells.forEach((row, j) => row.forEach((cell, i) => {
    const y = bottom - (j + 1) * high, group = make("g", { class: "cell" }, svg);
    make("title", {}, group, cell.title);
    make("rect", { x: left + i * wide, y, width: wide, height: high, "fill-opacity": cell.value === null ? 0 : (0.85 * cell.value) / most }, group);
    make("text", { x: left + (i + 0.5) * wide, y: y + 17, "text-anchor": "middle" }, group, cell.value === null ? "–" : +cell.value.toPrecision(2));
  }));
  chart.x.forEach((text, i) => make("text", { x: left + (i + 0.5) * wide, y: bottom + 17, "text-anchor": "middle" }, svg, brief(text, Math.floor(wide / 6.5))));
  chart.y.forEach((text, j) => make("text", { x: left - 6, y: bottom - (j + 0.5) * high + 4, "text-anchor": "end" }, svg, brief(text, 22)));
  make("text", { x: left + (chart.x.length * wide) / 2, y: bottom + 36, "text-anchor": "middle", class: "label" }, svg, chart.xlabel);
  make("text", { x: left - 6, y: 13, "text-anchor": "end", class: "label" }, svg, brief(chart.ylabel, 22));
}

/** Sorts a table by the column of a button: numbers by value, descending, then ascending. */
function sortBy(button) {
  const head = button.closest("th"), body = button.closest("table").tBodies[0];
  const down = head.getAttribute("aria-sort") !== "descending";
  const key = (row) => row.cells[head.cellIndex].dataset.value ?? row.cells[head.cellIndex].textContent;
  const order = (a, b) => (isNaN(a) || isNaN(b) ? (isNaN(a) - isNaN(b)) * (down ? -1 : 1) || String(a).localeCompare(String(b)) : a - b);
  const rows = [...body.rows].sort((a, b) => (down ? -1 : 1) * order(key(a), key(b)));
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...rows);
}

const charts = JSON.parse(document.getElementById("charts").textContent);
for (const figure of document.querySelectorAll("[data-chart]")) {
  const chart = charts[figure.dataset.chart];
  ({ lines: drawLines, dots: drawDots, parallel: drawParallel, cells: drawCells })[chart.kind](figure, chart);
}
for (const button of document.querySelectorAll(".sorts button")) button.addEventListener("click", () => sortBy(button));
