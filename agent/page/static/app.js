import { h, put, typing } from "./dom.js";
import { overview } from "./overview.js";

const main = document.getElementById("main");
let leave = () => {};

// show draws the view that the address means.
async function show() {
  leave();
  leave = () => {};
  main.replaceChildren();
  put(document.getElementById("where"), "");
  const job = location.pathname.match(/^\/jobs\/([^/]+)$/);
  if (job) {
    const { page } = await import("./job.js");
    if (location.pathname === job[0]) leave = page(main, decodeURIComponent(job[1]));
  } else if (location.pathname === "/") {
    leave = overview(main);
  } else {
    main.append(h("p", { class: "notice" }, "There is no such page. ", h("a", { href: "/", "data-route": true }, "All jobs")));
  }
}

function go(path) {
  if (path === location.pathname + location.search) return;
  history.pushState(null, "", path);
  scrollTo(0, 0);
  show();
  main.focus({ preventScroll: true });
}

document.addEventListener("click", (e) => {
  const a = e.target.closest?.("a[data-route]");
  if (!a || e.defaultPrevented || e.button || e.ctrlKey || e.metaKey || e.shiftKey || e.altKey) return;
  e.preventDefault();
  go(a.getAttribute("href"));
});
addEventListener("popstate", show);

const themes = ["", "light", "dark"];
const button = document.getElementById("theme");
function theme(t) {
  if (t) document.documentElement.dataset.theme = t;
  else delete document.documentElement.dataset.theme;
  put(button, t ? (t === "light" ? "Light" : "Dark") : "Auto");
  document.dispatchEvent(new CustomEvent("theme"));
}
function turn() {
  const next = themes[(themes.indexOf(document.documentElement.dataset.theme ?? "") + 1) % themes.length];
  theme(next);
  if (next) localStorage.setItem("theme", next);
  else localStorage.removeItem("theme");
}
button.addEventListener("click", turn);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new CustomEvent("theme")));
theme(document.documentElement.dataset.theme ?? "");

document.addEventListener("keydown", (e) => {
  if (typing(e)) return;
  if (e.key === "t") turn();
  else if (e.key === "u") go("/");
});

show();
