// Small bars that show where a value and its interval lie on the scale of their property.

import { svg } from "./dom.js";
import { middle } from "./parity.js";

/** Scale of a property without a hold-out: everything that the answer holds. */
export function scaleOfAnswer(cells) {
  const ends = cells.flatMap((cell) => [cell.value, cell.lower, cell.upper]).filter(Number.isFinite);
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const pad = (high - low || 1) * 0.06;
  return [low - pad, high + pad];
}

/** Scale of a property: the middle 98 % of its hold-out, widened to the values shown. */
export function scaleOfHoldout(parity, cells) {
  const [low, high] = middle(parity.y_true);
  const values = cells.map((cell) => cell.value).filter(Number.isFinite);
  return [Math.min(low, ...values), Math.max(high, ...values)];
}

/** Draw a bar into `node`: the interval as a band, the value as a dot. */
export function drawBar(node, { value, lower, upper }, [low, high]) {
  const at = (v) => 3 + 94 * Math.min(1, Math.max(0, (v - low) / (high - low || 1)));
  const end = (v) => (v < low ? 0 : v > high ? 100 : at(v));
  const bounded = Number.isFinite(lower) && Number.isFinite(upper);
  const [from, to] = bounded ? [end(lower), end(upper)] : [0, 0];
  node.replaceChildren(
    svg(
      "svg",
      { class: "bar", "aria-hidden": "true", focusable: "false" },
      svg("rect", { class: "bar-track", x: "0%", width: "100%", y: 5, height: 2, rx: 1 }),
      bounded ? svg("rect", { class: "bar-range", x: `${from}%`, width: `${Math.max(1, to - from)}%`, y: 3, height: 6, rx: 3 }) : "",
      svg("circle", { class: "bar-value", cx: `${at(value)}%`, cy: 6, r: 4 }),
    ),
  );
}
