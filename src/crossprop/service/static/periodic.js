// The periodic table as a grid of buttons: one tab stop, arrow keys move, Enter inserts, Backspace takes away.

import { el } from "./dom.js";
import { CELLS } from "./elements.js";

const ELEMENTS = CELLS.filter((cell) => cell.symbol);
const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

function describe(cell) {
  return cell.unknown ? `${cell.name} is not known to the models (${cell.unknown})` : cell.name;
}

/**
 * Fill `grid` with the elements.
 *
 * @param {{insert: (symbol: string) => void, remove: (symbol: string) => void}} actions for known elements.
 * @returns {{mark: (symbols: Iterable<string>) => void}} shows which elements the current formula holds.
 */
export function periodicTable(grid, caption, { insert, remove }) {
  const buttons = new Map();
  const rows = new Map();
  const rest = caption.textContent;
  let stop = ELEMENTS[0];

  function activate(cell, action) {
    if (cell.unknown) caption.textContent = `${describe(cell)}.`;
    else action(cell.symbol);
  }

  function focus(cell) {
    if (!cell) return;
    buttons.get(stop.symbol).tabIndex = -1;
    stop = cell;
    buttons.get(cell.symbol).tabIndex = 0;
    buttons.get(cell.symbol).focus();
  }

  function next(cell, [down, right]) {
    if (right) {
      const line = ELEMENTS.filter((other) => other.row === cell.row && (other.column - cell.column) * right > 0);
      return line.sort((a, b) => (a.column - b.column) * right)[0];
    }
    const ahead = ELEMENTS.filter((other) => (other.row - cell.row) * down > 0);
    const distance = (other) => Math.abs(other.row - cell.row) * 3 + Math.abs(other.column - cell.column);
    const column = ahead.filter((other) => other.column === cell.column);
    return (column.length ? column : ahead).sort((a, b) => distance(a) - distance(b))[0];
  }

  function press(event, cell) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const line = ELEMENTS.filter((other) => other.row === cell.row);
    if (STEPS[event.key]) focus(next(cell, STEPS[event.key]));
    else if (event.key === "Home") focus(line[0]);
    else if (event.key === "End") focus(line[line.length - 1]);
    else if (event.key === "Backspace" || event.key === "Delete") activate(cell, remove);
    else return;
    event.preventDefault();
  }

  for (const cell of CELLS) {
    if (!rows.has(cell.row)) {
      rows.set(cell.row, el("div", { role: "row", class: "pt-row" }));
      grid.append(rows.get(cell.row));
    }
    const box = el("div", { role: "gridcell", class: "pt-cell" });
    box.style.gridRow = cell.row < 7 ? cell.row + 1 : cell.row + 2;
    box.style.gridColumn = cell.column + 1;
    rows.get(cell.row).append(box);
    if (cell.label) {
      box.append(el("span", { class: "pt-label" }, cell.label));
      continue;
    }
    const button = el(
      "button",
      {
        type: "button",
        class: `pt-element pt-${cell.block}`,
        "data-symbol": cell.symbol,
        tabindex: cell === stop ? 0 : -1,
        "aria-label": `${cell.z} ${cell.symbol}, ${describe(cell)}`,
        "aria-disabled": cell.unknown ? "true" : null,
        "aria-pressed": cell.unknown ? null : "false",
        title: describe(cell),
        onclick: () => {
          focus(cell);
          activate(cell, insert);
        },
        onkeydown: (event) => press(event, cell),
        onfocus: () => (caption.textContent = `${describe(cell)}.`),
        onblur: () => (caption.textContent = rest),
        onpointerenter: () => (caption.textContent = `${describe(cell)}.`),
        onpointerleave: () => (caption.textContent = rest),
      },
      el("span", { class: "pt-z" }, String(cell.z)),
      el("span", { class: "pt-symbol" }, cell.symbol),
    );
    buttons.set(cell.symbol, button);
    box.append(button);
  }

  return {
    mark(symbols) {
      const held = new Set(symbols);
      for (const cell of ELEMENTS) {
        if (!cell.unknown) buttons.get(cell.symbol).setAttribute("aria-pressed", String(held.has(cell.symbol)));
      }
    },
  };
}
