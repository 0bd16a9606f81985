"""Source networks for one's own data: a folder of pretrained networks that knows what it has seen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from crossprop.errors import ConfigError, ModelFormatError

FORMAT: Final = 1
NOTE_FILE: Final = "networks.json"
SEEN_FILE: Final = "compositions.npy"


@dataclass(frozen=True, eq=False)
class SourceNetworks:
    """A folder of networks that were pretrained together: the joint one, and perhaps ElemNets.

    Attributes:
        folder: Where they lie, each in a subfolder of its name.
        recipe: Name of the recipe that they were trained by.
        sources: Source properties that the joint network has learnt.
        elemnets: Those with an ElemNet of their own.
        seen: Code of every composition that they were trained or validated on, sorted, uint64.
    """

    folder: Path
    recipe: str
    sources: tuple[str, ...]
    elemnets: tuple[str, ...]
    seen: np.ndarray

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read what is known about a folder of source networks; the networks themselves are loaded when needed.

        Raises:
            ModelFormatError: The folder is none, incomplete, or of another format.
        """
        folder = Path(folder)
        try:
            note: dict[str, Any] = json.loads((folder / NOTE_FILE).read_text(encoding="utf-8"))
            seen = np.load(folder / SEEN_FILE, allow_pickle=False)
            if note["format"] != FORMAT:
                raise ValueError(f"format {note['format']!r}, this version reads {FORMAT}")
            made = cls(folder, note["recipe"], tuple(note["sources"]), tuple(note["elemnets"]), seen)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelFormatError(
                f"{folder} holds no source networks: {error}. Have them made with --sources auto, or with "
                "crossprop.workbench.pretraining.prepare_sources."
            ) from error
        return made

    def overlap(self, keys: Iterable[str]) -> np.ndarray:
        """Whether each composition was seen, shape (n,), bool. A rare collision of codes says yes for a no."""
        codes = composition_codes(keys)
        if not len(self.seen):
            return np.zeros(len(codes), dtype=bool)
        place = np.minimum(np.searchsorted(self.seen, codes), len(self.seen) - 1)
        found: np.ndarray = self.seen[place] == codes
        return found

    def check_free_of(self, keys: Iterable[str]) -> None:
        """Refuse to transfer to compositions that were learnt from.

        Raises:
            ConfigError: At least one was.
        """
        keys = list(keys)
        found = np.flatnonzero(self.overlap(keys))
        if len(found):
            raise ConfigError(
                f"The source networks in {self.folder} were trained on {len(set(found))} of the {len(keys)} rows' "
                f"compositions (the first: {keys[found[0]]}). Use --sources auto, which trains networks without them."
            )


def composition_codes(keys: Iterable[str]) -> np.ndarray:
    """A 64-bit code of every composition key, shape (n,), uint64."""
    codes = [int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little") for key in keys]
    return np.array(codes, dtype=np.uint64)
