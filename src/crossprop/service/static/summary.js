// What came of a question, in a line above the table.

import { count } from "./format.js";

/**
 * The sentences.
 *
 * @param answer of the service.
 * @param {string[]} names properties that were answered.
 * @param {string[]} later properties that are still being loaded.
 * @param {string[]} never properties that were left out.
 */
export function summary(answer, names, later, never) {
  const failed = answer.results.filter((result) => result.error).length;
  const good = answer.results.length - failed;
  const cells = answer.results.flatMap((result) => Object.values(result.predictions ?? {}));
  const outside = cells.filter((cell) => !cell.in_domain).length;
  const noted = cells.filter((cell) => cell.in_domain && cell.note).length;
  return [
    `${count(good * names.length, "prediction")} for ${count(good, "formula")}.`,
    failed && `${count(failed, "formula")} could not be read.`,
    outside && `${count(outside, "prediction lies", "predictions lie")} outside of the training domain.`,
    noted && `${count(noted, "prediction inside carries", "predictions inside carry")} a warning.`,
    answer.amounts === "weight" && "Amounts were read as weight percent.",
    later.length && `Still loading, to follow: ${later.join(", ")}.`,
    never.length && `Left out, unavailable: ${never.join(", ")}.`,
  ]
    .filter(Boolean)
    .join(" ");
}
