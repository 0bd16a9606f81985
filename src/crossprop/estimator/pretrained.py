"""Source networks that have seen none of the user's compositions, or few: found in a cache, or trained once.

``python -m crossprop.estimator.pretrained FOLDER`` is the process that trains them; it reads the job from a pipe.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, time
from typing import Any, Final, Self

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from crossprop.config import parse_params
from crossprop.data.catalog import Catalog, load_catalog
from crossprop.data.compositions import composition_keys, fraction_matrix
from crossprop.data.download import FetchProgress, fetch_files, print_progress
from crossprop.data.prepared import PreparedData
from crossprop.data.sources import prepare_source, rounded_keys
from crossprop.errors import ConfigError, FetchError, ModelFormatError, PretrainingError, run_command
from crossprop.estimator.budget import CORES, EMBEDDED, PUBLIC, Effort
from crossprop.estimator.study_file import JOINT, study_values
from crossprop.experiments.fingerprint import OF_NETWORKS, code_digest, data_digest, digest
from crossprop.experiments.pretrain import (
    PROVENANCE_FILE,
    joint_digest,
    load_provenance,
    pretrain,
)
from crossprop.experiments.progress import Print, show
from crossprop.features.matrices import write_features
from crossprop.io import check_digests, read_json, usable_cores, write_digests, write_json
from crossprop.methods import DEFAULT_SEED, Representation
from crossprop.models.transfer import check_network
from crossprop.paths import RAW, StudyPaths

FORMAT: Final = 2
NOTE_FILE: Final = "networks.json"
SEEN_FILE: Final = "compositions.npy"
CACHE_VARIABLE: Final = "CROSSPROP_CACHE"
_DAY: Final = 86_400.0  # seconds
EDITIONS: Final = ("full", "open")  # of the public sources, in the order in which they are tried
MOST_KNOWN: Final = 0.2  # share of the compositions to learn from that networks may have seen
FALLBACK: Final = "embedded"  # recipe of the networks while the public sources cannot be fetched


@dataclass(frozen=True, eq=False)
class SourceNetworks:
    """A folder of networks that were pretrained together: the joint one, and perhaps ElemNets, each in a subfolder.

    The subfolder of an ElemNet has the name of its source, that of the joint network is ``joint``.
    """

    folder: Path
    recipe: str
    sources: tuple[str, ...]
    elemnets: tuple[str, ...]
    n_seen: int  # compositions that they were trained or validated on
    seen: np.ndarray  # their codes, also as of their rounded fractions, sorted, uint64
    joint: str = JOINT

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read the description of a folder of source networks, or of those of a study (``models/STUDY``).

        The networks themselves are loaded when needed.
        """
        folder = Path(folder)
        try:
            if not (folder / NOTE_FILE).is_file():
                return cls._of_study(folder.resolve())
            note: dict[str, Any] = read_json(folder / NOTE_FILE)
            seen = np.load(folder / SEEN_FILE, allow_pickle=False)
            if note["format"] != FORMAT:
                raise ValueError(f"format {note['format']!r}, this version reads {FORMAT}")
            remedy = f"Delete {folder} and have the networks made again."
            check_digests(folder, [NOTE_FILE, SEEN_FILE], remedy=remedy)
            sources, elemnets = tuple(note["sources"]), tuple(note["elemnets"])
            return cls(folder, note["recipe"], sources, elemnets, note["compositions"], seen)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelFormatError(
                f"{folder} holds no source networks that can be used: {error}. Have them made with --sources auto, "
                "or prepare_sources."
            ) from error

    @classmethod
    def _of_study(cls, folder: Path) -> Self:
        """The networks of a study; its prepared tables say what they have seen."""
        known = {f.parent.name: load_provenance(f.parent) for f in folder.glob(f"*/{PROVENANCE_FILE}")}
        joint = [name for name, provenance in known.items() if "sources" in provenance]
        if len(joint) != 1:
            found = f"it has no {NOTE_FILE}, and {len(joint)} joint networks of a study instead of one"
            raise ValueError(f"{found} (networks: {', '.join(sorted(known)) or 'none'})")
        paths, sources = StudyPaths(folder.name, folder.parents[1]), tuple(known[joint[0]]["sources"])
        frames = {source: pd.read_parquet(paths.prepared(source)) for source in sources}
        tables = {source: data_digest(frame) for source, frame in frames.items()}
        elemnets = tuple(source for source in sources if source in known)
        for name, expected in ({joint[0]: joint_digest(tables, paths)} | tables).items():
            if name in known and known[name]["data_sha256"] != expected:
                raise ValueError(f"{name} learnt other rows or features than {paths.prepared_folder} holds now")
        seen = set().union(*(frame["composition"] for frame in frames.values()))
        name = f"study {folder.name}"
        return cls(folder, name, sources, elemnets, len(seen), codes_of_seen(seen), joint[0])

    def overlap(self, keys: Iterable[str]) -> np.ndarray:
        """Whether each composition was seen, shape (n,), bool, also with the rounded fractions of either side.

        A rare collision of codes says yes for a no.
        """
        keys = list(keys)
        rounded = composition_codes(rounded_keys(keys))
        return np.isin(composition_codes(keys), self.seen) | np.isin(rounded, self.seen)

    def usable_for(self, held_out: Iterable[str], learnt: Iterable[str]) -> bool:
        """Whether they have seen no composition that is held out, and at most a fifth of those to learn from."""
        known = self.overlap(learnt)
        return not self.overlap(held_out).any() and known.sum() <= MOST_KNOWN * len(known)

    def check_usable_for(self, held_out: Iterable[str], learnt: Iterable[str]) -> None:
        """Refuse networks that are not :meth:`usable_for` these compositions (ConfigError)."""
        held_out, learnt = list(held_out), list(learnt)
        if not self.usable_for(held_out, learnt):
            keys = [*held_out, *learnt]
            found = np.flatnonzero(self.overlap(keys))
            raise ConfigError(
                f"The source networks in {self.folder} were trained on {len(found)} of the {len(keys)} rows' "
                f"compositions (the first: {keys[found[0]]}). Use --sources auto, which trains networks without them."
            )


