"""One version of one model as the service holds it, and the property that it answers for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossprop.data.compositions import ELEMENTS
from crossprop.errors import CrosspropError, ModelFormatError
from crossprop.service.cards import Card
from crossprop.service.loading import Load
from crossprop.serving.served import ServedModel

if TYPE_CHECKING:
    from crossprop.tracking.lookup import VersionInfo


@dataclass(frozen=True)
class Status:
    """How a property stands: ``ready``, ``loading``, ``degraded`` or ``unavailable``, and why."""

    word: str
    note: str = ""


@dataclass(eq=False)
class Edition:
    """One version of one model, in memory or not.

    Attributes:
        info: The version.
        card: What is told of it.
        folder: Local folder of its files, once they are there.
        model: The loaded model; ``None`` while it is not in memory.
        size: Bytes that the model takes, roughly.
        used: When it was last asked for; 0 if never.
        fault: Why it could not be loaded.
        attempts: How often that was tried in vain.
        retry_at: When to try again.
        loading: The load that waits or is going on.
    """

    info: VersionInfo
    card: Card
    folder: Path | None = None
    model: ServedModel | None = None
    size: int = 0
    used: float = 0.0
    fault: str = ""
    attempts: int = 0
    retry_at: float = 0.0
    loading: Load[Any] | None = None

    def is_of(self, info: VersionInfo) -> bool:
        """Whether it is this very version (a number may be given again in a registry that was made anew)."""
        mine = self.info
        return (mine.name, mine.version, mine.run_id, mine.source) == (
            info.name,
            info.version,
            info.run_id,
            info.source,
        )

    def unload(self) -> None:
        """Let go of the model; it is loaded again when it is asked for."""
        self.model, self.size = None, 0


@dataclass(eq=False)
class Slot:
    """A property: the edition that answers, and the one that is to take its place.

    Attributes:
        model: Registered model.
        target: Its target.
        wanted: What should answer; the same object as ``served`` when all is well.
        served: What answers; ``None`` until something was found to be loadable.
    """

    model: str
    target: str
    wanted: Edition
    served: Edition | None = None

    @property
    def shown(self) -> Edition:
        """The edition that is told of."""
        return self.served or self.wanted

    @property
    def status(self) -> Status:
        """How the property stands."""
        served, wanted = self.served, self.wanted
        if served is None:
            return Status("unavailable", wanted.fault) if wanted.fault else Status("loading")
        if served is wanted:
            if wanted.fault:
                return Status("unavailable", wanted.fault)
            if wanted.model is not None:
                return Status("ready")
            if wanted.loading is not None:
                return Status("loading")
            return Status("ready", "not in memory: the first answer takes a few seconds")
        if not wanted.fault:
            return Status("ready", f"version {wanted.info.version} is being loaded")
        return Status(
            "degraded",
            f"version {wanted.info.version} cannot be loaded, so version {served.info.version} goes on answering: "
            f"{wanted.fault}",
        )


def check_model(model: ServedModel, info: VersionInfo) -> ServedModel:
    """Refuse a model of something else, or one that does not answer.

    Raises:
        ModelFormatError: It is another target's, of other elements, or gives no number for a simple composition.
    """
    if model.info.get("target") != info.target:
        raise ModelFormatError(
            f"The files of {info.name}, version {info.version}, are a model of {model.info.get('target')!r}. "
            "Register it again."
        )
    fractions = np.zeros((2, len(ELEMENTS)))
    fractions[0, [ELEMENTS.index("Na"), ELEMENTS.index("Cl")]] = 0.5
    fractions[1, [ELEMENTS.index("Fe"), ELEMENTS.index("O")]] = 0.4, 0.6
    if not np.isfinite(model.predict(fractions).value).all():
        raise ModelFormatError(f"{info.name}, version {info.version}, gives no numbers. Do not use it.")
    return model


def fault_of(error: Exception) -> str:
    """Why a model could not be loaded, and what to do: what is no refusal of ours says neither by itself."""
    if isinstance(error, CrosspropError):
        return str(error)[:500]
    told = f"{type(error).__name__}: {error}"[:300]
    return (
        f"its files, or their compiled form in the cache, cannot be read ({told}). Register the model again."
    )


def size_of(model: ServedModel | None, folder: Path) -> int:
    """Bytes that a model takes, roughly: what it says itself, or else the size of its files."""
    said = getattr(getattr(model, "predictor", None), "n_bytes", None)
    return int(said) if said else sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
