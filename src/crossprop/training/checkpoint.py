"""State of a long fit after its last complete epoch, so that a stopped fit goes on there."""

import json
import math
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from crossprop.io import atomic_file


@dataclass
class Progress:
    """What a fit knows beside the network: complete epochs, evaluations (epoch, loss, val_mae) and its best epoch."""

    epoch: int = 0
    points: list[tuple[int, float, float]] = field(default_factory=list)
    best: float = math.inf
    best_epoch: int = 0


class Checkpoint:
    """One file that holds weights, optimizer state and progress of a fit; ``key`` names what the fit depends on."""

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.key = key
        self.earlier = 0.0  # seconds that the stopped processes spent up to the state that was loaded
        self._begun = perf_counter()

    def save(self, model: Any, progress: Progress, best_weights: list[np.ndarray] | None) -> None:
        """Replace the file by the present state; a kill leaves the previous one (StoreError: not writable)."""
        arrays = {
            **_numbered("weights", model.get_weights()),
            **_numbered("optimizer", [np.asarray(variable) for variable in model.optimizer.variables]),
            **_numbered("best", best_weights or []),
        }
        text = json.dumps({"key": self.key, "seconds": self.seconds, **asdict(progress)})
        with atomic_file(self.path) as draft, draft.open("wb") as stream:
            np.savez(stream, allow_pickle=False, progress=np.array(text), **arrays)

    def load(self, model: Any) -> tuple[Progress, list[np.ndarray] | None] | None:
        """Put the saved state into the model; ``None`` where there is none, or that of another fit."""
        try:
            with np.load(self.path, allow_pickle=False) as file:
                values = json.loads(str(file["progress"]))
                if values.pop("key") != self.key:
                    return None
                arrays = {name: file[name] for name in file.files}
                self.earlier = values.pop("seconds")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        model.set_weights(_listed("weights", arrays))
        for variable, value in zip(model.optimizer.variables, _listed("optimizer", arrays), strict=True):
            variable.assign(value)
        values["points"] = [tuple(point) for point in values["points"]]
        return Progress(**values), _listed("best", arrays) or None

    @property
    def seconds(self) -> float:
        """What the fit took so far, in all processes."""
        return self.earlier + perf_counter() - self._begun

    def remove(self) -> None:
        """Delete the file of a finished fit."""
        self.path.unlink(missing_ok=True)


def _numbered(name: str, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{name}_{i:03d}": array for i, array in enumerate(arrays)}


def _listed(name: str, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [arrays[key] for key in sorted(arrays) if key.startswith(f"{name}_")]
