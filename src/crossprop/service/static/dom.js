// Building blocks of the page. Text always goes in as text nodes: data is never read as HTML.

const SVG = "http://www.w3.org/2000/svg";

const isChild = (child) => child !== null && child !== undefined && child !== false && child !== "";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter(isChild));
  return node;
}

/** An HTML element: attributes, `onclick`-like listeners, children (nodes, texts, lists of them). */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element, as `el`. Geometry goes into attributes: the content policy allows no inline styles. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

const ICONS = {
  check: "M3.5 8.5 6.5 11.5 12.5 4.5",
  warn: "M8 2 14.5 13.5H1.5ZM8 6.4v3.4M8 11.6v.1",
  error: "M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8ZM5.6 5.6l4.8 4.8M10.4 5.6 5.6 10.4",
  wait: "M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8ZM8 4.6V8l2.4 1.6",
  key: "M10.2 5.8a2.9 2.9 0 1 0-2.6 2.9M8 8l5.8 5.8M11.4 11.4l1.6-1.6",
  link: "M6.5 9.5l3-3M7 4.5l1.6-1.6a3 3 0 0 1 4.4 4.4L11.5 9M9 11.5 7.4 13A3 3 0 0 1 3 8.7L4.5 7",
  download: "M8 2v8M4.8 7 8 10.2 11.2 7M2.5 13.5h11",
  swap: "M2 5.5h11M10 2.5l3 3-3 3M14 10.5H3M6 7.5l-3 3 3 3",
};

/** A line icon; decorative, the word always stands beside it. */
export function icon(name) {
  return svg(
    "svg",
    { class: "icon", viewBox: "0 0 16 16", "aria-hidden": "true", focusable: "false" },
    svg("path", { d: ICONS[name] }),
  );
}

/** Replace everything in a node. */
export function show(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter(isChild));
  return node;
}

/** Say a text in a live region, unless it stands there: it would be read out again. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Text for screen readers only. */
export function quiet(text) {
  return el("span", { class: "visually-hidden" }, text);
}
