// The table as CSV (RFC 4180: comma, CRLF, quotes doubled), safe to open in a spreadsheet.

/** One field: texts that a spreadsheet would take for a formula get an apostrophe in front. */
export function field(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return Number.isFinite(value) ? String(value) : "";
  const text = /^[\s\u0000-\u001f]*[=+\-@＝＋－＠]|^[\t\r\n]/.test(String(value)) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) || text !== text.trim() ? `"${text.replaceAll('"', '""')}"` : text;
}

/** The whole answer: one row per formula, all columns of every property, the reason where one was refused. */
export function toCsv(answer, properties) {
  const head = [answer.amounts === "weight" ? "formula [weight %]" : "formula"];
  for (const { name, unit } of properties) {
    head.push(`${name} [${unit}]`, `${name} lower [${unit}]`, `${name} upper [${unit}]`);
    head.push(`${name} in domain`, `${name} note`, `${name} interval coverage`, `${name} model`);
  }
  head.push("error");
  const rows = answer.results.map((result) => [
    result.formula,
    ...properties.flatMap(({ name }) => {
      const cell = result.predictions?.[name];
      if (!cell) return Array(7).fill("");
      const model = answer.models[name] ?? {};
      const domain = cell.in_domain ? "yes" : "no";
      const made = `${model.model} version ${model.version} (${model.method})`;
      return [cell.value, cell.lower, cell.upper, domain, cell.note, model.coverage, made];
    }),
    result.error ? `${result.error.type}: ${result.error.message}` : "",
  ]);
  return [head, ...rows].map((row) => `${row.map(field).join(",")}\r\n`).join("");
}

/** Hand a text to the browser as a file. The mark in front tells spreadsheets that it is UTF-8. */
export function download(text, filename) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\uFEFF", text], { type: "text/csv;charset=utf-8" }));
  link.download = filename;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
