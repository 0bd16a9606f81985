// What is shown, as the part of the address behind the #: a link that can be shared.

/** Longest link that mail programs and chats pass on whole. */
export const LONGEST_LINK = 8000;

/** Formulas, what their amounts count, and properties as text behind the #. */
export function encode({ formulas, amounts, properties }) {
  const part = (list) => list.map((item) => encodeURIComponent(item)).join(",");
  return `#formulas=${part(formulas)}&properties=${part(properties)}${amounts === "weight" ? "&amounts=weight" : ""}`;
}

/** What a text behind the # asks for; null where it asks for nothing. */
export function decode(hash) {
  const fields = new URLSearchParams(hash.replace(/^#/, "").replaceAll("+", "%2B"));
  const list = (name) => (fields.get(name) ?? "").split(",").filter(Boolean);
  const state = { formulas: list("formulas"), properties: list("properties"), amounts: fields.get("amounts") };
  return state.formulas.length || state.properties.length ? state : null;
}
