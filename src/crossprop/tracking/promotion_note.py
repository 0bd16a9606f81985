"""What a version's page in MLflow says about its promotion, for people: who, when, why and the gates' figures."""

from __future__ import annotations

from collections.abc import Mapping

_HEADING = "#### As champion"
_MOST_CHARACTERS = 4_900
"""MLflow keeps 5,000 of a description."""
_TITLES = {"promotion": "Promoted", "rollback": "Brought back"}


def with_note(
    description: str | None,
    *,
    action: str,
    by: str,
    at: str,
    why: str,
    former: str | None,
    tags: Mapping[str, str],
) -> str:
    """A version's description with the note of its last promotion or rollback; an earlier note is replaced.

    Args:
        description: What is there; what people wrote before the note is kept.
        action: ``"promotion"`` or ``"rollback"``.
        by: Who.
        at: When, ISO 8601.
        why: Why.
        former: Version that was champion before.
        tags: What the version keeps of it; the gates by ``gate.<key>``.
    """
    own = (description or "").split(_HEADING)[0].rstrip()
    forced = ", in spite of failed gates" if tags.get("forced") == "true" else ""
    before = f"Version {former} was champion before." if former else "It is the first champion."
    note = f"{_HEADING}\n\n{_TITLES.get(action, action)} {at} by {by}{forced}: {_plain(why)}. {before}"
    gates = [
        f"- {key.removeprefix('gate.')}: {_plain(text)}"
        for key, text in tags.items()
        if key.startswith("gate.")
    ]
    for shown in ("\n\n".join([note, "\n".join(gates)]) if gates else note, note):
        whole = f"{own}\n\n{shown}".strip()
        if len(whole) <= _MOST_CHARACTERS:
            return whole
    return description or ""


def _plain(text: str) -> str:
    """Text that markdown shows as it is."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>#|" else c for c in text)
