import { h, mark, put, typing } from "./dom.js";
import { follow, heard, now } from "./live.js";
import { cpus, done, ended, gone, left, percent, span, standing, time, tone, which } from "./words.js";

const filters = {
  live: ["Live", (j) => !ended(j)],
  risk: ["At risk", (j) => !ended(j) && tone(j) === "bad"],
  waiting: ["Waiting", (j) => !ended(j) && j.phase !== "Running"],
  ended: ["Ended", ended],
};

const number = (v) => (Number.isFinite(v) ? v : Infinity);
const columns = [
  { key: "name", title: "Job", by: (j) => j.name },
  { key: "state", title: "State", by: (j) => ["bad", "over", "good", "idle"].indexOf(tone(j)) },
  { key: "left", title: "To deadline", num: true, by: (j, t) => number(left(j, t)) },
  { key: "done", title: "Progress", by: done },
  { key: "ratio", title: "Ratio", num: true, by: (j) => j.progress_ratio },
  { key: "cpus", title: "CPUs", num: true, by: (j) => j.allocation_cpus },
  { key: "used", title: "Used", num: true, by: (j) => j.usage_cpus },
  { key: "need", title: "Need", num: true, by: (j) => j.need_cpus },
  { key: "node", title: "Node", by: (j) => j.owner ?? "" },
];

const nodeCount = (n) => `${n} ${n === 1 ? "node" : "nodes"}`;
const batch = 60; // rows that are made at once

