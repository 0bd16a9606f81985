// The list of compositions: a text, and beside it the formula under the cursor with its elements and amounts.

import { el, quiet, say, show } from "./dom.js";
import { objection } from "./elements.js";
import { count, formula } from "./format.js";
import { flatAmounts, pastedColumn, splitFormulas, tokenAt, writeFormula } from "./formulas.js";
import { periodicTable } from "./periodic.js";

/**
 * Connect the text field, the periodic table and the amounts.
 *
 * @param {() => void} changed is called whenever the list is another one.
 */
export function composer({ text, summary, weight, grid, caption, builder, clear }, changed) {
  const table = periodicTable(grid, caption, {
    insert: (symbol) => alter(symbol, (n) => n + 1, symbol),
    remove: (symbol) => flatAmounts(current().text)?.has(symbol) && alter(symbol, (n) => n - 1),
  });
  let pasteNote = null;

  const current = () => tokenAt(text.value, text.selectionStart ?? text.value.length);

  function put(token, formulaText) {
    text.setRangeText(formulaText, token.start, token.end, "end");
    pasteNote = null;
    update();
  }

  /** Change the amount of an element at the cursor; a text that is no plain formula gets `otherwise` at its end. */
  function alter(symbol, next, otherwise = "") {
    const token = current();
    const amounts = flatAmounts(token.text);
    if (!amounts) return put(token, token.text.trimEnd() + otherwise);
    const amount = next(amounts.get(symbol) ?? 0);
    if (amount > 0) amounts.set(symbol, amount);
    else amounts.delete(symbol);
    return put(token, writeFormula(amounts));
  }

  function nextFormula() {
    const { end } = current();
    const gap = text.value.slice(0, end).trim() && !/\n$/.test(text.value.slice(0, end)) ? "\n" : "";
    text.setRangeText(gap, end, end, "end");
    update();
  }

  /** A number is taken over while it is typed, nothing or 0 when the field is left: the element is removed then. */
  function amountField([symbol, amount]) {
    const take = ({ type, target }) => {
      if (target.valueAsNumber > 0 || type === "change") alter(symbol, () => target.valueAsNumber);
    };
    return el(
      "label",
      { class: "amount" },
      el("span", { "aria-hidden": "true" }, symbol),
      quiet(`Amount of ${symbol}`),
      el("input", {
        type: "number",
        min: 0,
        step: "any",
        value: String(amount),
        inputmode: "decimal",
        oninput: take,
        onchange: take,
      }),
    );
  }

  const name = el("span", { class: "builder-formula" });
  const next = el("button", { type: "button", class: "small", onclick: nextFormula }, "Next formula");
  const head = el("div", { class: "builder-head" }, name, next);
  const fields = el("div", { class: "amounts" });
  const wrong = el("p", { class: "builder-objection" });
  show(builder, head, fields, wrong);
  let drawn = null;

  /** The fields stay while the elements are the same: a pointer or a cursor may be on one of them. */
  function drawBuilder() {
    const token = current().text.trim();
    const amounts = flatAmounts(token);
    table.mark(amounts ? amounts.keys() : [...token.matchAll(/[A-Z][a-z]?/g)].map(([symbol]) => symbol));
    head.hidden = !token;
    show(name, formula(token));
    show(wrong, amounts ? [...amounts.keys()].map(objection).filter(Boolean).join(" ") : "");
    const hint = !token
      ? "Click elements to write a formula; click again to raise the amount."
      : !amounts && "Amounts of this one are set in the text; elements are added at its end.";
    const content = hint || [...amounts.keys()].join();
    if (content !== drawn) show(fields, hint ? el("p", { class: "builder-hint" }, hint) : [...amounts].map(amountField));
    else if (!hint) {
      [...fields.querySelectorAll("input")].forEach((input, i) => {
        const amount = [...amounts.values()][i];
        if (input.valueAsNumber !== amount) input.value = String(amount);
      });
    }
    drawn = content;
  }

  function update() {
    const { formulas, notes } = splitFormulas(text.value);
    const lines = [formulas.length ? count(formulas.length, "formula") : "No formula yet", pasteNote, ...notes];
    say(summary, lines.filter(Boolean).join(". ").replace(/\.\. /g, ". "));
    clear.hidden = !text.value;
    drawBuilder();
    changed();
  }

  text.addEventListener("input", () => {
    pasteNote = null;
    update();
  });
  for (const event of ["click", "keyup"]) text.addEventListener(event, drawBuilder);
  text.addEventListener("paste", (event) => {
    const column = pastedColumn(event.clipboardData?.getData("text/plain") ?? "");
    if (!column) return;
    event.preventDefault();
    text.setRangeText(column.text, text.selectionStart, text.selectionEnd, "end");
    pasteNote = column.note;
    update();
  });
  clear.addEventListener("click", () => {
    text.value = "";
    pasteNote = null;
    update();
    text.focus();
  });

  return {
    /** The formulas, and what their amounts count: "atomic" or "weight". */
    asked: () => ({ formulas: splitFormulas(text.value).formulas, amounts: weight.checked ? "weight" : "atomic" }),
    set(list, amounts = "atomic") {
      weight.checked = amounts === "weight";
      text.value = list.join("\n");
      text.setSelectionRange(text.value.length, text.value.length);
      pasteNote = null;
      update();
    },
    /** Put the cursor on a formula of the list, to correct it. */
    select(wanted) {
      const places = Array.from(text.value.matchAll(/[^\n\r,;\t]+/g), ({ index }) => tokenAt(text.value, index));
      const found = places.find((token) => splitFormulas(token.text).formulas[0] === wanted);
      text.focus();
      if (found) text.setSelectionRange(found.start, found.end);
      drawBuilder();
      text.scrollIntoView({ block: "center" });
    },
  };
}