def composition_codes(keys: Iterable[str]) -> np.ndarray:
    """A 64-bit code of every composition key, shape (n,), uint64."""
    codes = [int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little") for key in keys]
    return np.array(codes, dtype=np.uint64)


def codes_of_seen(keys: set[str]) -> np.ndarray:
    """Codes of compositions and of their rounded fractions, sorted, shape (n,), uint64."""
    return np.sort(composition_codes(keys.union(rounded_keys(keys))))


@dataclass(frozen=True)
class SourceRecipe:
    """How source networks are trained: a joint one of all sources, and ElemNets for the paper's transfer methods."""

    name: str
    sources: tuple[str, ...]
    elemnets: tuple[str, ...]
    epochs: int
    rows: int | None  # the most compositions of a source
    minutes: float  # wall time on four cores without downloads

    def minutes_here(self) -> float:
        """Wall time on the cores of this machine."""
        return self.minutes * (CORES / usable_cores()) ** 0.8


# From the least to the most.
RECIPES: Final = (
    SourceRecipe(Effort.SHORT, PUBLIC, (), 10, 50_000, 2.5),
    SourceRecipe(Effort.QUICK, PUBLIC, PUBLIC[:1], 10, 140_000, 8.0),
    SourceRecipe(Effort.FULL, PUBLIC, PUBLIC[:2], 20, None, 40.0),
)


def cache_folder() -> Path:
    """Where networks are kept between fits: ``CROSSPROP_CACHE``, or ``crossprop`` in the user's cache folder."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "crossprop")
    return Path(os.environ.get(CACHE_VARIABLE) or usual)


def affordable(minutes: float | None) -> SourceRecipe | None:
    """The largest recipe that takes at most 60 % of the minutes, or ``None``; with no limit, the largest."""
    fitting = [r for r in RECIPES if minutes is None or r.minutes_here() <= 0.6 * minutes]
    return fitting[-1] if fitting else None


def find_networks(keys: Iterable[str], cache: Path | None = None, learnt: Iterable[str] = ()) -> SourceNetworks | None:
    """The cached networks of the largest recipe that are usable for compositions, some of them only ``learnt`` from."""
    keys, learnt = list(keys), list(learnt)
    found = []
    for note in sorted(((cache or cache_folder()) / "networks").glob(f"*/{NOTE_FILE}")):
        try:
            networks = SourceNetworks.load(note.parent)
        except ModelFormatError:
            continue
        if _rank(networks.recipe) >= 0 and networks.usable_for(keys, learnt):
            found.append(networks)

    def merit(networks: SourceNetworks) -> tuple[int, int, int]:
        return _rank(networks.recipe), -int(networks.overlap(learnt).sum()), networks.n_seen

    return max(found, key=merit, default=None)


def prepare_sources(
    formulas: Iterable[str],
    recipe: str | SourceRecipe = Effort.SHORT,
    *,
    cache: Path | None = None,
    workers: int = 0,
    seed: int = DEFAULT_SEED,
    write: Print = show,
) -> SourceNetworks:
    """Source networks that have seen none of these formulas: cached ones, or newly trained.

    For a cross-validation give all formulas that will be learnt from or measured on, and pass the folder to every fit
    (``sources=networks.folder``): the networks are then trained once, without any held-out composition.

    ``recipe`` is ``"short"``, ``"quick"``, ``"full"``, or one of your own; ``cache`` is where networks are kept,
    ``workers`` the number of cores, 0 for all. Where networks cannot be trained a PretrainingError says why.
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
    learnt: Iterable[str] = (),
    cache: Path | None = None,
    workers: int = 0,
    seed: int = DEFAULT_SEED,
    write: Print = show,
) -> SourceNetworks:
    """As :func:`prepare_sources`, for keys; takes cached networks of a larger recipe, too, as :func:`find_networks`."""
    learnt = sorted(set(learnt))
    home = cache or cache_folder()
    found = find_networks(keys, home, learnt)
    keys = sorted({*keys, *learnt})
    if found is not None and 0 < _rank(recipe.name) <= _rank(found.recipe):
        seen = int(found.overlap(learnt).sum()) or "none"
        write(f"sources: cached networks ({found.recipe}) have seen {seen} of the {len(keys):,} compositions")
        return found
    folder = home / "networks" / digest([FORMAT, asdict(recipe), seed, keys])[:16]
    if not (folder / NOTE_FILE).is_file():
        _train(folder, {"recipe": asdict(recipe), "seed": seed, "workers": workers, "keys": keys}, write)
    return SourceNetworks.load(folder if folder.is_dir() else fallback_of(folder))


