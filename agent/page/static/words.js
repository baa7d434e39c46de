// How figures and states are said, everywhere alike.

const terminal = new Set(["Completed", "Failed", "Cancelled"]);

export const ended = (j) => terminal.has(j.phase);
export const time = (s) => (s ? Date.parse(s) : NaN);

export function cpus(v) {
  return (v ?? 0).toFixed(2).replace("-", "\u2212");
}

export function seconds(v) {
  const a = Math.abs(v);
  if (a >= 9999.5) return Math.round(v).toLocaleString("en-US").replaceAll(",", "\u202f");
  return a >= 100 ? v.toFixed(0) : v.toFixed(1);
}

export function percent(v) {
  return `${Math.round(100 * v)}\u202f%`;
}

// span shows milliseconds in few letters.
export function span(ms, fine) {
  if (!Number.isFinite(ms)) return "";
  const sign = ms < 0 ? "\u2212" : "";
  const s = Math.abs(ms) / 1000;
  const two = (n) => String(Math.floor(n)).padStart(2, "0");
  if (s >= 48 * 3600) return `${sign}${Math.floor(s / 86400)}d ${two((s % 86400) / 3600)}h`;
  if (s >= 3600) return `${sign}${Math.floor(s / 3600)}h ${two((s % 3600) / 60)}m`;
  if (s >= 60) return `${sign}${Math.floor(s / 60)}m ${two(s % 60)}s`;
  return fine && s < 10 ? `${sign}${s.toFixed(1)}s` : `${sign}${Math.floor(s)}s`;
}

const clockOf = (options) => new Intl.DateTimeFormat("en-GB", options);
const day = clockOf({ day: "numeric", month: "short" });
const hms = clockOf({ hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const hm = clockOf({ hour: "2-digit", minute: "2-digit", hour12: false });

// clock shows a time of day, with the date when it isn't today's.
export function clock(ms, short) {
  if (!Number.isFinite(ms)) return "";
  const t = new Date(ms);
  const text = (short ? hm : hms).format(t);
  return t.toDateString() === new Date().toDateString() ? text : `${day.format(t)} ${text}`;
}

// tone is the colour that a job has: what somebody who looks at many of them must see first.
export function tone(j) {
  if (j.phase === "Completed") return j.outcome === "met" ? "good" : "bad";
  if (j.phase === "Failed" || j.phase === "Lost") return "bad";
  if (j.phase === "Cancelled") return "idle";
  if (j.late || j.state === "UNDER_PERFORMANT") return "bad";
  if (j.state === "OVER_PERFORMANT") return "over";
  if (j.state === "ON_PLAN") return "good";
  return "idle";
}

const words = { UNDER_PERFORMANT: "under", ON_PLAN: "on plan", OVER_PERFORMANT: "over" };

// standing says in a word or two how a job stands.
export function standing(j, now) {
  let text;
  if (ended(j)) {
    text = j.phase === "Completed" ? (j.outcome === "missed" ? "missed" : "met") : j.phase.toLowerCase();
  } else if (j.phase === "Running" && j.state) {
    text = words[j.state] ?? j.state;
    if (j.late) text = time(j.deadline) > now ? `${text}, overrun` : "late";
  } else {
    text = j.phase.toLowerCase();
  }
  if (j.moving) text += `, to ${j.moving}`;
  else if (j.away) text += ", away";
  else if (j.held && !ended(j)) text += ", held";
  return text;
}

// done is the share of a job's work that is done: of the present execution, or of all iterations.
export function done(j) {
  if (j.phase === "Completed") return 1;
  if (!(j.qos?.duration > 0)) return 0;
  let one = Math.min(1, j.progress_cpu_seconds / j.qos.duration);
  if (j.iterations > 0) {
    if (j.phase === "Ended") one = 0;
    return Math.min(1, (j.tally.succeeded + one) / j.iterations);
  }
  return one;
}

// gone is the share of the time to the deadline that is over; NaN when it doesn't count yet.
export function gone(j, now) {
  const from = time(j.started), to = time(j.deadline);
  return to > from ? Math.min(1, Math.max(0, ((ended(j) && j.ended ? time(j.ended) : now) - from) / (to - from))) : NaN;
}

// left is the time to the deadline, or what was left at the end, in milliseconds.
export function left(j, now) {
  if (!j.deadline) return NaN;
  if (ended(j)) return j.ended ? time(j.deadline) - time(j.ended) : NaN;
  return time(j.deadline) - now;
}

// which says which run of how many it is.
export function which(j) {
  if (j.iterations > 0) return `${j.tally.succeeded}/${j.iterations}`;
  if (j.qos?.executions > 1) return `${Math.max(1, j.index ?? 1)}/${j.qos.executions}`;
  return j.index > 1 ? `#${j.index}` : "";
}
