// A stream of events that comes back by itself, and says how it stands.

const label = { live: "live", waiting: "connecting", down: "no answer" };

export function state(s) {
  const e = document.getElementById("link");
  if (e.dataset.state === s) return;
  e.dataset.state = s;
  e.querySelector("span").textContent = label[s];
}

// follow calls see with each event of a kind; it returns what ends it. refused is called with the answer when there will be none.
export function follow(url, kind, see, refused) {
  let source, timer, over = false;
  const open = () => {
    source = new EventSource(url);
    source.addEventListener(kind, (e) => {
      state("live");
      see(JSON.parse(e.data));
    });
    source.onerror = async () => {
      if (over) return;
      state("waiting");
      if (source.readyState !== EventSource.CLOSED) return; // it tries again by itself
      timer = setTimeout(open, 5000);
      try {
        const answer = await fetch(url.replace(/\/events$/, kind === "job" ? "" : "/health"));
        if (answer.status === 404 && !over) {
          clearTimeout(timer);
          refused?.(await answer.json());
          state("live");
        }
      } catch {
        state("down");
      }
    };
  };
  // A page that nobody looks at lets go of its stream after a while; it has all anew when it is looked at again.
  let rest;
  const looked = () => {
    clearTimeout(rest);
    if (!document.hidden && source.readyState === EventSource.CLOSED) {
      clearTimeout(timer);
      open();
    } else if (document.hidden) {
      rest = setTimeout(() => {
        clearTimeout(timer);
        source.close();
        state("waiting");
      }, 60000);
    }
  };
  document.addEventListener("visibilitychange", looked);
  open();
  return () => {
    over = true;
    clearTimeout(timer);
    clearTimeout(rest);
    document.removeEventListener("visibilitychange", looked);
    source.close();
  };
}

// offset is how far the agent's clock is ahead of this one's, in milliseconds.
let offset = 0;
export function heard(at) {
  const d = Date.parse(at) - Date.now();
  if (Math.abs(d - offset) > 1500) offset = d;
}
export const now = () => Date.now() + offset;
