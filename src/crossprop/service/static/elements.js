// The periodic table: where each element stands, and whether the models know it.

const ROWS = [
  "H . . . . . . . . . . . . . . . . He",
  "Li Be . . . . . . . . . . B C N O F Ne",
  "Na Mg . . . . . . . . . . Al Si P S Cl Ar",
  "K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr",
  "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe",
  "Cs Ba 57–71 Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn",
  "Fr Ra 89–103 Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og",
  ". . La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu .",
  ". . Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr .",
];

const NAMES = (
  "Hydrogen Helium Lithium Beryllium Boron Carbon Nitrogen Oxygen Fluorine Neon Sodium Magnesium Aluminium Silicon " +
  "Phosphorus Sulfur Chlorine Argon Potassium Calcium Scandium Titanium Vanadium Chromium Manganese Iron Cobalt " +
  "Nickel Copper Zinc Gallium Germanium Arsenic Selenium Bromine Krypton Rubidium Strontium Yttrium Zirconium " +
  "Niobium Molybdenum Technetium Ruthenium Rhodium Palladium Silver Cadmium Indium Tin Antimony Tellurium Iodine " +
  "Xenon Caesium Barium Lanthanum Cerium Praseodymium Neodymium Promethium Samarium Europium Gadolinium Terbium " +
  "Dysprosium Holmium Erbium Thulium Ytterbium Lutetium Hafnium Tantalum Tungsten Rhenium Osmium Iridium Platinum " +
  "Gold Mercury Thallium Lead Bismuth Polonium Astatine Radon Francium Radium Actinium Thorium Protactinium Uranium " +
  "Neptunium Plutonium Americium Curium Berkelium Californium Einsteinium Fermium Mendelevium Nobelium Lawrencium " +
  "Rutherfordium Dubnium Seaborgium Bohrium Hassium Meitnerium Darmstadtium Roentgenium Copernicium Nihonium " +
  "Flerovium Moscovium Livermorium Tennessine Oganesson"
).split(" ");

const SYMBOLS = ROWS.slice(0, 7).join(" ").replace("57–71", ROWS[7]).replace("89–103", ROWS[8]);
const ORDER = SYMBOLS.split(" ").filter((text) => text !== ".");

const NOBLE = new Set(["He", "Ne", "Ar"]);
const SHORT_LIVED = new Set(["Po", "At", "Rn", "Fr", "Ra"]);
const LAST_KNOWN = 94;

function reason(symbol, z) {
  if (NOBLE.has(symbol)) return "forms no compounds to learn from";
  if (SHORT_LIVED.has(symbol)) return "too short-lived for the data sets";
  return z > LAST_KNOWN ? "beyond plutonium, where the data sets end" : null;
}

function block(row, column) {
  if (row >= 7) return "f";
  if (column < 2 || (row === 0 && column === 17)) return "s";
  return column >= 12 ? "p" : "d";
}

/** Every cell: row and column from 0, and either `symbol, z, name, block, unknown` (null or why) or a `label`. */
export const CELLS = ROWS.flatMap((line, row) =>
  line.split(" ").flatMap((text, column) => {
    if (text === ".") return [];
    const z = ORDER.indexOf(text) + 1;
    if (!z) return [{ row, column, label: text }];
    return [{ row, column, symbol: text, z, name: NAMES[z - 1], block: block(row, column), unknown: reason(text, z) }];
  }),
);

/** Why a symbol cannot stand in a formula; null for elements that the models know. */
export function objection(symbol) {
  const z = ORDER.indexOf(symbol) + 1;
  if (!z) return `${symbol} is no element.`;
  const why = reason(symbol, z);
  return why && `${symbol} is not known to the models (${why}).`;
}
