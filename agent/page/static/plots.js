import { h, put } from "./dom.js";
import { clock } from "./words.js";

// Plots over one time axis: what is pointed at in one is pointed at in all, and so is what is looked at closely.

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

export const scene = () => ({ plots: [], zoom: null, span: [0, 1], marks: [], deadline: NaN });

// shown is the range of time that is drawn.
export const shown = (s) => s.zoom ?? s.span;

// zoom looks at a range in all plots; null: at all of it.
export function zoom(s, range) {
  s.zoom = range && range[1] - range[0] > 1 ? range : null;
  const [min, max] = shown(s);
  for (const p of s.plots) if (p.timed) p.u?.setScale("x", { min, max });
  s.zoomed?.(s.zoom !== null);
}

// plot makes a figure with a head that says what its lines stand for, and their values where the cursor is.
// o: title, note, series [{label, ink, show(v), fill, dash, width, scale}], bands(u) [[from, to, ink]], range(min, max), axis(v), height.
export function plot(s, o) {
  const keys = o.series.map((one) => h("span", { class: "key" }, h("i", { class: `ink-${one.ink}${one.dash ? " dash" : ""}` }), one.label, " ", h("b")));
  const stage = h("div", { class: "stage" });
  const figure = h("figure", { class: `plot${o.wide ? " wide" : ""}`, tabindex: "0", "data-plot": o.name, "aria-label": `${o.title}. ${o.note ?? ""} Left and right arrows read it.` },
    h("figcaption", {}, h("span", { class: "title" }, o.title), h("span", { class: "grow" }), ...keys), stage);
  const p = { figure, timed: o.timed !== false, u: null, data: [[]] };

  p.build = () => {
    const left = p.u?.cursor.left;
    p.u?.destroy();
    p.u = new uPlot(options(s, o, p, stage, keys), p.data, stage);
    figure.uplot = p.u;
    if (left > 0) p.u.setCursor({ left, top: 0 }, false);
    read(p, o, keys);
  };
  p.set = (data) => {
    p.data = data;
    if (!p.u) return p.build();
    p.u.setData(data, false);
    const [min, max] = p.timed ? shown(s) : ends(data[0]);
    p.u.setScale("x", { min, max });
    read(p, o, keys);
  };
  const fit = new ResizeObserver(() => {
    const width = stage.clientWidth;
    if (p.u && width > 0 && width !== p.u.width) p.u.setSize({ width, height: heightOf(o) });
  });
  fit.observe(stage);
  figure.addEventListener("keydown", (e) => step(e, p, s));
  p.end = () => {
    fit.disconnect();
    p.u?.destroy();
  };
  s.plots.push(p);
  return p;
}

const heightOf = (o) => (typeof o.height === "function" ? o.height() : o.height ?? 168);
const ends = (xs) => (xs.length ? [xs[0] - 0.6, xs[xs.length - 1] + 0.6] : [0, 1]);

