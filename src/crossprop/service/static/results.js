// The table of predictions. One tab stop for its cells, arrow keys move; on a phone its rows become cards (CSS).

import { drawBar, scaleOfAnswer, scaleOfHoldout } from "./bars.js";
import { domainFlag, holdout } from "./detail.js";
import { el, icon, quiet, show } from "./dom.js";
import { filterBar, isOf } from "./filters.js";
import { count, formula, holdoutError, prediction, unit, unitName } from "./format.js";
import { title } from "./properties.js";

const PAGE = 100;
/** Least width of a column, in rem. */
const COLUMN = 11;
const LONGEST_NAME = 32;

const shorten = (text) => (text.length > LONGEST_NAME ? `${text.slice(0, LONGEST_NAME)}…` : text);

/**
 * Show an answer in `node`.
 *
 * @param {{answer, properties}} shown predictions and the properties that they are of.
 * @param {{select, fix}} actions for a cell that is chosen and a formula to be corrected.
 */
export function resultTable(node, { answer, properties }, { select, fix }) {
  const numbered = answer.results.map((result, i) => ({ ...result, i }));
  const good = numbered.filter((result) => !result.error);
  const bars = new Map(properties.map(({ name }) => [name, []]));
  const scales = new Map();
  let turned = properties.length > 6 && good.length <= 3;
  let order = { name: null, down: true };
  let rows = PAGE;
  let kind = "all";
  let at = null;

  const shownGood = () => good.filter((result) => isOf(kind, result)).slice(0, rows);
  const cellsOf = (name) => good.map((result) => result.predictions[name]).filter(Boolean);

  function cell(result, property) {
    const found = result.predictions[property.name];
    const label = turned ? result.formula : title(property);
    if (!found) return el("td", { role: "cell", "data-label": label }, "no answer");
    const words = prediction(found);
    const bar = el("span", { class: "bar-box" });
    if (scales.has(property.name)) drawBar(bar, found, scales.get(property.name));
    bars.get(property.name).push([bar, found]);
    const id = `${result.i} ${property.name}`;
    const button = el(
      "button",
      { type: "button", class: "cell", tabindex: -1, "data-cell": id, "aria-current": id === at ? "true" : null },
      el(
        "span",
        { class: "cell-value" },
        el("strong", {}, words.value),
        words.behind && el("span", { class: "cell-behind" }, " ", words.behind),
        el("span", { class: "cell-unit" }, ` ${unit(property.unit)}`),
      ),
      bar,
      domainFlag(found),
      quiet(": show how this was predicted"),
    );
    button.addEventListener("click", () => {
      mark(id);
      select({ formula: result.formula, amounts: answer.amounts, property, cell: found, model: answer.models[property.name] ?? {} }, button);
    });
    return el("td", { role: "cell", "data-label": label }, button);
  }

  function mark(id) {
    at = id;
    for (const button of node.querySelectorAll(".cell")) {
      const here = button.dataset.cell === id;
      button.tabIndex = here ? 0 : -1;
      here ? button.setAttribute("aria-current", "true") : button.removeAttribute("aria-current");
    }
  }

  function propertyHead(property, scope) {
    const model = answer.models[property.name] ?? property;
    const about = [
      `${model.method} v${model.version}`,
      holdoutError(property),
      property.status === "degraded" && "degraded",
    ];
    const name = el("span", { class: "head-title", title: property.description }, title(property), el("span", { class: "head-unit" }, unitName(property.unit)));
    const sorted = order.name === property.name ? (order.down ? "descending" : "ascending") : null;
    const sort = el(
      "button",
      { type: "button", class: "sort", "data-sort": property.name, title: "Sort by this property", onclick: () => sortBy(property.name) },
      name,
      el("span", { class: "arrow", "aria-hidden": "true" }, sorted ? (order.down ? "↓" : "↑") : "↕"),
    );
    return el(
      "th",
      { scope, role: scope === "col" ? "columnheader" : "rowheader", "aria-sort": scope === "col" && sorted ? sorted : null },
      scope === "col" ? sort : name,
      el("span", { class: "head-about" }, about.filter(Boolean).join(" · ")),
    );
  }

  function sortBy(name) {
    if (order.name !== name) order = { name, down: true };
    else if (order.down) order = { name, down: false };
    else order = { name: null, down: true };
    draw();
    node.querySelector(`[data-sort="${CSS.escape(name)}"]`)?.focus();
  }

  function errorRow(result, width) {
    const button = el("button", { type: "button", class: "small", onclick: () => fix(result.formula) }, "Correct it in the list");
    return el(
      "tr",
      { class: "row-error", role: "row" },
      el("th", { scope: "row", role: "rowheader" }, icon("error"), quiet("Not predicted: "), el("span", { class: "given" }, shorten(result.formula))),
      el("td", { role: "cell", colspan: width }, el("div", { class: "objection" }, el("span", { class: "reason" }, result.error.message), button)),
    );
  }

  function formulaRows() {
    const all = numbered.filter((result) => isOf(kind, result));
    const value = (result) => result.predictions?.[order.name]?.value ?? NaN;
    if (order.name) {
      all.sort((a, b) => {
        const [left, right] = [value(a), value(b)];
        if (Number.isNaN(left) || Number.isNaN(right)) return Number.isNaN(left) - Number.isNaN(right);
        return order.down ? right - left : left - right;
      });
    }
    return all.slice(0, rows).map((result) =>
      result.error
        ? errorRow(result, properties.length)
        : el(
            "tr",
            { role: "row" },
            el("th", { scope: "row", role: "rowheader" }, formula(result.formula)),
            ...properties.map((property) => cell(result, property)),
          ),
    );
  }

  function propertyRows() {
    const failed = answer.results.filter((result) => result.error && isOf(kind, result));
    const columns = shownGood();
    return [
      ...(columns.length ? properties : []).map((property) =>
        el("tr", { role: "row" }, propertyHead(property, "row"), ...columns.map((result) => cell(result, property))),
      ),
      ...failed.slice(0, rows).map((result) => errorRow(result, Math.max(1, columns.length))),
    ];
  }

  function choose(wanted) {
    [kind, rows] = [wanted, PAGE];
    draw();
    node.querySelector(`[data-kind="${wanted}"]`).focus();
  }

  function draw() {
    for (const list of bars.values()) list.length = 0;
    const heads = turned
      ? shownGood().map((result) => el("th", { scope: "col", role: "columnheader" }, formula(result.formula)))
      : properties.map((property) => propertyHead(property, "col"));
    const first = el("th", { scope: "col", role: "columnheader", class: "corner" }, turned ? "Property" : "Composition");
    const columns = turned ? shownGood().length : properties.length;
    const table = el(
      "table",
      { class: turned ? "results turned" : "results", role: "table" },
      el("caption", { class: "visually-hidden" }, "Predicted values with their intervals"),
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, first, ...heads)),
      el("tbody", { role: "rowgroup" }, ...(turned ? propertyRows() : formulaRows())),
    );
    table.style.minWidth = `${(turned ? 16 : 8) + COLUMN * columns}rem`;
    const found = numbered.filter((result) => isOf(kind, result));
    const parts = turned ? [found.filter((result) => result.error), found.filter((result) => !result.error)] : [found];
    const left = parts.reduce((sum, part) => sum + Math.max(0, part.length - rows), 0);
    const more = () => {
      const known = node.querySelectorAll("tbody tr").length;
      rows += PAGE;
      draw();
      const next = node.querySelectorAll("tbody tr")[known]?.querySelector("button") ?? node.querySelector(".more");
      next?.focus();
    };
    show(
      node,
      filterBar(answer.results, kind, choose),
      el("div", { class: "table-scroll" }, table),
      left > 0 ? el("button", { type: "button", class: "more", onclick: more }, `Show ${Math.min(PAGE, left)} more of ${count(left, "formula")}`) : null,
    );
    const current = node.querySelector('.cell[aria-current="true"]') ?? node.querySelector(".cell");
    if (current) current.tabIndex = 0;
  }

  function move(event) {
    const button = event.target.closest?.(".cell");
    if (!button) return;
    const lines = [...node.querySelectorAll("tbody tr")].map((row) => [...row.querySelectorAll(".cell")]).filter((line) => line.length);
    const row = lines.findIndex((line) => line.includes(button));
    const column = lines[row].indexOf(button);
    const to = {
      ArrowDown: lines[row + 1]?.[column],
      ArrowUp: lines[row - 1]?.[column],
      ArrowRight: lines[row][column + 1],
      ArrowLeft: lines[row][column - 1],
      Home: lines[row][0],
      End: lines[row].at(-1),
    }[event.key];
    if (!to) return;
    event.preventDefault();
    button.tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  }

  /** Bars come when their hold-outs do, one after another: there may be dozens. */
  async function scale() {
    for (const property of properties) {
      const { name } = property;
      const cells = cellsOf(name);
      const known = await holdout(property).catch(() => null);
      if (known?.y_true.length) scales.set(name, scaleOfHoldout(known, cells));
      else if (cells.length > 1) scales.set(name, scaleOfAnswer(cells));
      for (const [bar, found] of bars.get(name)) if (scales.has(name)) drawBar(bar, found, scales.get(name));
    }
  }

  node.onkeydown = move;
  draw();
  if (good.length) scale();

  return {
    turn() {
      turned = !turned;
      draw();
    },
    /** Choose the first prediction, as a click would. */
    first: () => node.querySelector(".cell")?.click(),
  };
}
