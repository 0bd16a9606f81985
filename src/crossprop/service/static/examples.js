// Questions that a visitor can ask with one click. Properties that the service does not have are left out.

import { usable } from "./properties.js";

const EXAMPLES = [
  {
    title: "Hard ceramics",
    about: "Stiffness of carbides, borides and oxides",
    formulas: ["TiC", "WC", "B4C", "TiB2", "Al2O3", "SiC"],
    properties: ["bulkmoduluskv", "shearmodulusgv", "deltae"],
  },
  {
    title: "Solar absorbers",
    about: "Band gap and efficiency limit",
    formulas: ["CdTe", "GaAs", "CuInSe2", "Cu2ZnSnS4", "CsPbI3"],
    properties: ["mbj_bandgap", "optb88vdw_bandgap", "slme", "deltae"],
  },
  {
    title: "Thermoelectrics",
    about: "Known thermoelectric compounds",
    formulas: ["Bi2Te3", "PbTe", "SnSe", "Mg2Si", "CoSb3"],
    properties: ["nseebeck", "npowerfact", "optb88vdw_bandgap", "seebeck_n", "log_kappa_n"],
  },
  {
    title: "One mineral, every property",
    about: "Forsterite in all models",
    formulas: ["Mg2SiO4"],
    properties: null,
  },
];
const FIRST_CHOICE = ["deltae", "optb88vdw_bandgap", "bulkmoduluskv"];
const FALLBACK = 2;

/** The examples that this service can answer. */
export function examples(properties) {
  const free = properties.filter(usable).map((property) => property.name);
  const answered = EXAMPLES.map((example) => ({
    ...example,
    properties: example.properties === null ? free : example.properties.filter((name) => free.includes(name)),
  })).filter((example) => example.properties.length > 0);
  return answered.length > 1
    ? answered
    : [{ title: "A few oxides", about: "With the properties of this service", formulas: ["Fe2O3", "TiO2", "MgO"], properties: free.slice(0, FALLBACK) }];
}

/** What is chosen on the first visit. */
export function firstChoice(properties) {
  const free = properties.filter(usable).map((property) => property.name);
  const liked = FIRST_CHOICE.filter((name) => free.includes(name));
  return liked.length ? liked : free.slice(0, FALLBACK);
}
