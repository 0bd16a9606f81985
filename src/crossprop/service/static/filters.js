// Which rows of an answer are shown: all of them, or those that deserve a second look.

import { el } from "./dom.js";

const cells = (result) => Object.values(result.predictions ?? {});
const KINDS = [
  ["all", "All", () => true],
  ["unread", "Not read", (result) => Boolean(result.error)],
  ["outside", "Outside the domain", (result) => cells(result).some((cell) => !cell.in_domain)],
  ["noted", "Inside, with a warning", (result) => cells(result).some((cell) => cell.in_domain && cell.note)],
];

/** Whether a result is of a kind. */
export function isOf(kind, result) {
  return KINDS.find(([name]) => name === kind)[2](result);
}

/** Buttons that choose a kind, with how many formulas are of it; null where there is nothing to choose. */
export function filterBar(results, chosen, choose) {
  const found = KINDS.map(([name, words, holds]) => [name, words, results.filter(holds).length]).filter(([, , n]) => n);
  if (results.length < 2 || found.length < 2) return null;
  return el(
    "div",
    { class: "filters", role: "group", "aria-label": "Formulas shown" },
    ...found.map(([name, words, n]) =>
      el(
        "button",
        { type: "button", class: "filter", "data-kind": name, "aria-pressed": String(name === chosen), onclick: () => choose(name) },
        words,
        el("span", { class: "filter-count" }, n.toLocaleString("en-US")),
      ),
    ),
  );
}