// overview shows the cluster's jobs and nodes; it returns what ends it.
export function overview(main) {
  document.title = "qosctl";
  const jobs = new Map(), past = new Map(), rows = new Map();
  let filter = "live", words = "", sort = "left", down = false, first = true, timer;

  const summary = h("div", { class: "figures" });
  const nodes = h("div", { class: "nodes" });
  const notice = h("p", { class: "notice", hidden: true });
  const find = h("input", { type: "search", placeholder: "Find a job, tenant or node", "aria-label": "Find a job, tenant or node", oninput: () => { words = find.value.toLowerCase(); draw(); } });
  const tabs = Object.entries(filters).map(([key, [title]]) =>
    h("button", { type: "button", "data-filter": key, onclick: () => choose(key) }, title, " ", h("span", { class: "count" })));
  const heads = columns.map((c) =>
    h("th", { scope: "col", class: `${c.key}${c.num ? " num" : ""}` }, h("button", { type: "button", onclick: () => order(c.key) }, c.title)));
  const body = h("tbody");
  const empty = h("p", { class: "empty", hidden: true });
  const table = h("table", { class: "jobs" }, h("caption", { class: "unseen" }, "Jobs"), h("thead", {}, h("tr", {}, ...heads)), body);
  main.append(summary, notice, h("h2", {}, "Nodes"), nodes,
    h("div", { class: "bar" }, h("h2", {}, "Jobs"), h("div", { class: "tabs", role: "group", "aria-label": "Which jobs" }, ...tabs), h("span", { class: "grow" }), find),
    table, empty);

  function choose(key) {
    filter = key;
    if (key === "ended") fetchEnded();
    draw();
  }

  function order(key) {
    if (sort === key) down = !down;
    else [sort, down] = [key, false];
    draw();
  }

  async function fetchEnded() {
    const answer = await fetch("/v1/jobs?all=true");
    if (!answer.ok) return;
    past.clear();
    for (const j of (await answer.json()).jobs) if (ended(j)) past.set(j.id, j);
    draw();
  }

  function chosen() {
    const test = filters[filter][1], list = [];
    for (const j of (filter === "ended" ? past : jobs).values()) {
      if (test(j) && (!words || `${j.name} ${j.tenant ?? ""} ${j.owner ?? ""} ${j.id}`.toLowerCase().includes(words))) list.push(j);
    }
    const by = columns.find((c) => c.key === sort).by, t = now(), keys = new Map(list.map((j) => [j, by(j, t)])); // of one moment, or equal ones would change places
    const turn = down ? -1 : 1;
    return list.sort((a, b) => {
      const x = keys.get(a), y = keys.get(b);
      return x === y ? (a.name < b.name ? -1 : 1) : (typeof x === "string" ? x.localeCompare(y) : x - y) * turn;
    });
  }

  function draw() {
    const t = now(), list = chosen();
    tabs.forEach((b) => {
      const [, test] = filters[b.dataset.filter];
      mark(b, "aria-pressed", b.dataset.filter === filter);
      let n = 0;
      for (const j of (b.dataset.filter === "ended" ? past : jobs).values()) if (test(j)) n++;
      put(b.querySelector(".count"), b.dataset.filter === "ended" && !past.size ? "" : String(n));
    });
    heads.forEach((th, i) => mark(th, "aria-sort", columns[i].key === sort ? (down ? "descending" : "ascending") : undefined));
    lay(list, t);
    empty.hidden = list.length > 0 || first;
    put(empty, jobs.size === 0 && filter === "live" ? "No job is there. qosctl submit hands one in." : "No job is like that.");
    figures(t);
  }

  // lay puts the rows in their order. Of many new ones those that are seen first come first, the others as there is time.
  let later;
  function lay(list, t) {
    cancelAnimationFrame(later);
    const fresh = list.reduce((n, j) => n + !rows.has(j.id), 0), most = fresh > 2 * batch ? batch : list.length;
    const want = list.slice(0, most).map((j) => fill(rows.get(j.id) ?? make(j), j, t)), have = body.children;
    if (have.length !== want.length || want.some((r, i) => have[i] !== r)) {
      const focused = document.activeElement;
      body.replaceChildren(...want);
      if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
    }
    if (most < list.length) later = requestAnimationFrame(() => more(list, most));
  }

  function more(list, from) {
    const t = now(), next = list.slice(from, from + batch);
    body.append(...next.map((j) => fill(rows.get(j.id) ?? make(j), j, t)));
    if (from + batch < list.length) later = requestAnimationFrame(() => more(list, from + batch));
  }

  function make(j) {
    const bar = h("span", { class: "progress" }, h("i"), h("b"));
    const cells = columns.map((c) => h("td", { class: `${c.key}${c.num ? " num" : ""}`, "data-label": c.title }));
    cells[0].append(h("a", { href: `/jobs/${encodeURIComponent(j.id)}`, "data-route": true }), h("small"));
    cells[1].append(h("span", { class: "badge" }, h("i", { "aria-hidden": "true" }), h("span")));
    cells[3].append(bar, h("span", { class: "share" }), h("small"));
    const r = h("tr", { "data-id": j.id }, ...cells);
    rows.set(j.id, r);
    return r;
  }

  function fill(r, j, t) {
    const c = r.children, running = j.phase === "Running";
    put(c[0].firstChild, j.name);
    put(c[0].lastChild, [j.framework, j.tenant].filter(Boolean).join(" · "));
    mark(r, "data-tone", tone(j));
    put(c[1].firstChild.lastChild, standing(j, t));
    const rest = left(j, t);
    put(c[2], span(rest));
    mark(c[2], "data-tone", rest < 0 ? "bad" : undefined);
    const share = done(j), over = gone(j, t), [fillBar, line] = c[3].firstChild.children;
    fillBar.style.width = `${100 * share}%`;
    line.style.left = `${100 * over}%`;
    line.hidden = !Number.isFinite(over);
    put(c[3].children[1], percent(share));
    put(c[3].children[2], which(j));
    put(c[4], running && j.state ? j.progress_ratio.toFixed(2) : "");
    put(c[5], running ? cpus(j.allocation_cpus) : "");
    put(c[6], running ? cpus(j.usage_cpus) : "");
    put(c[7], running && j.state ? (j.need_cpus > 999 ? "\u221e" : cpus(j.need_cpus)) : "");
    put(c[8], (j.owner ?? "") + (j.moving ? ` \u2192 ${j.moving}` : ""));
    return r;
  }

  let cluster;
  function figures(t) {
    const count = { good: 0, over: 0, bad: 0, idle: 0 };
    let next = Infinity, nextJob;
    for (const j of jobs.values()) {
      count[tone(j)]++;
      const rest = left(j, t);
      if (rest >= 0 && rest < next) [next, nextJob] = [rest, j];
    }
    let total = 0, allocated = 0, free = 0;
    for (const n of cluster?.nodes ?? []) if (n.state === "alive") [total, allocated, free] = [total + n.cpus, allocated + n.allocated_cpus, free + n.headroom_cpus];
    const items = [
      ["Live jobs", String(jobs.size), ""], ["On plan", String(count.good), "good"], ["Over", String(count.over), "over"],
      ["Under or late", String(count.bad), "bad"], ["Waiting", String(count.idle), "idle"],
      ["CPUs allocated", cpus(allocated), "", `of ${cpus(total)}`], ["CPUs free", cpus(free), "", cluster ? `on ${nodeCount(cluster.nodes.filter((n) => n.state === "alive").length)}` : ""],
      ["Next deadline", Number.isFinite(next) ? span(next) : "\u2013", "", nextJob?.name ?? ""],
    ];
    const share = (n) => (jobs.size ? percent(n / jobs.size) : "");
    ["", share(count.good), share(count.over), share(count.bad), share(count.idle)].forEach((text, i) => { items[i][3] ??= text; });
    if (summary.children.length === 0) summary.append(...items.map(([k]) => h("div", {}, h("span", { class: "k" }, k), h("span", { class: "v" }), h("small"))));
    items.forEach(([, v, c, note], i) => {
      const e = summary.children[i];
      put(e.children[1], v);
      put(e.children[2], note);
      mark(e, "data-tone", c && v !== "0" ? c : undefined);
      mark(e, "title", note);
    });
  }

  function drawNodes() {
    const list = cluster.nodes ?? [];
    nodes.replaceChildren(...list.map((n) => {
      const scale = Math.max(n.cpus, n.allocated_cpus + Math.max(0, n.headroom_cpus)) || 1;
      const used = h("i"), sold = h("b");
      used.style.width = `${(100 * Math.min(n.allocated_cpus, scale)) / scale}%`;
      sold.style.width = `${(100 * Math.max(0, scale - n.allocated_cpus - Math.max(0, n.headroom_cpus))) / scale}%`;
      const aside = n.draining ? `being drained: ${n.draining}` : n.held ? `on hold: ${n.held}` : n.state !== "alive" ? `${n.state} since ${span(now() - time(n.since))}` : "";
      return h("div", { class: "host", "data-node": n.name, "data-state": n.state, title: `${cpus(n.allocated_cpus)} of ${cpus(n.cpus)} CPUs allocated to jobs, ${cpus(n.headroom_cpus)} free` },
        h("div", { class: "line" }, h("strong", {}, n.name), n.here && h("small", {}, "answers"), h("span", { class: "grow" }), h("span", { class: "free" }, cpus(n.headroom_cpus)), h("small", {}, "free")),
        h("div", { class: "meter" }, used, sold),
        h("div", { class: "line" }, h("small", { class: aside ? "warn" : "", title: aside }, aside || `${n.jobs} ${n.jobs === 1 ? "job" : "jobs"}`), h("span", { class: "grow" }), h("small", {}, `${cpus(n.allocated_cpus)} of ${cpus(n.cpus)} CPUs`)));
    }));
    const said = [];
    if (!cluster.alone && !cluster.settled) said.push("This agent is still getting to know its peers.");
    if (!cluster.quorate) said.push("This agent sees less than half of the nodes that it knew.");
    return said;
  }

  function see(news) {
    heard(news.at);
    if (news.first) jobs.clear();
    for (const j of news.jobs) jobs.set(j.id, j);
    for (const id of news.gone ?? []) {
      jobs.delete(id);
      if (filter !== "ended") rows.delete(id);
    }
    cluster = news.nodes;
    const said = drawNodes();
    if (news.holds?.all) said.push(`The cluster is on hold: ${news.holds.all}`);
    notice.hidden = said.length === 0;
    put(notice, said.join(" "));
    put(document.getElementById("about"), `node ${news.node}${cluster.alone ? "" : `, ${nodeCount(cluster.nodes.length)}`}`);
    if (news.gone?.length && filter === "ended") fetchEnded();
    if (first) requestAnimationFrame(() => setTimeout(() => performance.mark("jobs"))); // painted
    first = false;
    draw();
  }

  function keys(e) {
    if (e.key === "Escape" && e.target === find) {
      find.value = words = "";
      draw();
      find.blur();
    }
    if (typing(e)) return;
    if (e.key === "/") {
      e.preventDefault();
      find.focus();
    } else if (e.key === "j" || e.key === "k") {
      const links = [...body.querySelectorAll("a")], i = links.indexOf(document.activeElement);
      links[Math.min(links.length - 1, Math.max(0, i < 0 ? 0 : i + (e.key === "j" ? 1 : -1)))]?.focus();
    }
  }
  document.addEventListener("keydown", keys);
  timer = setInterval(() => {
    if (document.hidden) return;
    const t = now();
    for (const r of body.children) {
      const j = jobs.get(r.dataset.id);
      if (j && j.deadline && !ended(j)) {
        const rest = left(j, t);
        put(r.children[2], span(rest));
        mark(r.children[2], "data-tone", rest < 0 ? "bad" : undefined);
      }
    }
  }, 1000);
  const stop = follow("/v1/events", "cluster", see);
  figures(now());
  return () => {
    stop();
    clearInterval(timer);
    cancelAnimationFrame(later);
    document.removeEventListener("keydown", keys);
  };
}
