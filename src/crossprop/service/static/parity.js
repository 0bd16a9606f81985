// The parity plot: what the model predicted for materials that it was not trained on, against their reference values.

import { el, svg } from "./dom.js";
import { count, holdoutError, number, significant, unit } from "./format.js";

const SIZE = { width: 340, height: 310, left: 52, right: 12, top: 12, bottom: 44 };
const SHEETS = 10;
const NEAR = 14;

/** The value below which a share of the numbers lies. */
export function quantile(numbers, share) {
  const sorted = numbers.filter(Number.isFinite).sort((a, b) => a - b);
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] : NaN;
}

/** Range that holds all but the outermost hundredth of the values on both sides. */
export function middle(numbers) {
  return [quantile(numbers, 0.01), quantile(numbers, 0.99)];
}

function ticks(low, high) {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const places = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) places.push(i * step);
  return { places, digit: Math.floor(Math.log10(step) + 1e-9) };
}

function frame(data, prediction) {
  const both = [...data.y_true, ...data.y_pred];
  let low = Math.min(quantile(both, 0.003), prediction.value);
  let high = Math.max(quantile(both, 0.997), prediction.value);
  if (!(high > low)) [low, high] = [low - 1, high + 1];
  const pad = (high - low) * 0.04;
  return [low - pad, high + pad];
}

/**
 * Draw the plot.
 *
 * @param data answer of /v1/properties/{name}/parity.
 * @param prediction `value, lower, upper` to be marked.
 * @param property whose hold-out it is, of which the data may be a part.
 */
export function parityPlot(data, prediction, property) {
  const total = property.holdout_rows;
  const [low, high] = frame(data, prediction);
  const { width, height, left, right, top, bottom } = SIZE;
  const x = (v) => left + ((v - low) / (high - low)) * (width - left - right);
  const y = (v) => height - bottom - ((v - low) / (high - low)) * (height - top - bottom);
  const clamp = (v) => Math.min(high, Math.max(low, v));
  const points = data.y_true.map((v, i) => ({ formula: data.formulas[i], t: v, p: data.y_pred[i], x: x(v), y: y(data.y_pred[i]) }));
  const inside = points.filter(({ t, p }) => t >= low && t <= high && p >= low && p <= high);

  const axis = [];
  const { places, digit } = ticks(low, high);
  for (const place of places) {
    axis.push(
      svg("line", { class: "grid", x1: x(place), x2: x(place), y1: top, y2: height - bottom }),
      svg("line", { class: "grid", x1: left, x2: width - right, y1: y(place), y2: y(place) }),
      svg("text", { x: x(place), y: height - bottom + 15, "text-anchor": "middle" }, number(place, digit)),
      svg("text", { x: left - 6, y: y(place) + 3.5, "text-anchor": "end" }, number(place, digit)),
    );
  }
  const name = unit(data.unit) ? ` (${unit(data.unit)})` : "";
  axis.push(
    svg("text", { class: "axis", x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, `reference${name}`),
    svg("text", { class: "axis", x: 0, y: 0, "text-anchor": "middle", transform: `translate(12 ${(top + height - bottom) / 2}) rotate(-90)` }, "predicted"),
  );

  // Points of one sheet do not shine through one another; those of several do, and show where many lie.
  const sheets = Array.from({ length: SHEETS }, (_, sheet) =>
    svg("path", {
      class: "points",
      d: inside
        .filter((_, i) => i % SHEETS === sheet)
        .map((point) => `M${point.x.toFixed(1)} ${point.y.toFixed(1)}h0`)
        .join(""),
    }),
  );

  const bounded = Number.isFinite(prediction.lower) && Number.isFinite(prediction.upper);
  const mark = [
    bounded &&
      svg("rect", {
        class: "band",
        x: left,
        width: width - left - right,
        y: y(clamp(prediction.upper)),
        height: Math.max(0, y(clamp(prediction.lower)) - y(clamp(prediction.upper))),
      }),
    svg("line", { class: "mark", x1: left, x2: width - right, y1: y(prediction.value), y2: y(prediction.value) }),
  ];
  const dot = svg("circle", { class: "hover", r: 5, cx: -20, cy: -20 });
  const told = el("p", { class: "plot-told" }, "Point at a material to see which it is.");
  const summary = `Hold-out of ${data.name}: ${count(Math.max(total, points.length), "material")}, ${holdoutError(property, { withUnit: true })}`;
  const drawing = svg(
    "svg",
    { class: "plot", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${summary}. The prediction is marked by a line.` },
    svg("rect", { class: "plot-area", x: left, y: top, width: width - left - right, height: height - top - bottom }),
    ...axis,
    ...mark.filter(Boolean),
    svg("line", { class: "diagonal", x1: x(low), y1: y(low), x2: x(high), y2: y(high) }),
    ...sheets,
    dot,
  );
  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect();
    const at = { x: ((event.clientX - box.left) / box.width) * width, y: ((event.clientY - box.top) / box.height) * height };
    const gap = (point) => Math.hypot(point.x - at.x, point.y - at.y);
    const best = inside.reduce((a, b) => (a && gap(a) <= gap(b) ? a : b), null);
    if (!best || gap(best) > NEAR) return;
    dot.setAttribute("cx", best.x);
    dot.setAttribute("cy", best.y);
    told.textContent = `${best.formula}: reference ${significant(best.t, 3)}, predicted ${significant(best.p, 3)} ${unit(data.unit)}`;
  });
  const outside = points.length - inside.length;
  return el(
    "figure",
    { class: "parity" },
    drawing,
    el(
      "figcaption",
      {},
      told,
      el("p", {}, `${total > points.length ? `${points.length.toLocaleString("en-US")} of ` : ""}${count(Math.max(total, points.length), "material")} of the hold-out; the line marks this prediction${bounded ? ", the band its interval" : ""}.`),
      outside ? el("p", {}, `${count(outside, "point lies", "points lie")} outside of the frame.`) : null,
    ),
  );
}
