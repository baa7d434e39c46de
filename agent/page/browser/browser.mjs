// Opens the page in a real Chromium and holds it against the agent's API. Environment: URL, CHROMIUM, JOBS (live ones), JOB (ids of those to
// open, with commas between; none: only the overview), BUDGET (ms to the first paint and to the rows), SHOTS (directory for pictures; none: none are taken).
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const { URL: url, CHROMIUM: executablePath, JOB: ids, SHOTS: shots } = process.env;
const jobs = Number(process.env.JOBS), budget = Number(process.env.BUDGET ?? 1000);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"] });
const faults = [];

async function open(path, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, colorScheme: "light", locale: "en-GB", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(120000);
  page.on("console", (m) => m.type() === "error" && faults.push(m.text()));
  page.on("pageerror", (e) => faults.push(String(e)));
  page.on("request", (r) => r.url().startsWith(url) || faults.push(`asks ${r.url()}`));
  page.on("dialog", (d) => { faults.push(`a dialog: ${d.message()}`); d.dismiss(); });
  await page.goto(url + path);
  return page;
}

const shoot = async (page, name, options = {}) => {
  if (shots) await page.screenshot({ path: `${shots}/${name}.png`, ...options });
};
const ready = (page) => page.waitForFunction((n) => document.querySelectorAll(".jobs tbody tr").length >= n, jobs, { polling: 20 });

// paint is when something was painted, and when the jobs were.
const paint = async (page) => {
  await page.waitForFunction(() => performance.getEntriesByName("jobs").length > 0, null, { polling: 20 });
  return page.evaluate(() => new Promise((done) => requestAnimationFrame(() => setTimeout(() => done({
    first: performance.getEntriesByName("first-contentful-paint")[0]?.startTime, rows: performance.getEntriesByName("jobs")[0]?.startTime,
  })))));
};

