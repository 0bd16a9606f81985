// From what a person types or pastes to a list of formulas. Whether they are formulas, the service decides.

const SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉";
const LIKE_FORMULA = /^\s*["']?(?:[([{]*[A-Z][a-z]?[)\]}\d.]*)+["']?\s*$/;
const TWO_ELEMENTS = /[A-Z][a-z]?[\d.()[\]{}]*[A-Z]/; // "S1" and "B2" may name a sample
const BETWEEN = /[\n\r;\t]|(?<!\d),|,(?!\d)/g; // a comma between digits is a decimal one
const HEADER = /^["']?(formula|formulas|formulae|composition|compositions|compound|material|pretty_formula)["']?$/i;

/**
 * The formulas in a text: one per line, or separated by commas and semicolons.
 *
 * @returns {{formulas: string[], notes: string[]}} and what was read otherwise than it stands there.
 */
export function splitFormulas(text) {
  const notes = [];
  let plain = text.replace(/[₀-₉]/g, (digit) => SUBSCRIPTS.indexOf(digit));
  if (plain !== text) notes.push("Subscripts were read as digits.");
  const points = plain.replace(/(\d),(?=\d)/g, "$1.");
  if (points !== plain) notes.push("A comma between digits was read as a decimal point.");
  plain = points;
  const formulas = plain
    .split(BETWEEN)
    .map((part) => part.trim().replace(/^(["'])(.*)\1$/, "$2").trim())
    .filter(Boolean);
  if (formulas.length && HEADER.test(formulas[0])) {
    notes.push(`The heading “${formulas.shift()}” was left out.`);
  }
  return { formulas, notes };
}

/**
 * The formula column of a table copied from a spreadsheet (cells separated by tabs).
 *
 * @returns {{text: string, note: string} | null} null where the text is no table of several columns.
 */
export function pastedColumn(text) {
  const rows = text.replace(/\r\n?/g, "\n").replace(/\n+$/, "").split("\n");
  if (!rows.every((row) => row.includes("\t"))) return null;
  const cells = rows.map((row) => row.split("\t"));
  const width = Math.max(...cells.map((row) => row.length));
  const score = (cell) => (LIKE_FORMULA.test(cell ?? "") ? (TWO_ELEMENTS.test(cell) ? 2 : 1) : 0);
  const scores = Array.from({ length: width }, (_, i) => cells.reduce((sum, row) => sum + score(row[i]), 0));
  const headed = scores.map((sum, i) => (HEADER.test((cells[0][i] ?? "").trim()) ? sum : 0));
  const best = headed.some(Boolean) ? headed.indexOf(Math.max(...headed)) : scores.indexOf(Math.max(...scores));
  if (scores[best] === 0) return null;
  const column = cells.map((row) => (row[best] ?? "").trim()).filter(Boolean);
  return { text: column.join("\n"), note: `Column ${best + 1} of ${width} holds the formulas; the others were left out.` };
}

/** The formula around a position of the text. */
export function tokenAt(text, position) {
  const start = 1 + ([...text.matchAll(BETWEEN)].findLast(({ index }) => index < position)?.index ?? -1);
  const end = start + text.slice(start).split(BETWEEN, 1)[0].length;
  return { start, end, text: text.slice(start, end) };
}

/** Amounts of a formula without brackets, in order; null for any other text. */
export function flatAmounts(text) {
  const formula = text.trim();
  if (!/^(?:[A-Z][a-z]?(?:\d+(?:\.\d+)?|\.\d+)?)*$/.test(formula)) return null;
  const amounts = new Map();
  for (const [, symbol, amount] of formula.matchAll(/([A-Z][a-z]?)([\d.]*)/g)) {
    amounts.set(symbol, (amounts.get(symbol) ?? 0) + (amount ? Number(amount) : 1));
  }
  return amounts;
}

/** The formula with these amounts. */
export function writeFormula(amounts) {
  return [...amounts].map(([symbol, n]) => (n === 1 ? symbol : `${symbol}${Number(n.toFixed(6))}`)).join("");
}
