"""Elements by symbol or by the name of a group."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from crossprop.data.compositions import ELEMENTS
from crossprop.errors import ScreeningError

# fmt: off
_METALLOIDS = ("B", "Si", "Ge", "As", "Sb", "Te")
_NONMETALS = ("H", "C", "N", "O", "F", "P", "S", "Cl", "Se", "Br", "Kr", "I", "Xe")
_3D = ("Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn")
_4D = ("Y", "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd")
_5D = ("Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg")
_LANTHANIDES = ("La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu")

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "all": ELEMENTS,
    "metals": tuple(e for e in ELEMENTS if e not in _METALLOIDS + _NONMETALS),
    "metalloids": _METALLOIDS,
    "nonmetals": _NONMETALS,
    "alkali-metals": ("Li", "Na", "K", "Rb", "Cs"),
    "alkaline-earth-metals": ("Be", "Mg", "Ca", "Sr", "Ba"),
    "transition-metals": _3D + _4D + _5D,
    "3d-metals": _3D,
    "4d-metals": _4D,
    "5d-metals": _5D,
    "refractory-metals": ("Ti", "V", "Cr", "Zr", "Nb", "Mo", "Hf", "Ta", "W", "Re"),
    "platinum-group-metals": ("Ru", "Rh", "Pd", "Os", "Ir", "Pt"),
    "post-transition-metals": ("Al", "Ga", "In", "Sn", "Tl", "Pb", "Bi"),
    "rare-earths": ("Sc", "Y", *_LANTHANIDES),
    "lanthanides": _LANTHANIDES,
    "actinides": ("Ac", "Th", "Pa", "U", "Np", "Pu"),
    "pnictogens": ("N", "P", "As", "Sb", "Bi"),
    "chalcogens": ("O", "S", "Se", "Te"),
    "halogens": ("F", "Cl", "Br", "I"),
    "noble-gases": ("Kr", "Xe"),
    "radioactive": ("Tc", "Pm", "Ac", "Th", "Pa", "U", "Np", "Pu"),
}
# fmt: on
"""Groups that may stand for their elements, each without those that the networks do not know."""


def resolve_elements(names: str | Iterable[str]) -> tuple[str, ...]:
    """Read symbols and names of groups.

    Args:
        names: ``'Fe,Co,rare-earths'``, or the same as a list.

    Returns:
        The symbols, each once, by atomic number.

    Raises:
        ScreeningError: A name is neither an element that the networks know nor a group.
    """
    words = names.split(",") if isinstance(names, str) else [w for name in names for w in name.split(",")]
    found: set[str] = set()
    for word in (w.strip() for w in words):
        if not word:
            continue
        group = GROUPS.get(word.lower().replace("_", "-").replace(" ", "-"))
        if word not in ELEMENTS and group is None:
            same = [symbol for symbol in ELEMENTS if symbol.lower() == word.lower()]
            near = same or difflib.get_close_matches(word, (*GROUPS, *ELEMENTS), n=3, cutoff=0.5)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise ScreeningError(
                f"{word!r} is neither one of the 86 elements that the networks know nor a group.{hint} "
                f"Groups: {', '.join(GROUPS)}."
            )
        found |= {word} if word in ELEMENTS else set(group or ())
    return tuple(symbol for symbol in ELEMENTS if symbol in found)