def fallback_of(folder: Path) -> Path:
    """Folder of the networks that are used while the public sources cannot be fetched."""
    return folder.with_name(f"{folder.name}_{FALLBACK}")


def _rank(recipe: str) -> int:
    """Place among the recipes, the fallback first; -1 for a recipe of the user's own."""
    names = [FALLBACK, *(r.name for r in RECIPES)]
    return names.index(recipe) if recipe in names else -1


def _train(folder: Path, job: dict[str, Any], write: Print) -> None:
    """Train in a separate process, whose memory and threads end with it."""
    command, last = [sys.executable, "-m", "crossprop.estimator.pretrained", str(folder)], ""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    try:
        started = subprocess.Popen(command, **pipes, text=True, encoding="utf-8")
    except OSError as error:  # e.g. no memory for another process
        raise PretrainingError(f"no process to train the source networks could be started: {error}.") from error
    with started as child:
        assert child.stdin and child.stdout
        try:
            with suppress(BrokenPipeError), child.stdin:  # a child that cannot start says why
                json.dump(job, child.stdin)
            for line in child.stdout:
                last = line.rstrip().removesuffix(".") or last
                write(line.rstrip())
        except BaseException:
            child.terminate()
            raise
    if child.returncode:
        what = f"the source networks could not be trained (exit status {child.returncode}): {last}."
        advice = f"Correct that (the cache is another folder with {CACHE_VARIABLE}), or fit with --sources none."
        raise PretrainingError(f"{what} {advice}")


