// h makes an element. Whatever is shown goes in as text: a job's name is never markup.
export function h(tag, attributes, ...children) {
  const e = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) e.addEventListener(key.slice(2), value);
    else if (key === "class") e.className = value;
    else e.setAttribute(key, value === true ? "" : value);
  }
  e.append(...children.filter((c) => c !== null && c !== undefined && c !== false));
  return e;
}

// put changes an element's text if it is another one.
export function put(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

// mark changes an attribute likewise; undefined takes it away.
export function mark(e, name, value) {
  if (value === undefined || value === null || value === false) {
    if (e.hasAttribute(name)) e.removeAttribute(name);
  } else if (e.getAttribute(name) !== String(value)) {
    e.setAttribute(name, value);
  }
}

// typing says whether a key that was pressed is meant for a field.
export function typing(event) {
  return event.target.closest?.("input, textarea, select, [contenteditable]") || event.ctrlKey || event.metaKey || event.altKey;
}
