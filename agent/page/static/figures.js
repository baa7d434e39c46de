import { plot, shown } from "./plots.js";
import { cpus, ended, seconds, span, time } from "./words.js";

// The figures of the thesis: 29 progress ratio, 30 CPU time used and desired, 31 allocation, 21 and 28 prediction against the deadline, 22 to
// 27 duration and CPU of each iteration; and above them where the job was, in which incarnation.

const far = 1e12;

// columns are a history's, for uPlot: seconds, and a gap where nothing ran or another execution began.
function columns(d, keys) {
  const xs = [], out = keys.map(() => []), breaks = gaps(d);
  let b = 0;
  for (let i = 0; i < d.at.length; i++) {
    const t = d.at[i] / 1000;
    for (; b < breaks.length && breaks[b] <= t; b++) {
      if (xs.length && breaks[b] > xs[xs.length - 1] && breaks[b] < t) {
        xs.push(breaks[b]);
        out.forEach((c) => c.push(null));
      }
    }
    xs.push(t);
    keys.forEach((k, n) => out[n].push(d[k][i]));
  }
  return [xs, ...out];
}

// gaps are the moments at which lines break.
function gaps(d) {
  const list = [];
  d.changes.forEach((c, i) => {
    const t = time(c.at) / 1000, next = d.changes[i + 1], lasts = next ? time(next.at) / 1000 - t : Infinity;
    if (c.phase !== "Running" && lasts > 5) list.push(t);
  });
  if (!d.series) for (let i = 1; i < d.at.length; i++) if (d.index[i] !== d.index[i - 1]) list.push((d.at[i - 1] + 1) / 1000);
  return list.sort((a, b) => a - b);
}

// figures draws a job's history; it returns what takes a new one.
export function figures(s, host) {
  let d = null;
  const dev = () => d?.job.qos.desv_deadline ?? 0, allowed = () => (time(d?.job.deadline) - time(d?.job.started)) / 1000 || 0;
  const most = (column, top) => { let m = 0; for (const v of column) if (v > m) m = v; return Math.min(m, top); };

  const life = plot(s, {
    name: "life", title: "Where it ran", wide: true, series: [], lanes: () => lanes(d), height: () => 34 + 26 * Math.max(1, lanes(d).length),
    range: () => [-0.6, lanes(d).length - 0.4], draw: (u, css) => { if (d) bars(u, css, d, s); },
  });
  const ratio = plot(s, {
    name: "ratio", title: "Progress ratio", note: "CPU time had over CPU time desired. Red: too little, green: on plan, yellow: more than needed.",
    series: [{ label: "ratio", ink: "c1", show: (v) => v.toFixed(2), width: 1.8 }], range: () => [0, Math.max(1 + 2.5 * dev(), 1.25, 1.08 * most(d?.progress_ratio ?? [], 2.8))],
    bands: () => [[-far, 1 - dev(), "band-bad"], [1 - dev(), 1 + dev(), "band-good"], [1 + dev(), far, "band-over"]],
  });
  const margin = plot(s, {
    name: "margin", title: "Prediction \u2212 deadline", note: "Below zero: it will be in time. Red: too near, green: on plan, yellow: earlier than needed.", spans: true,
    series: [{ label: "margin", ink: "c1", show: (v) => span(1000 * v, true), width: 1.8 }],
    range: (min, max) => { const a = allowed() || 1; return [Math.max(Math.min((min ?? 0) - 0.03 * a, -1.6 * dev() * a, -0.12 * a), -1.2 * a), Math.min(Math.max((max ?? 0) + 0.05 * a, 0.1 * a), 1.5 * a)]; },
    bands: () => { const a = allowed(); return [[-0.05 * a, far, "band-bad"], [-dev() * a, -0.05 * a, "band-good"], [-far, -Math.max(dev(), 0.05) * a, "band-over"]]; },
  });
  const cpu = plot(s, {
    name: "cpu", title: "CPU time", note: "Used, and desired by now, in seconds.",
    series: [{ label: "used", ink: "c1", show: (v) => `${seconds(v)} s`, fill: 0.1, width: 1.8 }, { label: "desired", ink: "c2", show: (v) => `${seconds(v)} s`, dash: [5, 4] }],
  });
  const stairs = () => uPlot.paths.stepped({ align: 1 });
  const allocation = plot(s, {
    name: "allocation", title: "CPUs", note: "Allocated, used and needed.",
    series: [
      { label: "allocated", ink: "c1", show: cpus, fill: 0.1, width: 1.8, paths: stairs }, { label: "used", ink: "c3", show: cpus, width: 1.2 },
      { label: "needed", ink: "c2", show: (v) => (v > 999 ? "\u221e" : cpus(v)), dash: [5, 4], width: 1.2 },
    ],
    range: () => [0, 1.12 * Math.max(0.1, most(d?.allocation_cpus ?? [], far), most(d?.usage_cpus ?? [], far), most(d?.need_cpus ?? [], 3 * most(d?.allocation_cpus ?? [], far)))],
  });
  const thick = () => uPlot.paths.bars({ size: [0.64, 28], radius: 0.15 });
  const runs = (name, title, note, first, second) => plot(s, {
    name, title, note, timed: false, height: 150,
    series: [
      { ...first, label: first.label, ink: "c1", fill: 0.55, width: 0, paths: thick }, { ...first, label: "failed or late", ink: "bad", fill: 0.75, width: 0, paths: thick },
      ...(second ? [{ ...second, ink: "c2", scale: "y2", points: true, width: 1.2 }] : []),
    ],
  });
  const lasted = runs("lasted", "Duration of each run", "Seconds from start to end, and the CPUs allotted.", { label: "seconds", show: (v) => `${seconds(v)} s` }, { label: "mean CPUs", show: cpus });
  const spent = runs("spent", "CPU time of each run", "CPU seconds.", { label: "CPU seconds", show: (v) => `${seconds(v)} s` });
  host.append(...[life, ratio, margin, cpu, allocation, lasted, spent].map((p) => p.figure));

  function draw() {
    const j = d.job, now = d.now / 1000;
    d.series = j.framework === "chronos";
    const begin = Math.min(d.at[0] ?? d.now, ...(d.changes.length ? [time(d.changes[0].at)] : [])) / 1000;
    const end = ended(j) && j.ended ? time(j.ended) / 1000 : now;
    s.deadline = time(j.deadline) / 1000;
    const room = s.deadline > end && s.deadline - end < 1.2 * (end - begin) + 30;
    s.all = [begin, Math.max(room ? s.deadline : end, begin + 10) + 0.015 * (end - begin)];
    s.span = s.window ? [Math.max(begin, end - s.window), end] : s.all;
    s.marks = marks(d, shown(s));
    life.set([d.at.map((t) => t / 1000), d.at.map(() => 0)]);
    ratio.set(columns(d, ["progress_ratio"]));
    margin.set(columns(d, ["prediction_minus_deadline"]));
    cpu.set(columns(d, ["used_cpu_seconds", "desired_cpu_seconds"]));
    allocation.set(columns(d, ["allocation_cpus", "usage_cpus", "need_cpus"]));
    const list = d.runs, bad = (r) => r.outcome === "failed" || r.outcome === "missed", pick = (k, want) => list.map((r) => (bad(r) === want ? r[k] : null));
    lasted.figure.hidden = spent.figure.hidden = list.length === 0;
    if (list.length) {
      lasted.set([list.map((r) => r.index), pick("seconds", false), pick("seconds", true), list.map((r) => r.mean_cpus)]);
      spent.set([list.map((r) => r.index), pick("cpu_seconds", false), pick("cpu_seconds", true)]);
    }
    const size = 34 + 26 * Math.max(1, lanes(d).length);
    if (life.u && life.u.height !== size) life.u.setSize({ width: life.u.width, height: size });
  }
  return { draw(next) { d = next; draw(); }, again() { for (const p of s.plots) if (p.u) p.build(); } };
}

