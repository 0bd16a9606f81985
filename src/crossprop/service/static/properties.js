// The list of properties: grouped, searchable, one tab stop with arrow keys.

import { el, icon, say, show } from "./dom.js";
import { count, holdoutError, unit } from "./format.js";

/** Groups in their order, with rules that read only what the service says about a property. */
const GROUPS = [
  ["Energy and stability", (text, unitText) => /atom$/.test(unitText) || /hull|formation energy/.test(text)],
  ["Band gap and optics", (text) => /band ?gap|solar|spillage|topolog/.test(text)],
  ["Elasticity", (text, unitText) => unitText === "GPa" || unitText === "MPa" || /elastic|modul/.test(text)],
  ["Transport and thermoelectricity", (text) => /seebeck|power factor|effective mass|conductivity/.test(text)],
  ["Dielectric and piezoelectric", (text) => /dielectric|piezo/.test(text)],
  ["Vibrations", (text) => /phonon|infrared|mode\b/.test(text)],
  ["Magnetism", (text, unitText) => unitText === "µB" || /magnet/.test(text)],
  ["Other", () => false],
  ["Numerical settings", (text) => /k-point|cut-off/.test(text)],
];
const STATES = {
  loading: ["wait", "loading"],
  degraded: ["warn", "degraded"],
  unavailable: ["error", "unavailable"],
};

/** Heading under which a property stands. */
export function groupOf({ description, label, unit: unitText, name }) {
  const text = `${description || label || name}`.toLowerCase();
  return [GROUPS.at(-1), ...GROUPS].find(([, holds]) => holds(text, unitText ?? ""))?.[0] ?? "Other";
}

/** Name for people; the description says more. */
export function title(property) {
  return property.label || property.name;
}

/** Whether the service answers for it, be it after loading its model. */
export function usable(property) {
  return property.status !== "unavailable";
}

/**
 * Connect the list with its search field.
 *
 * @param {() => void} changed is called when another set is chosen.
 */
export function propertyList({ search, list, summary, clear, only }, changed) {
  let known = [];
  const chosen = new Set();
  let stop = null;

  const boxes = () => [...list.querySelectorAll("input")];

  function rove(box) {
    stop = box?.value ?? null;
    for (const other of boxes()) other.tabIndex = other === box ? 0 : -1;
  }

  function item(property) {
    const state = STATES[property.status];
    const about = [
      el("span", { class: "name" }, property.name),
      unit(property.unit) && el("span", {}, unit(property.unit)),
      holdoutError(property) && el("span", {}, holdoutError(property)),
      state && el("span", { class: `state state-${property.status}` }, icon(state[0]), state[1]),
    ];
    return el(
      "label",
      { class: "property", title: property.status_note || property.description },
      el("input", {
        type: "checkbox",
        value: property.name,
        checked: chosen.has(property.name),
        disabled: !usable(property) && !chosen.has(property.name),
        tabindex: -1,
        onchange: ({ target }) => (target.checked ? chosen.add(target.value) : chosen.delete(target.value)),
      }),
      el("span", { class: "property-title" }, title(property)),
      el("span", { class: "property-about" }, ...about.filter(Boolean)),
      property.status_note && el("span", { class: "property-note" }, property.status_note),
    );
  }

  function matching() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    return known.filter((property) => {
      if (only.checked && !chosen.has(property.name)) return false;
      const text = [property.name, property.label, property.description, property.unit, groupOf(property), property.model]
        .join(" ")
        .toLowerCase();
      return words.every((word) => text.includes(word));
    });
  }

  function group(name, members) {
    const free = members.filter(usable).map((property) => property.name);
    const all = () => free.length > 0 && free.every((one) => chosen.has(one));
    const button = el("button", { type: "button", class: "group-all", disabled: free.length === 0, onclick: toggle });
    function toggle() {
      const change = all() ? (one) => chosen.delete(one) : (one) => chosen.add(one);
      free.forEach(change);
      draw();
      changed();
      list.querySelector(`[data-group="${CSS.escape(name)}"] .group-all`)?.focus();
    }
    function label() {
      button.textContent = all() ? "none" : "all";
      button.setAttribute("aria-label", `Choose ${button.textContent} of ${name}`);
    }
    label();
    return el(
      "fieldset",
      { class: "group", "data-group": name, onchange: label },
      el("legend", { class: "visually-hidden" }, name),
      el("div", { class: "group-head" }, el("span", { "aria-hidden": "true" }, name), button),
      ...members.map(item),
    );
  }

  function draw() {
    const top = list.scrollTop;
    const held = list.contains(document.activeElement) ? document.activeElement.value : null;
    const found = matching();
    const groups = GROUPS.map(([name]) => [name, found.filter((property) => groupOf(property) === name)]);
    show(
      list,
      ...groups.filter(([, members]) => members.length).map(([name, members]) => group(name, members)),
      found.length ? null : el("p", { class: "nothing" }, nothing()),
    );
    rove(boxes().find((box) => box.value === stop && !box.disabled) ?? boxes().find((box) => !box.disabled));
    list.scrollTop = top;
    if (held) boxes().find((box) => box.value === held)?.focus({ preventScroll: true });
    tell();
  }

  function nothing() {
    if (!known.length) return "No model is served yet. Promote one: crossprop promote <target>.";
    return only.checked && !search.value ? "Nothing is chosen yet." : `No property matches “${search.value.trim()}”.`;
  }

  function tell() {
    say(summary, `${known.filter((property) => chosen.has(property.name)).length} of ${known.length} chosen`);
    clear.hidden = chosen.size === 0;
  }

  list.addEventListener("change", (event) => {
    rove(event.target);
    tell();
    changed();
  });
  list.addEventListener("focusin", (event) => event.target.matches("input") && rove(event.target));
  list.addEventListener("keydown", (event) => {
    if (!event.target.matches("input")) return;
    const free = boxes().filter((box) => !box.disabled);
    const at = free.indexOf(event.target);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: free.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    if (to < 0) search.focus();
    else free[Math.min(to, free.length - 1)].focus();
  });
  search.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown") return;
    event.preventDefault();
    boxes().find((box) => !box.disabled)?.focus();
  });
  search.addEventListener("input", draw);
  only.addEventListener("change", draw);
  clear.addEventListener("click", () => {
    chosen.clear();
    only.checked = false;
    draw();
    changed();
    search.focus();
  });

  return {
    /** Names that are chosen, in the list's order. */
    chosen: () => known.filter((property) => chosen.has(property.name)).map((property) => property.name),
    get: (name) => known.find((property) => property.name === name),
    all: () => known,
    set(names) {
      chosen.clear();
      for (const name of names) chosen.add(name);
      draw();
      changed();
    },
    update(properties) {
      known = properties;
      search.placeholder = `Search ${count(properties.length, "property", "properties")}`;
      draw();
    },
  };
}
