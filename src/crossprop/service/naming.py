"""Names of properties: what is said to a caller whose name is none of them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from crossprop.service.editions import Slot
from crossprop.service.refusals import RefusalError, UnavailableError, UnknownNameError
from crossprop.service.shelf import Shelf

_SHOWN = 200
_NEAR = 5


def unknown_property(name: str, shelf: Shelf) -> RefusalError:
    """The refusal of a property that is not served, with those that may be meant.

    Args:
        name: As the caller wrote it.
        shelf: What is served; while that is nothing at all, the caller is told to come back.
    """
    if not shelf.slots:
        return UnavailableError(
            "No property is served yet: models are still being looked for, or none was promoted "
            "('crossprop promote <target>'). See /readyz, and ask again in a few seconds.",
            retry_after=2,
        )
    same = [model for model, slot in shelf.slots.items() if slot.target == name]
    if same:
        return UnknownNameError(f"{name!r} is a target of several studies: name one of {', '.join(same)}.")
    near = similar(name, shelf.names)
    listed = (
        f"Did you mean {', '.join(near)}?"
        if near
        else f"There are: {', '.join(sorted(shelf.names)[:_NEAR])}."
    )
    more = f" All {len(shelf.names)} are listed under /v1/properties." if len(shelf.names) > 1 else ""
    return UnknownNameError(f"{name[:_SHOWN]!r} is no property that is served. {listed}{more}")


def similar(name: str, names: Mapping[str, Slot]) -> list[str]:
    """Served names that may be meant: those that hold what was written, those so described, those like it.

    Args:
        name: What was written.
        names: Slots by name.
    """
    asked = _plain(name)
    if not asked:
        return []
    plain = {known: _plain(known) for known in sorted(names)}
    holding = [known for known, text in plain.items() if asked in text or (len(text) > 3 and text in asked)]
    described = [known for known in plain if asked in _plain(names[known].shown.card.description)]
    close = set(difflib.get_close_matches(asked[:_SHOWN], plain.values(), n=_NEAR))
    like = [known for known, text in plain.items() if text in close]
    return list(dict.fromkeys([*holding, *like, *described]))[:_NEAR]


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
