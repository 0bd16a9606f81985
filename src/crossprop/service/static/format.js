// Numbers with as many digits as their interval supports, units and formulas as a reader writes them.

import { el } from "./dom.js";

const MINUS = "\u2212";
const TOP = { 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹", "-": "⁻" };
const superscript = (text) => [...String(text)].map((c) => TOP[c] ?? c).join("");

/** Power of ten of the last digit worth showing: two significant digits of the uncertainty, else four of the value. */
export function lastDigit(value, uncertainty) {
  const scale = uncertainty > 0 && Number.isFinite(uncertainty) ? uncertainty : Math.abs(value) / 100;
  return scale > 0 ? Math.floor(Math.log10(scale)) - 1 : -2;
}

/** A number rounded to the power of ten `digit`, thousands separated, with a true minus sign. */
export function number(value, digit = lastDigit(value, NaN)) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size === 0 && digit < -6) return "0";
  if (size >= 1e7 || (size > 0 && digit < -6)) {
    const places = Math.min(6, Math.max(0, Math.floor(Math.log10(size)) - digit));
    const [mantissa, power] = value.toExponential(places).split("e");
    return `${mantissa.replace("-", MINUS)} × 10${superscript(Number(power))}`;
  }
  const rounded = digit > 0 ? Math.round(value / 10 ** digit) * 10 ** digit : value;
  const decimals = Math.max(0, -digit);
  const text = Math.abs(rounded).toLocaleString("en-US", {
    minimumFractionDigits: decimals,
    maximumFractionDigits: decimals,
  });
  return (rounded < 0 && /[1-9]/.test(text) ? MINUS : "") + text;
}

/** A value to so many significant digits, for figures without an interval (an MAE, a distance). */
export function significant(value, digits = 2) {
  if (!Number.isFinite(value) || value === 0) return number(value, 0);
  return number(value, Math.floor(Math.log10(Math.abs(value))) - digits + 1);
}

/** Texts of a prediction: the value, what is written behind it, and the interval's ends. */
export function prediction({ value, lower, upper }) {
  const bounded = Number.isFinite(lower) && Number.isFinite(upper);
  const half = (upper - lower) / 2;
  const digit = lastDigit(value, bounded ? half : NaN);
  const even = bounded && Math.abs(upper + lower - 2 * value) <= 0.1 * half;
  return {
    value: number(value, digit),
    behind: !bounded ? "" : even ? `± ${number(half, digit)}` : `[${number(lower, digit)}, ${number(upper, digit)}]`,
    lower: bounded ? number(lower, digit) : "",
    upper: bounded ? number(upper, digit) : "",
    bounded,
  };
}

/** How far predictions of the hold-out were from its values: the same words wherever they stand. */
export function holdoutError({ holdout_mae: mae, holdout_r2: r2, unit: of }, { withUnit = false } = {}) {
  if (!Number.isFinite(mae)) return "";
  const words = `MAE ${significant(mae, 3)}${withUnit && unit(of) ? ` ${unit(of)}` : ""}`;
  return Number.isFinite(r2) ? `${words}, R² ${number(r2, -2)}` : words;
}

/** A unit in words of the page: none for 1, powers of ten written as such. */
export function unit(text) {
  if (!text || text === "1") return "";
  return text.replace(/^1e([+-]?\d+)/, (_, power) => `10${superscript(String(Number(power)))}`);
}

/** A unit where one must be named. */
export function unitName(text) {
  return unit(text) || "dimensionless";
}

/** A share as a percentage. */
export function percent(share) {
  const value = share * 100;
  return `${Number.isInteger(Math.round(value * 10) / 10) ? Math.round(value) : value.toFixed(1)} %`;
}

/** A formula with its amounts as subscripts. */
export function formula(text) {
  const parts = String(text).split(/((?<=[A-Za-z)\]}])[\d.]+)/);
  return el("span", { class: "formula" }, ...parts.map((part, i) => (i % 2 ? el("sub", {}, part) : part)));
}

/** "1 formula", "3 formulas". */
export function count(n, one, many = `${one}s`) {
  return `${n.toLocaleString("en-US")} ${n === 1 ? one : many}`;
}

/** How a method is called in a sentence. */
export function method(name) {
  const words = {
    base: "mean of the training set",
    ml: "regressor",
    dl: "network from scratch",
    ml_featextr: "regressor on transferred features",
    dl_featextr: "network on transferred features",
    finetune: "fine-tuned network",
    modfinetune: "fine-tuned network, new head",
    freezing: "transferred network, partly frozen",
    plain_baseline: "extra trees, not tuned",
    plain_median: "extra trees, not tuned, median",
    boost: "boosted trees",
    boost_sources: "boosted trees on predicted sources",
    resnet: "residual network",
    resnet_finetune: "fine-tuned residual network",
    blend: "blend of methods",
  };
  return words[name] ?? name;
}