// marks are the lines on the time axis: where another container or node begins, and, while they are few, another run.
function marks(d, [min, max]) {
  const list = [];
  d.changes.forEach((c, i) => {
    const was = d.changes[i - 1], at = time(c.at) / 1000;
    if (!was || c.phase !== "Running") return;
    if (c.incarnation > 1 && (c.incarnation !== was.incarnation || was.phase !== "Running") || was.node && c.node !== was.node) list.push({ at, strong: true });
    else if (c.index !== was.index) list.push({ at });
  });
  const weak = list.filter((m) => !m.strong && m.at >= min && m.at <= max).length;
  return weak > 40 ? list.filter((m) => m.strong) : list;
}

// lanes are the nodes that the job was on, in order.
function lanes(d) {
  const list = [...new Set((d?.changes ?? []).map((c) => c.node ?? ""))].filter(Boolean);
  return list.length ? list : ["\u2013"];
}

const inks = { Running: "c1", Suspended: "over", Lost: "bad", Failed: "bad" };

// bars draws the phases of a job's life in the lane of its node.
function bars(u, css, d, s) {
  const { ctx } = u, all = lanes(d), [min, max] = shown(s), now = d.now / 1000, r = devicePixelRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
  ctx.clip();
  ctx.font = `${10.5 * r}px ${getComputedStyle(document.body).fontFamily}`;
  ctx.textBaseline = "middle";
  ctx.textAlign = "left";
  d.changes.forEach((c, i) => {
    if (ended({ phase: c.phase })) return;
    const from = time(c.at) / 1000, to = d.changes[i + 1] ? time(d.changes[i + 1].at) / 1000 : Math.max(now, from);
    if (to < min || from > max) return;
    const x = u.valToPos(Math.max(from, min), "x", true), w = Math.max(u.valToPos(Math.min(to, max), "x", true) - x, 1.5 * r);
    const y = u.valToPos(Math.max(0, all.indexOf(c.node ?? "")), "y", true), running = c.phase === "Running", high = (running ? 15 : 5) * r;
    ctx.fillStyle = css(inks[c.phase] ?? "rule");
    ctx.globalAlpha = running ? (c.index % 2 ? 0.9 : 0.7) : 0.7;
    ctx.beginPath();
    ctx.roundRect(x, y - high / 2, Math.max(w - (w > 6 * r ? r : 0), r), high, 2.5 * r);
    ctx.fill();
    ctx.globalAlpha = 1;
    const label = running ? `#${c.index}${c.incarnation > 1 ? `.${c.incarnation}` : ""}` : c.phase.toLowerCase();
    if (ctx.measureText(label).width + 10 * r < w) {
      ctx.fillStyle = running ? "#fff" : css("muted");
      ctx.fillText(label, x + 5 * r, running ? y + 0.5 * r : y - 9 * r);
    }
  });
  ctx.restore();
}
