// Why this number: one prediction with its domain, its model, the model's hold-out and the nearest compositions.

import * as api from "./api.js";
import { el, icon, show } from "./dom.js";
import { count, formula, holdoutError, method, number, percent, prediction, significant, unit, unitName } from "./format.js";
import { parityPlot } from "./parity.js";
import { title } from "./properties.js";

const NEIGHBOURS = 5;
const holdouts = new Map();

function same(version, wanted) {
  if (version !== wanted) throw new Error("The model was replaced meanwhile: predict again.");
}

/** Hold-out of a model version, asked for once; an error if another version answers. */
export function holdout(property) {
  const key = `${property.model} ${property.version}`;
  if (!holdouts.has(key)) {
    const asked = api.parity(property.name).then((data) => (same(data.version, property.version), data));
    holdouts.set(key, asked);
    asked.catch(() => holdouts.delete(key));
  }
  return holdouts.get(key);
}

function warning(title, words, kind = "note") {
  return el("span", { class: `flag flag-warn flag-${kind}` }, icon("warn"), el("span", {}, el("b", {}, title), words));
}

/** Whether the model may know a composition, and what else speaks against relying on a value: icons and words. */
export function domainFlag(cell, { long = false } = {}) {
  if (!cell.in_domain) {
    return warning("Outside the domain: ", cell.note || "unlike anything in training", "outside");
  }
  const inside = el("span", { class: "flag flag-inside" }, icon("check"), long ? "Inside the training domain" : "in domain");
  return [inside, cell.note && warning("Beware: ", cell.note)];
}

function fact(name, ...value) {
  return [el("dt", {}, name), el("dd", {}, ...value)];
}

function facts(property, model) {
  const coverage = property.coverage;
  const measured = coverage && Number.isFinite(coverage.measured);
  return el(
    "dl",
    { class: "facts" },
    ...fact("Model", el("span", { class: "name" }, `${model.model ?? property.model} v${model.version ?? property.version}`)),
    ...fact("Method", method(model.method ?? property.method)),
    property.training_rows ? fact("Trained on", count(property.training_rows, "material")) : [],
    holdoutError(property)
      ? fact("Hold-out error", `${holdoutError(property, { withUnit: true })}${property.holdout_rows ? ` on ${count(property.holdout_rows, "material")}` : ""}`)
      : [],
    Number.isFinite(coverage?.stated)
      ? fact("Interval", `${percent(coverage.stated)} stated${measured ? `, ${percent(coverage.measured)} measured on the hold-out` : ""}`)
      : [],
    property.status === "degraded" ? fact("State", el("span", { class: "state state-degraded" }, icon("warn"), property.status_note || "degraded")) : [],
  );
}

function neighbourTable(neighbours, property) {
  const apart = ({ distance }) => (distance === null ? "–" : distance < 1e-9 ? "0" : significant(distance));
  const same = apart(neighbours[0]) === "0";
  const digit = Math.floor(Math.log10(property.holdout_mae || Math.abs(neighbours[0].value) / 100 || 1)) - 1;
  return [
    same
      ? el("p", { class: "known" }, icon("check"), "This composition is in the training set: its known value is listed first.")
      : null,
    el(
      "table",
      { class: "neighbours" },
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Composition"), el("th", { scope: "col" }, unit(property.unit) || "Value"), el("th", { scope: "col" }, "Distance"))),
      el(
        "tbody",
        {},
        ...neighbours.map((neighbour) =>
          el(
            "tr",
            {},
            el("th", { scope: "row" }, formula(neighbour.formula)),
            el("td", {}, number(neighbour.value, digit)),
            el("td", {}, apart(neighbour)),
          ),
        ),
      ),
    ),
    el(
      "p",
      { class: "neighbours-note" },
      neighbours.some(({ distance }) => distance === null)
        ? "Too few training compositions for a distance: the training domain is that of the elements alone."
        : "Distance: 0 is the same composition, 1 the edge of the training domain.",
    ),
  ];
}

function waiting(words) {
  return el("p", { class: "waiting" }, el("span", { class: "spinner", "aria-hidden": "true" }), words);
}

/**
 * Show one prediction in `node`; the hold-out and the neighbours follow when they arrive.
 *
 * @param what `formula` (text), `amounts`, `property`, `cell` (its prediction), `model` (which gave it).
 */
export function showDetail(node, { formula: text, amounts, property, cell, model }) {
  const words = prediction(cell);
  const plot = el("div", { class: "slot slot-plot" }, waiting("Drawing the hold-out…"));
  const near = el("div", { class: "slot" }, waiting("Looking for the nearest compositions…"));
  const share = model.coverage ?? property.coverage?.stated;
  show(
    node,
    el("p", { class: "detail-formula" }, formula(text)),
    el("h3", { class: "detail-title", id: "detail-title" }, title(property)),
    property.description !== title(property) && el("p", { class: "detail-about" }, property.description),
    el("p", { class: "detail-value" }, el("strong", {}, words.value), ` ${unit(property.unit)}`),
    words.bounded
      ? el("p", { class: "detail-interval" }, `${share ? `${percent(share)} interval: ` : "Interval: "}${words.lower} to ${words.upper} ${unitName(property.unit)}`)
      : null,
    el("p", { class: "detail-flag" }, domainFlag(cell, { long: true })),
    el("h4", {}, "How good is the model?"),
    facts(property, model),
    plot,
    el("h4", {}, "Nearest training compositions"),
    near,
  );
  const failed = (slot, words) => (error) => slot.isConnected && show(slot, el("p", { class: "muted" }, `${words} ${error.message}`));
  holdout(property)
    .then((data) => {
      same(data.version, model.version);
      show(plot, data.y_true.length ? parityPlot(data, cell, property) : el("p", { class: "muted" }, "This model was fitted without a hold-out."));
    })
    .catch(failed(plot, "The hold-out cannot be drawn."));
  api
    .nearest(text, amounts, property.name, NEIGHBOURS)
    .then((answer) => {
      same(answer.model.version, model.version);
      show(near, neighbourTable(answer.cell.nearest, property));
    })
    .catch(failed(near, "The nearest compositions cannot be shown."));
}
