"""The scale in which a target property is learnt."""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

Kind = Literal["identity", "arcsinh"]
MARGIN = 0.1  # share of the range of the training values by which predictions may leave it, in the transformed scale


@dataclass(frozen=True)
class TargetTransform:
    """A monotone map between a property's unit and the scale of learning, in which the inverse clips to low and high.

    ``arcsinh`` compresses both tails around the median, so that a few huge values do not dominate the loss;
    ``identity`` only centres and scales.
    """

    kind: Kind
    centre: float
    scale: float
    low: float
    high: float

    @classmethod
    def fit(cls, values: np.ndarray, kind: Kind = "arcsinh") -> Self:
        """Fit to training values, shape (n_samples,).

        The scale of ``arcsinh`` is 1.5 times the median absolute deviation, with the mean absolute deviation as a floor
        (0.3 of it), since a property that is mostly zero, such as a band gap, has a median deviation of zero. That of
        ``identity`` is the mean absolute deviation, so that no property of a joint network outweighs the others.
        """
        centre = float(np.median(values))
        deviation = np.abs(values - centre)
        mean = float(deviation.mean())
        scale = mean if kind == "identity" else 1.5 * max(float(np.median(deviation)), 0.3 * mean)
        raw = cls(kind, centre, scale or 1.0, -np.inf, np.inf).forward(values)
        room = MARGIN * float(raw.max() - raw.min())
        return cls(kind, centre, scale or 1.0, float(raw.min()) - room, float(raw.max()) + room)

    def forward(self, values: np.ndarray) -> np.ndarray:
        """From the property's unit to the scale of learning."""
        z = (np.asarray(values, float) - self.centre) / self.scale
        return np.arcsinh(z) if self.kind == "arcsinh" else z

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """From the scale of learning to the property's unit."""
        z = np.clip(np.asarray(values, float), self.low, self.high)
        return self.centre + self.scale * (np.sinh(z) if self.kind == "arcsinh" else z)
