// The periodic table as a grid of buttons: one tab stop, arrow keys move, Enter inserts, Backspace takes away.

import { el } from "./dom.js";
import { CELLS } from "./elements.js";

const ELEMENTS = CELLS.filter((cell) => cell.symbol);

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
  const rows = Array.from({ length: 1 + CELLS.at(-1).row }, () => el("div", { role: "row", class: "pt-row" }));
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

  /** The element above (-1) or below (1) in the same column, or the nearest one there. */
  function beyond(cell, down) {
    const ahead = ELEMENTS.filter((other) => (other.row - cell.row) * down > 0);
    const distance = (other) => Math.abs(other.row - cell.row) * 3 + Math.abs(other.column - cell.column);
    const column = ahead.filter((other) => other.column === cell.column);
    return (column.length ? column : ahead).sort((a, b) => distance(a) - distance(b))[0];
  }

  function press(event, cell) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const line = ELEMENTS.filter((other) => other.row === cell.row);
    const at = line.indexOf(cell);
    const sides = { ArrowLeft: line[at - 1], ArrowRight: line[at + 1], Home: line[0], End: line.at(-1) };
    const places = { ...sides, ArrowUp: beyond(cell, -1), ArrowDown: beyond(cell, 1) };
    if (event.key in places) focus(places[event.key]);
    else if (event.key === "Backspace" || event.key === "Delete") activate(cell, remove);
    else return;
    event.preventDefault();
  }

  grid.append(...rows);
  for (const cell of CELLS) {
    const box = el("div", { role: "gridcell", class: "pt-cell" });
    box.style.gridRow = cell.row < 7 ? cell.row + 1 : cell.row + 2;
    box.style.gridColumn = cell.column + 1;
    rows[cell.row].append(box);
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
