"""Output on a terminal or into a pipe that is not UTF-8: plain ASCII in place of an encoding error."""

import io
import sys
import unicodedata
from typing import Final

_ASCII: Final = str.maketrans({
    "µ": "u", "μ": "u", "Ω": "Ohm", "\u2126": "Ohm", "Å": "A", "°": "deg ", "±": "+/-", "×": "x", "·": "*", "…": "...",
    "−": "-", "–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "→": "->", "≤": "<=", "≥": ">=", "²": "^2",
    "³": "^3", "⁻": "^-", "─": "-", "━": "-", "│": "|", "┃": "|", **dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼┏┓┗┛╇╡┡┩╞", "+"),
    **{block: str(i) for i, block in enumerate("▁▂▃▄▅▆▇█", start=1)},
})  # fmt: skip


class _AsciiStream(io.TextIOWrapper):
    """Writes plain ASCII; it says that it is UTF-8 (which ASCII is), so that no library wraps it again."""

    def write(self, text: str, /) -> int:
        plain = unicodedata.normalize("NFKD", text.translate(_ASCII)).encode("ascii", "replace").decode()
        super().write(text if text.isascii() else plain)
        return len(text)


def use_ascii_where_needed() -> None:
    """Let standard output and error write plain ASCII where their encoding does not hold every character."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper) or stream.encoding.lower().replace("_", "-").startswith("utf"):
            continue
        buffering = stream.line_buffering
        setattr(sys, name, _AsciiStream(stream.detach(), encoding="utf-8", line_buffering=buffering))
