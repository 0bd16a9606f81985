"""Source networks that have seen none of one's own compositions: found in a cache, or trained once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from crossprop.data.compositions import composition_keys, fraction_matrix
from crossprop.errors import ConfigError, ModelFormatError, PretrainingError
from crossprop.experiments.fingerprint import digest
from crossprop.experiments.progress import Print, show
from crossprop.io import usable_cores
from crossprop.methods import DEFAULT_SEED

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
                "crossprop.estimator.pretrained.prepare_sources."
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


CACHE_VARIABLE: Final = "CROSSPROP_CACHE"
JOB_FILE: Final = "job.json"
_JOB: Final = ".job"
SHARE_OF_MINUTES: Final = 0.6
"""Most of the time that pretraining may take when a number of minutes is given."""

PUBLIC: Final = (
    "formation_energy", "band_gap", "energy_per_atom", "volume_per_atom", "stability", "magnetic_moment",
)  # fmt: skip
EMBEDDED: Final = ("seebeck_p",)
"""Sources that need no network: they come with an installed package."""

FALLBACK: Final = "embedded"
"""What the recipe is called where the public sources could not be had; its networks are used, but not for long."""


@dataclass(frozen=True)
class SourceRecipe:
    """How much goes into source networks.

    Attributes:
        name: Name of the recipe.
        sources: What the joint network learns.
        elemnets: Sources with an ElemNet of their own, which the paper's transfer methods need.
        epochs: Passes over the compositions.
        rows: Most compositions of a source; the same ones of all sources as far as possible. ``None`` for all.
        minutes: Wall time on four cores, downloads not counted.
    """

    name: str
    sources: tuple[str, ...]
    elemnets: tuple[str, ...]
    epochs: int
    rows: int | None
    minutes: float

    def minutes_here(self) -> float:
        """Wall time on the cores of this machine."""
        return self.minutes * (4 / usable_cores()) ** 0.8


RECIPES: Final = (
    SourceRecipe("sketch", PUBLIC, (), 10, 50_000, 2.5),
    SourceRecipe("quick", PUBLIC, ("formation_energy",), 10, None, 8.0),
    SourceRecipe("full", PUBLIC, ("formation_energy", "band_gap"), 20, None, 24.0),
)
"""From the least to the most."""


def cache_folder() -> Path:
    """Where networks are kept between fits: ``CROSSPROP_CACHE``, or ``crossprop`` in the user's cache folder."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crossprop"


def affordable(minutes: float | None) -> SourceRecipe | None:
    """The largest recipe that takes no more than its share of the minutes, or ``None``; with no limit, the largest."""
    fitting = [r for r in RECIPES if minutes is None or r.minutes_here() <= SHARE_OF_MINUTES * minutes]
    return fitting[-1] if fitting else None


def find_networks(keys: Iterable[str], cache: Path | None = None) -> SourceNetworks | None:
    """The cached networks of the largest recipe that have seen none of the compositions, or ``None``."""
    keys = list(keys)
    free = []
    for note in sorted(((cache or cache_folder()) / "networks").glob(f"*/{NOTE_FILE}")):
        try:
            networks = SourceNetworks.load(note.parent)
        except ModelFormatError:
            continue
        if _rank(networks.recipe) >= 0 and not networks.overlap(keys).any():
            free.append(networks)
    return max(free, key=lambda found: (_rank(found.recipe), len(found.seen)), default=None)


def prepare_sources(
    formulas: Iterable[str],
    recipe: str | SourceRecipe = "sketch",
    *,
    cache: Path | None = None,
    workers: int = 0,
    seed: int = DEFAULT_SEED,
    write: Print = show,
) -> SourceNetworks:
    """Source networks that have seen none of these formulas: the cached ones, or newly trained.

    For a cross-validation give all formulas, and hand the folder to every fit (``sources=networks.folder``): the
    networks are then trained once, and know none of the held-out compositions.

    Args:
        formulas: All formulas that will be learnt from or measured on.
        recipe: Name of one of :data:`RECIPES`, or a recipe of one's own.
        cache: Where networks are kept.
        workers: Cores to train on; 0 takes all.
        seed: Seed of the splits, initial weights and order of rows.
        write: Receives lines of progress.

    Raises:
        FormulaError: A formula is none.
        PretrainingError: The networks could not be trained; the message says why.
    """
    keys = composition_keys(fraction_matrix(formulas)).tolist()
    if isinstance(recipe, str):
        known = {r.name: r for r in RECIPES}
        if recipe not in known:
            raise PretrainingError(f"{recipe!r} is no recipe of source networks. Choose {', '.join(known)}.")
        recipe = known[recipe]
    return networks_for(keys, recipe, cache=cache, workers=workers, seed=seed, write=write)


def networks_for(
    keys: Iterable[str],
    recipe: SourceRecipe,
    *,
    cache: Path | None = None,
    workers: int = 0,
    seed: int = DEFAULT_SEED,
    write: Print = show,
) -> SourceNetworks:
    """As :func:`prepare_sources`, for composition keys; cached networks of a larger recipe will do as well."""
    keys = sorted(set(keys))
    home = cache or cache_folder()
    found = find_networks(keys, home)
    if found is not None and 0 < _rank(recipe.name) <= _rank(found.recipe):
        write(
            f"sources: networks that know none of the {len(keys):,} compositions are cached ({found.recipe})"
        )
        return found
    folder = home / "networks" / digest([asdict(recipe), seed, keys])[:16]
    if not (folder / NOTE_FILE).is_file():
        _train(folder, {"recipe": asdict(recipe), "seed": seed, "workers": workers, "keys": keys}, write)
    return SourceNetworks.load(folder if folder.is_dir() else fallback_of(folder))


def fallback_of(folder: Path) -> Path:
    """Where the networks lie that stand in for those of a folder while the public sources cannot be had."""
    return folder.with_name(f"{folder.name}_{FALLBACK}")


def _rank(recipe: str) -> int:
    """Place among the recipes, the fallback first; -1 for one of somebody's own."""
    names = [FALLBACK, *(r.name for r in RECIPES)]
    return names.index(recipe) if recipe in names else -1


def _train(folder: Path, job: dict[str, Any], write: Print) -> None:
    """Train in a process of its own, whose memory and threads end with it."""
    draft = folder.with_name(f".{folder.name}.{os.getpid()}{_JOB}")
    try:
        _sweep(folder.parent)
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        (draft / JOB_FILE).write_text(json.dumps(job), encoding="utf-8")
        command = [sys.executable, "-m", "crossprop.estimator.pretrain_job", str(draft), str(folder)]
        last = ""
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
        ) as child:
            try:
                assert child.stdout is not None
                for line in child.stdout:
                    last = line.rstrip() or last
                    write(line.rstrip())
            except BaseException:
                child.terminate()
                raise
        if child.returncode:
            raise PretrainingError(
                f"the source networks could not be trained (exit status {child.returncode}): {last}. "
                "Mend that, or fit with --sources none."
            )
    except OSError as error:
        raise PretrainingError(
            f"{folder} cannot be written: {error}. Free some space, or set {CACHE_VARIABLE} to another folder."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Clear away what fits that were killed have left behind."""
    import psutil

    for draft in folder.glob(f".*{_JOB}"):
        owner = draft.name.split(".")[-2]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(draft, ignore_errors=True)
