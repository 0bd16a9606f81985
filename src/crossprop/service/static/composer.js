// The list of compositions: a text, and beside it the formula under the cursor with its elements and amounts.

import { el, quiet, show } from "./dom.js";
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
  const table = periodicTable(grid, caption, { insert, remove });
  let pasteNote = null;

  const current = () => tokenAt(text.value, text.selectionStart ?? text.value.length);

  function put(token, formulaText) {
    text.setRangeText(formulaText, token.start, token.end, "end");
    pasteNote = null;
    update();
  }

  function insert(symbol) {
    const token = current();
    const amounts = flatAmounts(token.text);
    if (!amounts) return put(token, token.text.trimEnd() + symbol);
    amounts.set(symbol, (amounts.get(symbol) ?? 0) + 1);
    return put(token, writeFormula(amounts));
  }

  function remove(symbol) {
    const token = current();
    const amounts = flatAmounts(token.text);
    if (!amounts?.has(symbol)) return;
    if (amounts.get(symbol) > 1) amounts.set(symbol, amounts.get(symbol) - 1);
    else amounts.delete(symbol);
    put(token, writeFormula(amounts));
  }

  function setAmount(symbol, value) {
    const token = current();
    const amounts = flatAmounts(token.text);
    if (!amounts) return;
    if (value > 0) amounts.set(symbol, value);
    else amounts.delete(symbol);
    put(token, writeFormula(amounts));
  }

  function nextFormula() {
    const { end } = current();
    const gap = text.value.slice(0, end).trim() && !/\n$/.test(text.value.slice(0, end)) ? "\n" : "";
    text.setRangeText(gap, end, end, "end");
    update();
  }

  function amountField(symbol, amount) {
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
        onchange: (event) => {
          setAmount(symbol, event.target.valueAsNumber);
          builder.querySelector(`[data-symbol="${symbol}"] input`)?.focus();
        },
      }),
    );
  }

  function drawBuilder() {
    const token = current().text.trim();
    const amounts = flatAmounts(token);
    table.mark(amounts ? amounts.keys() : [...token.matchAll(/[A-Z][a-z]?/g)].map(([symbol]) => symbol));
    if (!token) {
      show(builder, el("p", { class: "builder-hint" }, "Click elements to write a formula; click again to raise the amount."));
      return;
    }
    const fields = amounts
      ? [...amounts].map(([symbol, amount]) => {
          const item = amountField(symbol, amount);
          item.dataset.symbol = symbol;
          return item;
        })
      : [el("p", { class: "builder-hint" }, "Amounts of this one are set in the text; elements are added at its end.")];
    show(
      builder,
      el(
        "div",
        { class: "builder-head" },
        el("span", { class: "builder-formula" }, formula(token)),
        el("button", { type: "button", class: "small", onclick: nextFormula }, "Next formula"),
      ),
      el("div", { class: "amounts" }, ...fields),
      el("p", { class: "builder-objection" }, amounts ? [...amounts.keys()].map(objection).filter(Boolean).join(" ") : ""),
    );
  }

  function update() {
    const { formulas, notes } = splitFormulas(text.value);
    const lines = [formulas.length ? count(formulas.length, "formula") : "No formula yet", pasteNote, ...notes];
    summary.textContent = lines.filter(Boolean).join(". ").replace(/\.\. /g, ". ");
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
      const start = text.value.indexOf(wanted);
      text.focus();
      if (start >= 0) text.setSelectionRange(start, start + wanted.length);
      drawBuilder();
      text.scrollIntoView({ block: "center" });
    },
  };
}
