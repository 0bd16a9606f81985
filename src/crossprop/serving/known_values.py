"""The measured values that a model's data hold: what lies beyond them it can only guess."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

MARGIN: Final = 0.01
"""Share of the known range that a value may lie beyond it: many values stand at an end of it (a band gap of 0), and a
prediction that misses them by a hair is no extrapolation."""


@dataclass(frozen=True)
class KnownValues:
    """The values in a model's data, hold-out included.

    Attributes:
        least: The least of them, in the property's unit.
        most: The greatest.
        n: How many there are.
    """

    least: float
    most: float
    n: int

    @classmethod
    def of(cls, evidence: pd.DataFrame | None) -> Self | None:
        """Those of a model's evidence; ``None`` if it has none."""
        if evidence is None or evidence.empty:
            return None
        values = evidence["y_true"].to_numpy(float)
        return cls(float(values.min()), float(values.max()), len(values))

    def beyond(self, values: np.ndarray) -> NDArray[np.int8]:
        """For every value 1 if it lies above all known ones, -1 if it lies below all of them, otherwise 0."""
        room = MARGIN * (self.most - self.least)
        values = np.asarray(values, dtype=np.float64)
        above, below = values > self.most + room, values < self.least - room
        return above.astype(np.int8) - below.astype(np.int8)

    def notes(self, values: np.ndarray, unit: str | None = None) -> list[str]:
        """For every value a word on where it lies, or an empty text.

        Args:
            values: Predictions, shape (n,).
            unit: The property's.
        """
        after = f" {unit}" if unit and unit != "1" else ""
        said = {
            0: "",
            1: f"above all {self.n:,} known values, at most {self.most:.4g}{after}",
            -1: f"below all {self.n:,} known values, at least {self.least:.4g}{after}",
        }
        return [said[side] for side in self.beyond(values).tolist()]
