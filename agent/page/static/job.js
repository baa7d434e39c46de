import { h, mark, put } from "./dom.js";
import { figures } from "./figures.js";
import { follow, heard, now } from "./live.js";
import { scene, zoom } from "./plots.js";
import { clock, cpus, done, ended, left, percent, seconds, span, standing, time, tone, which } from "./words.js";

const lists = ["at", "progress_ratio", "used_cpu_seconds", "consumed_cpu_seconds", "desired_cpu_seconds", "allocation_cpus", "usage_cpus", "need_cpus",
  "prediction_minus_deadline", "state", "late", "index"];
const windows = [["All", 0], ["6 h", 21600], ["1 h", 3600], ["10 min", 600]];

// page shows one job; it returns what ends it.
export function page(main, id) {
  const s = scene();
  let d = null, decisions = [], timer;

  const title = h("h1"), badge = h("span", { class: "badge big" }, h("i", { "aria-hidden": "true" }), h("span"));
  const facts = h("p", { class: "facts" }), reason = h("p", { class: "reason" }), top = h("div", { class: "figures" });
  const host = h("div", { class: "plots" });
  const tabs = windows.map(([text, w]) => h("button", { type: "button", "aria-pressed": String(w === 0), onclick: () => look(w) }, text));
  const whole = h("button", { type: "button", class: "plain", hidden: true, onclick: () => zoom(s, null) }, "Reset zoom");
  s.zoomed = (on) => { whole.hidden = !on; };
  const why = h("tbody"), happened = h("tbody"), none = h("p", { class: "empty" }, "Nothing was decided yet.");
  const each = h("button", { type: "button", class: "plain", "aria-pressed": "false", onclick: () => { mark(each, "aria-pressed", each.getAttribute("aria-pressed") !== "true"); drawDecisions({ decisions }); } }, "Show each");
  const readings = h("tbody");
  const gap = h("p", { class: "notice", hidden: true });
  const body = h("div", { class: "job", hidden: true },
    h("div", { class: "head" }, title, badge), facts, reason, top, gap,
    h("div", { class: "bar" }, h("h2", {}, "Over time"), h("div", { class: "tabs", role: "group", "aria-label": "How much of its time" }, ...tabs), whole,
      h("span", { class: "grow" }), h("small", { class: "hint" }, "drag to look closer, double-click for all")),
    host,
    h("div", { class: "bar" }, h("h2", {}, "Decisions"), each, h("span", { class: "grow" }), h("small", { class: "next" })), none,
    h("table", { class: "why" }, h("caption", { class: "unseen" }, "Decisions, the newest first"),
      h("thead", {}, h("tr", {}, ...["Time", "State", "Ratio", "Need", "CPUs", "Rule", "Why"].map((t, i) => h("th", { scope: "col", class: i > 1 && i < 5 ? "num" : "" }, t)))), why),
    h("div", { class: "bar" }, h("h2", {}, "Events")), h("table", { class: "events" }, h("caption", { class: "unseen" }, "Events, the newest first"), happened),
    h("details", {}, h("summary", {}, "The last readings as figures"),
      h("table", { class: "readings" }, h("thead", {}, h("tr", {}, ...["Time", "Run", "Ratio", "Used", "Desired", "Allocated", "Used CPUs", "Need", "Prediction \u2212 deadline"].map((t) => h("th", { scope: "col", class: "num" }, t)))), readings)));
  main.append(body);
  document.getElementById("where").replaceChildren(h("a", { href: "/", "data-route": true }, "all jobs"));
  const drawn = figures(s, host);

  function look(w) {
    s.window = w;
    tabs.forEach((b, i) => mark(b, "aria-pressed", windows[i][1] === w));
    if (d) drawn.draw(d);
    zoom(s, null);
  }

  function see(news) {
    heard(news.at);
    const add = news.history;
    if (news.first || !d) {
      d = { ...add, runs: add.runs ?? [] };
      decisions = [];
    } else {
      for (const k of lists) d[k].push(...add[k]);
      d.changes.push(...add.changes);
      if (add.runs) d.runs = add.runs;
      trim();
    }
    d.job = news.job;
    d.now = now();
    decisions = [...decisions, ...(news.decisions ?? [])].slice(-60);
    body.hidden = false;
    head();
    drawn.draw(d);
    drawDecisions(news);
    if (news.events) drawEvents(news.events);
    drawReadings();
    if (!performance.getEntriesByName("job").length) performance.mark("job");
  }

  // trim bounds what a page that is open for days holds: the middle of what came in live is thinned.
  function trim() {
    if (d.at.length < 2400) return;
    const keep = d.at.map((_, i) => i % 2 === 0 || i > d.at.length - 240);
    for (const k of lists) d[k] = d[k].filter((_, i) => keep[i]);
    d.changes = d.changes.slice(-200);
  }

  function head() {
    const j = d.job, t = now(), rest = left(j, t), running = j.phase === "Running", predicted = time(j.prediction) - time(j.deadline);
    document.title = `${j.name} \u2013 qosctl`;
    put(title, j.name);
    mark(badge, "data-tone", tone(j));
    put(badge.lastChild, standing(j, t));
    put(facts, [j.framework, j.tenant, j.owner && `node ${j.owner}`, `policy ${j.policy}`, `submitted ${clock(time(j.submitted))}`, j.id].filter(Boolean).join("  \u00b7  "));
    put(reason, [j.reason, j.held && `On hold: ${j.held}.`, j.away && `Node ${j.away} does not answer.`, j.moving && `On its way to node ${j.moving}.`].filter(Boolean).join("  "));
    const value = (v) => (running && j.state ? v : "\u2013");
    const items = [
      ["left", ended(j) ? (rest < 0 ? "Too late by" : "In time by") : "To deadline", Number.isFinite(rest) ? span(ended(j) ? Math.abs(rest) : rest) : "\u2013", j.deadline ? clock(time(j.deadline)) : "", rest < 0 ? "bad" : undefined],
      ["predicted", "Predicted", value(predicted > 0 ? `${span(predicted)} late` : `${span(-predicted)} early`), value(clock(time(j.prediction))), running && predicted > 0 ? "bad" : undefined],
      ["ratio", "Progress ratio", value(j.progress_ratio.toFixed(2)), j.qos.desv_deadline ? `1 \u00b1 ${j.qos.desv_deadline} is on plan` : ""],
      ["done", j.iterations > 0 ? "Iterations" : "Done", j.iterations > 0 ? which(j) : percent(done(j)), j.iterations > 0 ? `${percent(done(j))} of the work` : [`of ${seconds(j.qos.duration)} s declared`, which(j) && `execution ${which(j)}`].filter(Boolean).join(", ")],
      ["used", "CPU time", `${seconds(used(j))} s`, value(`${seconds(j.desired_cpu_seconds)} s desired`)],
      ["cpus", "CPUs allocated", running ? cpus(j.allocation_cpus) : "\u2013", `${cpus(j.request_cpus)} requested`],
      ["using", "CPUs used", running ? cpus(j.usage_cpus) : "\u2013", running ? `throttled ${percent(j.throttled)}` : ""],
      ["need", "CPUs needed", value(j.need_cpus > 999 ? "\u221e" : cpus(j.need_cpus)), j.tally.succeeded + j.tally.failed > 0 ? `${j.tally.succeeded} runs done, ${j.tally.failed} failed` : ""],
    ];
    if (!top.children.length) top.append(...items.map(([key, k]) => h("div", { "data-figure": key }, h("span", { class: "k" }, k), h("span", { class: "v" }), h("small"))));
    items.forEach(([, k, v, note, c], i) => {
      const e = top.children[i].children;
      put(e[0], k);
      put(e[1], v);
      put(e[2], note ?? "");
      mark(top.children[i], "data-tone", c);
    });
    const late = d.since && j.started && time(d.since) - Math.max(time(j.submitted), time(j.started)) > 15000;
    gap.hidden = !late;
    put(gap, late ? `Readings begin at ${clock(time(d.since))}: what was before is known to a node that is gone, or was lost with this agent\u2019s store. Runs are complete.` : "");
  }

  // used is what the figure of CPU time has: of the execution, or of all iterations of a series.
  const used = (j) => (j.framework === "chronos" ? j.tally.cpu_seconds + (j.phase === "Running" ? j.progress_cpu_seconds : 0) : j.progress_cpu_seconds);

  const say = { UNDER_PERFORMANT: "under", ON_PLAN: "on plan", OVER_PERFORMANT: "over" };
  function drawDecisions(news) {
    none.hidden = decisions.length > 0;
    why.parentElement.hidden = decisions.length === 0;
    if (news.job) put(body.querySelector(".next"), news.next_look && !ended(d.job) ? `next look at ${clock(time(news.next_look))}` : "");
    if (!news.decisions?.length && why.children.length) return;
    why.replaceChildren(...(each.getAttribute("aria-pressed") === "true" ? decisions.toReversed() : grouped()).map((x) => {
      const changed = x.to_cpus !== x.from_cpus, c = x.late || x.state === "UNDER_PERFORMANT" ? "bad" : x.state === "OVER_PERFORMANT" ? "over" : "good";
      return h("tr", { class: changed ? "changed" : "" },
        h("td", { class: "when" }, clock(time(x.at))),
        h("td", {}, h("span", { class: "badge", "data-tone": c }, h("i", { "aria-hidden": "true" }), h("span", {}, [say[x.state] ?? x.state, x.late && "late", x.infeasible && "infeasible"].filter(Boolean).join(", ")))),
        h("td", { class: "num" }, x.progress_ratio.toFixed(2)), h("td", { class: "num" }, x.need_cpus > 999 ? "\u221e" : cpus(x.need_cpus)),
        h("td", { class: "num" }, changed ? `${cpus(x.from_cpus)} \u2192 ${cpus(x.to_cpus)}` : cpus(x.to_cpus)),
        h("td", {}, h("code", {}, x.rule)), h("td", { class: "text" }, x.reason,
          x.more && h("small", {}, ` and ${x.more} alike before it, since ${clock(time(x.first))}`)));
    }));
  }

  // grouped are the decisions, newest first, of which those that only say again what was decided stand behind one.
  function grouped() {
    const list = [];
    for (const x of decisions.toReversed()) {
      const last = list[list.length - 1];
      if (last && x.to_cpus === x.from_cpus && last.to_cpus === last.from_cpus && x.rule === last.rule && x.state === last.state && x.late === last.late && x.to_cpus === last.to_cpus) {
        last.more = (last.more ?? 0) + 1;
        last.first = x.at;
      } else list.push({ ...x });
    }
    return list;
  }

  function drawEvents(list) {
    happened.replaceChildren(...list.toReversed().map((x) =>
      h("tr", { "data-kind": x.kind }, h("td", { class: "when" }, clock(time(x.at))), h("td", {}, h("code", {}, x.kind)), h("td", { class: "text" }, x.text))));
  }

  function drawReadings() {
    if (!readings.closest("details").open) return;
    const n = d.at.length;
    readings.replaceChildren(...Array.from({ length: Math.min(40, n) }, (_, k) => n - 1 - k).map((i) =>
      h("tr", {}, ...[clock(d.at[i]), `#${d.index[i]}`, d.progress_ratio[i].toFixed(2), seconds(d.used_cpu_seconds[i]), seconds(d.desired_cpu_seconds[i]), cpus(d.allocation_cpus[i]),
        cpus(d.usage_cpus[i]), d.need_cpus[i] > 999 ? "\u221e" : cpus(d.need_cpus[i]), span(1000 * d.prediction_minus_deadline[i], true)].map((v) => h("td", { class: "num" }, v)))));
  }
  readings.closest("details").addEventListener("toggle", () => d && drawReadings());

  const again = () => drawn.again();
  document.addEventListener("theme", again);
  timer = setInterval(() => { if (d && !document.hidden) head(); }, 1000);
  const stop = follow(`/v1/jobs/${encodeURIComponent(id)}/events`, "job", see, (error) => {
    if (!d) main.append(h("p", { class: "notice" }, `${error.message}. `, h("a", { href: "/", "data-route": true }, "All jobs")));
  });
  return () => {
    stop();
    clearInterval(timer);
    document.removeEventListener("theme", again);
    s.plots.forEach((p) => p.end());
  };
}