function options(s, o, p, stage, keys) {
  const text = css("muted"), line = css("line"), font = `11px ${getComputedStyle(document.body).fontFamily}`;
  const axis = { stroke: text, font, grid: { stroke: line, width: 1 }, ticks: { show: false }, border: { show: false } };
  const bottom = p.timed ? { splits: (u, i, min, max) => clockSplits(min, max, u.bbox.width / devicePixelRatio / 84), values: timeLabels } : { space: 40, values: (u, vs) => vs.map((v) => (Number.isInteger(v) ? v : "")) };
  const all = [{ ...axis, size: 26, gap: 4, grid: { show: false }, ...bottom }];
  if (o.lanes) all.push({ ...axis, size: 56, gap: 6, grid: { show: false }, splits: () => o.lanes().map((_, i) => i), values: () => o.lanes().map((l) => (l.length > 8 ? `${l.slice(0, 7)}\u2026` : l)) });
  else if (o.spans) all.push({ ...axis, size: 56, gap: 6, splits: (u, i, min, max) => splits(min, max, heightOf(o) / 38, 0), values: (u, vs) => vs.map(spans) });
  else all.push({ ...axis, size: 56, gap: 6, space: 30, values: (u, vs) => vs.map(plain) });
  const scales = { x: { time: false, range: () => (p.timed ? shown(s) : ends(p.data[0])) }, y: { dir: o.lanes ? -1 : 1, range: (u, min, max) => o.range?.(min, max) ?? roomy(min, max) } };
  if (o.series.some((one) => one.scale === "y2")) {
    all.push({ ...axis, scale: "y2", side: 1, size: 44, gap: 4, grid: { show: false }, space: 30, values: (u, vs) => vs.map(plain) });
    scales.y2 = { range: (u, min, max) => [0, Math.max(max ?? 0, 0.01) * 1.15] };
  }
  return {
    width: Math.max(stage.clientWidth, 200), height: heightOf(o), padding: [8, o.series.some((one) => one.scale) ? 0 : 14, 0, 0], legend: { show: false }, scales, axes: all,
    cursor: {
      sync: p.timed ? { key: "job", setSeries: false } : undefined, drag: { x: p.timed, y: false, setScale: false }, y: false,
      points: { show: !o.lanes, size: 6, width: 0, fill: (u, i) => css(o.series[i - 1].ink) },
      bind: { dblclick: (u) => () => { if (p.timed) zoom(s, null); } },
    },
    series: [{}, ...(o.lanes ? [{ show: true, scale: "y", paths: () => null, points: { show: false } }] : []), ...o.series.map((one) => ({
      label: one.label, scale: one.scale ?? "y", stroke: css(one.ink), width: one.width ?? 1.6, dash: one.dash, points: { show: one.points ?? false, size: 5, fill: css(one.ink), width: 0 },
      fill: one.fill ? mix(css(one.ink), one.fill) : undefined, paths: one.paths?.(), spanGaps: false,
    }))],
    hooks: {
      drawClear: [(u) => bands(u, o)],
      draw: [(u) => { if (p.timed) verticals(u, s, o); o.draw?.(u, css); }],
      setCursor: [() => read(p, o, keys)],
      setSelect: [(u) => {
        if (u.select.width < 6) return;
        zoom(s, [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")]);
        u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
      }],
    },
  };
}

// read writes the values at the cursor into the head; without one the last.
function read(p, o, keys) {
  const data = p.u.data, n = data[0].length;
  const at = p.u.cursor.idx ?? undefined;
  o.series.forEach((one, i) => {
    let v = at === undefined ? undefined : data[i + 1]?.[at];
    for (let k = n - 1; at === undefined && k >= 0 && (v === null || v === undefined); k--) v = data[i + 1]?.[k];
    put(keys[i].lastChild, v === null || v === undefined ? "" : one.show(v));
  });
  o.reading?.(p.timed && at !== undefined ? data[0][at] : undefined, at);
}

function step(e, p, s) {
  const xs = p.u?.data[0];
  if (!xs?.length) return;
  if (e.key === "Escape") {
    p.u.setCursor({ left: -10, top: -10 });
    zoom(s, null);
  } else if (e.key === "ArrowLeft" || e.key === "ArrowRight") {
    e.preventDefault();
    const now = p.u.cursor.idx ?? xs.length - 1, next = Math.min(xs.length - 1, Math.max(0, now + (e.key === "ArrowLeft" ? -1 : 1)));
    p.u.setCursor({ left: p.u.valToPos(xs[next], "x"), top: 0 });
  }
}

function bands(u, o) {
  const { ctx } = u, { left, top, width, height } = u.bbox;
  for (const [from, to, ink] of o.bands?.() ?? []) {
    const a = Math.min(Math.max(u.valToPos(to, "y", true), top), top + height), b = Math.min(Math.max(u.valToPos(from, "y", true), top), top + height);
    ctx.fillStyle = css(ink);
    ctx.fillRect(left, a, width, b - a);
  }
}

// verticals draws what happened on the time axis, and the deadline.
function verticals(u, s, o) {
  const { ctx } = u, { left, top, width, height } = u.bbox, [min, max] = shown(s);
  const line = (x, ink, dash) => {
    if (x < min || x > max) return;
    const px = Math.round(u.valToPos(x, "x", true)) + 0.5;
    ctx.beginPath();
    ctx.setLineDash(dash.map((d) => d * devicePixelRatio));
    ctx.lineWidth = devicePixelRatio;
    ctx.strokeStyle = css(ink);
    ctx.moveTo(px, top);
    ctx.lineTo(px, top + height);
    ctx.stroke();
  };
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top, width, height);
  ctx.clip();
  if (!o.lanes) for (const m of s.marks) line(m.at, m.strong ? "accent" : "rule", m.strong ? [4, 3] : []);
  line(s.deadline, "bad", [2, 2]);
  ctx.restore();
}

const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];

// splits are at most so many places on a scale of seconds, at distances that people count in.
function splits(min, max, most, zero) {
  const step = steps.find((x) => (max - min) / x <= most) ?? 86400 * Math.ceil((max - min) / most / 86400), list = [];
  for (let v = zero + Math.ceil((min - zero) / step) * step; v <= max; v += step) list.push(Number(v.toFixed(1)));
  return list;
}

// clockSplits are such places on the clock of whoever looks.
function clockSplits(min, max, most) {
  return splits(min, max, Math.max(most, 2), new Date(1000 * min).setHours(0, 0, 0, 0) / 1000);
}

function timeLabels(u, vs) {
  const minutes = vs.length > 1 && vs[1] - vs[0] >= 60;
  return vs.map((v) => clock(v * 1000, minutes));
}

function plain(v) {
  if (v === 0) return "0";
  const a = Math.abs(v), sign = v < 0 ? "\u2212" : "";
  if (a >= 10000) return `${sign}${(a / 1000).toFixed(a >= 100000 ? 0 : 1)}k`;
  return sign + Number(a.toPrecision(4));
}

// roomy leaves some room above, and stands on zero where it can.
function roomy(min, max) {
  if (min === null || max === null || min === undefined) return [0, 1];
  const low = min >= 0 ? 0 : min, span = max - low || 1;
  return [low < 0 ? low - 0.08 * span : 0, max + 0.1 * span];
}

function mix(colour, alpha) {
  return `color-mix(in srgb, ${colour} ${100 * alpha}%, transparent)`;
}

// spans says a split of an axis of time spans.
function spans(v) {
  const a = Math.abs(v), sign = v < 0 ? "\u2212" : "";
  if (a >= 3600 && a % 1800 === 0) return `${sign}${a / 3600} h`;
  if (a >= 60 && a % 30 === 0) return `${sign}${a / 60} min`;
  return v === 0 ? "0" : `${sign}${a} s`;
}