def train_networks(job: dict[str, Any], folder: Path) -> None:
    """Train what is asked for, and move the networks into the folder as a whole.

    A hidden folder beside it keeps networks and checkpoints of a start that was stopped.
    """
    started = perf_counter()
    recipe, excluded = SourceRecipe(**job["recipe"]), frozenset(job["keys"])
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        show("sources: another fit trains the same networks, waiting for it")
        held = lock.acquire()
    with held, ExitStack() as ending:
        if (folder / NOTE_FILE).is_file():  # another process was faster
            return
        for left in folder.parent.glob(".*.kept/data"):  # of trainings that were killed
            if time() - left.stat().st_mtime > _DAY:
                shutil.rmtree(left, ignore_errors=True)
        catalog, cache = load_catalog(), folder.parent.parent
        raw = RAW if RAW.is_dir() else cache / "raw"
        sources, elemnets = tuple(recipe.sources), tuple(recipe.elemnets)
        name, notes = recipe.name, list[str]()
        edition = _fetch(catalog, sources, raw, cache / "blobs", notes)
        if edition is None:
            name, folder, sources, elemnets = FALLBACK, fallback_of(folder), EMBEDDED, ()
            if (folder / NOTE_FILE).is_file():
                return
        work = folder.with_name(f".{folder.name}.kept")
        ending.callback(shutil.rmtree, work / "data", ignore_errors=True)
        paths = StudyPaths("own", work)
        seen, tables = set[str](), dict[str, str]()
        for source in sources:
            data = prepare_source(catalog, source, raw, excluded, edition, job["seed"])
            frame = _at_most(data.frame, recipe.rows)
            seen.update(frame["composition"])
            tables[source] = data_digest(frame)
            PreparedData(frame, data.cleaning).write(paths.prepared_folder, source)
            both = (Representation.ELEMENTAL_FRACTIONS, Representation.PHYSICAL_ATTRIBUTES)
            write_features(frame, paths.features(source), both, where=source)
            show(f"sources: {len(frame):,} compositions of {source}, none of yours among them")
        values = study_values("own", ["any"], 1_000, sources, tier=Effort.STANDARD, seed=job["seed"])
        study = values["study"]
        study |= {"elemnet_sources": list(elemnets), "joint": {JOINT: list(sources)}, "methods": ["base"]}
        for network in ("pretrain", "joint_pretrain"):
            study[network]["epochs"] = recipe.epochs
        params = parse_params({**values, "compute": {"workers": job["workers"]}})
        units = {source: catalog.property(source).unit for source in sources}
        bundle = paths.source_model(JOINT).parent
        for draft in bundle.glob("*.tmp"):  # of a start that was killed
            shutil.rmtree(draft, ignore_errors=True)
        learnt = {JOINT: joint_digest(tables, paths), **{source: tables[source] for source in elemnets}}
        for network, data_sha256 in learnt.items():
            if not _is_trained(bundle / network, data_sha256):
                pretrain(params, network, units, paths)
        np.save(bundle / SEEN_FILE, codes_of_seen(seen), allow_pickle=False)
        made: dict[str, Any] = {"format": FORMAT, "recipe": name, "sources": sources, "elemnets": elemnets}
        made |= {"edition": edition, "epochs": recipe.epochs, "compositions": len(seen)}
        made |= {"excluded": len(excluded), "notes": notes, "seconds": round(perf_counter() - started, 1)}
        write_json(bundle / NOTE_FILE, made)
        write_digests(bundle)
        bundle.rename(folder)
        shutil.rmtree(work, ignore_errors=True)
    show(f"sources: trained in {(perf_counter() - started) / 60:.1f} minutes, kept in {folder}")


def _is_trained(folder: Path, data_sha256: str) -> bool:
    """Whether an earlier start has trained a network on these rows with this code."""
    try:
        known = load_provenance(folder)
        check_network(folder)
    except ModelFormatError:
        return False
    return bool((known["data_sha256"], known["code_sha256"]) == (data_sha256, code_digest(OF_NETWORKS)))


def _fetch(catalog: Catalog, sources: Sequence[str], raw: Path, blobs: Path, notes: list[str]) -> str | None:
    """Fetch the first edition that can be had and return its name; ``None`` for none. What failed is noted."""
    instead = [*(f"edition {edition}" for edition in EDITIONS[1:]), ", ".join(EMBEDDED)]
    for edition, other in zip(EDITIONS, instead, strict=True):
        try:
            raw.mkdir(parents=True, exist_ok=True)
            pinned = catalog.pinned_files(sources, edition)
            fetch_files(pinned, raw, blobs=blobs, report=_tell_download, attempts=3)
            return edition
        except FetchError as error:
            failed = f"could not be fetched ({str(error).partition(' (')[0]})"
            notes.append(f"the public sources (edition {edition}) {failed}; {other} is used instead")
            show(f"sources: {notes[-1]}")
    return None


def _tell_download(progress: FetchProgress) -> None:
    if progress.state in ("downloading", "retrying"):
        print_progress(progress)


def _at_most(frame: pd.DataFrame, most: int | None) -> pd.DataFrame:
    """At most so many rows: those with the lowest codes, so that several sources keep the same compositions."""
    if most is None or len(frame) <= most:
        return frame
    codes = composition_codes(frame["composition"])
    return frame.iloc[np.sort(np.argsort(codes, kind="stable")[:most])].reset_index(drop=True)


if __name__ == "__main__":
    run_command(lambda: train_networks(json.load(sys.stdin), Path(sys.argv[1])))