async function overview() {
  let page, times = { first: Infinity, rows: Infinity };
  for (let i = 0; i < 4 && (i < 2 || times.first > budget || times.rows > 2 * budget); i++) { // the machine may do other things, and the first has to start
    await page?.context().close();
    page = await open("/");
    const t = await paint(page);
    await ready(page);
    t.all = await page.evaluate(() => performance.now());
    if (t.rows < times.rows) times = t;
  }
  assert.ok(times.first <= budget, `first paint after ${times.first} ms`);
  assert.ok(times.rows <= 2 * budget, `jobs after ${times.rows} ms`);
  const shown = await page.evaluate(async () => {
    const api = (await (await fetch("/v1/jobs")).json()).jobs;
    const rows = new Map([...document.querySelectorAll(".jobs tbody tr")].map((r) => [r.dataset.id, Object.fromEntries([...r.children].map((c) => [c.className.split(" ")[0], c]))]));
    return { api, rows: Object.fromEntries([...rows].map(([id, c]) => [id, {
      name: c.name.firstChild.textContent, state: c.state.textContent, ratio: c.ratio.textContent, cpus: c.cpus.textContent, used: c.used.textContent, need: c.need.textContent,
      share: c.done.querySelector(".share").textContent, node: c.node.textContent, left: c.left.textContent, markup: c.name.querySelectorAll("*").length,
    }])) };
  });
  assert.equal(shown.api.length, jobs);
  assert.equal(Object.keys(shown.rows).length, jobs);
  const words = { UNDER_PERFORMANT: "under", ON_PLAN: "on plan", OVER_PERFORMANT: "over" };
  for (const j of shown.api) {
    const r = shown.rows[j.id], running = j.phase === "Running";
    assert.equal(r.name, j.name);
    assert.equal(r.markup, 2, `the name of ${j.name} became markup`);
    assert.ok(r.state.startsWith(running ? (j.late && new Date(j.deadline) < new Date() ? "late" : words[j.state]) : j.phase.toLowerCase()), `${j.name}: ${r.state}`);
    assert.equal(r.ratio, running ? j.progress_ratio.toFixed(2) : "");
    assert.equal(r.cpus, running ? j.allocation_cpus.toFixed(2) : "");
    assert.equal(r.used, running ? j.usage_cpus.toFixed(2) : "");
    assert.equal(r.node, j.owner ?? "");
    assert.equal(r.left === "", !j.deadline);
  }
  const nodes = await page.evaluate(async () => ({ api: (await (await fetch("/v1/nodes")).json()).nodes, shown: [...document.querySelectorAll(".host")].map((n) => [n.dataset.node, n.querySelector(".free").textContent]) }));
  assert.deepEqual(nodes.shown, nodes.api.map((n) => [n.name, n.headroom_cpus.toFixed(2).replace("-", "\u2212")]));

  await page.keyboard.press("/");
  const some = shown.api[Math.floor(jobs / 2)].name;
  await page.keyboard.type(some);
  await page.waitForFunction((n) => document.querySelectorAll(".jobs tbody tr").length === n, shown.api.filter((j) => j.name.toLowerCase().includes(some.toLowerCase())).length);
  await page.keyboard.press("Escape");
  await ready(page);
  await page.keyboard.press("j");
  assert.equal(await page.evaluate(() => document.activeElement.closest("tr") === document.querySelector(".jobs tbody tr")), true, "j does not go to the first job");
  await page.mouse.click(5, 500);
  await shoot(page, `overview-${jobs}`);
  const dark = await open("/", { colorScheme: "dark" });
  await ready(dark);
  await shoot(dark, `overview-${jobs}-dark`);
  const phone = await open("/", { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true });
  await ready(phone);
  assert.ok(await phone.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the overview is wider than a phone");
  await shoot(phone, `overview-${jobs}-phone`);
  for (const p of [page, dark, phone]) await p.context().close();
  return times;
}

const drawn = (page) => page.waitForFunction(() => document.querySelector('[data-plot="allocation"]')?.uplot?.data[0].length > 0, null, { polling: 20 });

async function one(job, name) {
  const page = await open(`/jobs/${job}`);
  await drawn(page);
  await page.click(".bar > button.plain[aria-pressed]");
  const seen = await page.evaluate(async (id) => {
    const get = async (what) => (await fetch(`/v1/jobs/${id}${what}`)).json();
    const data = (name) => document.querySelector(`[data-plot="${name}"]`).uplot?.data;
    const figure = (name) => document.querySelector(`[data-figure="${name}"] .v`).textContent;
    return {
      job: await get(""), history: await get("/history"), explain: await get("/explain"), title: document.querySelector("h1").textContent,
      ratio: data("ratio"), margin: data("margin"), cpu: data("cpu"), allocation: data("allocation"), lasted: data("lasted"), spent: data("spent"),
      figures: { ratio: figure("ratio"), cpus: figure("cpus"), using: figure("using") },
      why: [...document.querySelectorAll(".why tbody tr")].map((r) => r.querySelector(".text").textContent), events: [...document.querySelectorAll(".events .text")].map((e) => e.textContent),
    };
  }, job);
  const { history } = seen, whole = (column) => column.filter((v) => v !== null);
  assert.equal(seen.title, seen.job.name);
  assert.equal(seen.figures.ratio, seen.job.progress_ratio.toFixed(2));
  assert.equal(seen.figures.cpus, seen.job.allocation_cpus.toFixed(2));
  assert.ok(history.at.length > 100, `${history.at.length} readings`);
  const columns = { ratio: ["progress_ratio"], margin: ["prediction_minus_deadline"], cpu: ["used_cpu_seconds", "desired_cpu_seconds"], allocation: ["allocation_cpus", "usage_cpus", "need_cpus"] };
  for (const [name, keys] of Object.entries(columns)) {
    keys.forEach((k, i) => assert.deepEqual(whole(seen[name][i + 1]), history[k], `plot ${name}, ${k}`));
    const gaps = seen[name][1].map((v, i) => (v === null ? i : -1)).filter((i) => i >= 0);
    assert.deepEqual(seen[name][0].filter((_, i) => !gaps.includes(i)), history.at.map((t) => t / 1000), `plot ${name}, time`);
  }
  if (history.runs.length) {
    assert.deepEqual(seen.lasted[0], history.runs.map((r) => r.index));
    assert.deepEqual(seen.lasted[1].map((v, i) => v ?? seen.lasted[2][i]), history.runs.map((r) => r.seconds));
    assert.deepEqual(seen.spent[1].map((v, i) => v ?? seen.spent[2][i]), history.runs.map((r) => r.cpu_seconds));
  }
  assert.deepEqual(seen.why, seen.explain.decisions.map((x) => x.reason).reverse());
  assert.deepEqual(seen.events, seen.explain.events.map((x) => x.text).reverse());

  await page.focus('[data-plot="ratio"]');
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("ArrowLeft");
  const read = await page.evaluate(() => ({ idx: document.querySelector('[data-plot="ratio"]').uplot.cursor.idx, text: document.querySelector('[data-plot="ratio"] .key b').textContent }));
  assert.equal(read.text, seen.ratio[1][read.idx]?.toFixed(2) ?? "");
  await page.keyboard.press("Escape");
  await page.click(".bar > button.plain[aria-pressed]");
  await page.evaluate(() => { document.activeElement.blur(); scrollTo(0, 0); });
  await shoot(page, `${name}`);
  await shoot(page, `${name}-whole`, { fullPage: true });
  await page.keyboard.press("t");
  await page.keyboard.press("t");
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
  await shoot(page, `${name}-dark`);
  await page.keyboard.press("u");
  await ready(page);
  const phone = await open(`/jobs/${job}`, { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true });
  await drawn(phone);
  assert.ok(await phone.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the job's page is wider than a phone");
  await shoot(phone, `${name}-phone`);
  await shoot(phone, `${name}-phone-whole`, { fullPage: true });
  for (const p of [page, phone]) await p.context().close();
}

try {
  const times = await overview();
  for (const [i, id] of (ids ? ids.split(",") : []).entries()) await one(id, `job-${i + 1}`);
  assert.deepEqual(faults, [], "the browser complains");
  console.log(JSON.stringify(times));
} finally {
  await browser.close();
}
