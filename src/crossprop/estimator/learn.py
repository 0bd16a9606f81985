"""The protocol on one's own rows: from a table in memory to a saved model, in a private folder."""

from __future__ import annotations

import multiprocessing
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np
import pandas as pd

from crossprop.config import Params, parse_params
from crossprop.data.cleaning import refuse_unlearnable, report_frame
from crossprop.data.prepared import GROUP_COLUMN, PREPARED_COLUMNS, PreparedData, together_in
from crossprop.errors import CellError, ConfigError, DataError, ModelFormatError
from crossprop.estimator.budget import Effort, Plan, count_points, slowdown
from crossprop.estimator.decision import Settings, decide
from crossprop.estimator.pretrained import SourceNetworks
from crossprop.estimator.study_file import JOINT, study_values
from crossprop.experiments.executor import InlinePool, WorkerPool
from crossprop.experiments.pretrain import load_provenance
from crossprop.experiments.progress import Print, show
from crossprop.experiments.results import CellResult, NullRecorder
from crossprop.experiments.targets import run_targets
from crossprop.features.matrices import write_features
from crossprop.methods import DEFAULT_SEED, Family, Representation, Side
from crossprop.paths import StudyPaths

STUDY: Final = "own"
"""Name of the study that a model says it comes from."""

LEAST_COMPOSITIONS: Final = 10
REPRESENTATIONS: Final = (Representation.ELEMENTAL_FRACTIONS, Representation.PHYSICAL_ATTRIBUTES)


@dataclass(frozen=True)
class Task:
    """What is learnt, beside the rows.

    Attributes:
        target: Name of the property, as :func:`target_name` makes it.
        unit: Its unit; empty where it is not known.
        plan: Methods, trials and folds.
        seed: Seed of every draw.
        workers: Processes, 0 for one on every core; with 1 everything happens in this process.
        backend: Keras backend.
    """

    target: str
    unit: str
    plan: Plan
    seed: int = DEFAULT_SEED
    workers: int = 0
    backend: str = "tensorflow"


@dataclass(frozen=True)
class Learnt:
    """What came of it.

    Attributes:
        folder: Results of the target; the saved model is its subfolder ``model``.
        results: Every cell, in the order of enumeration.
        winner: The chosen cell.
        seconds: Wall time.
    """

    folder: Path
    results: tuple[CellResult, ...]
    winner: CellResult
    seconds: float

    @property
    def model(self) -> Path:
        """Folder of the saved model."""
        return self.folder / "model"


def target_name(text: str, networks: SourceNetworks | None = None) -> str:
    """A column's name as the name of a property: lower case, with underscores; never that of a source."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "value"
    taken = {JOINT, *(networks.sources if networks else ())}
    return f"own_{name}" if name in taken else name


def held_out(keys: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which rows are held out: whole compositions (or groups), drawn until their rows make up the share.

    One whose rows would make the hold-out half as large again is passed over.

    Args:
        keys: Key of what stays together, for each row, shape (n,).
        share: Share of the rows; 0 holds nothing out.
        seed: Seed of the draw.

    Returns:
        Bool array, shape (n,).
    """
    codes, names = pd.factorize(np.asarray(keys, dtype=object), sort=True)
    held = np.zeros(len(names), dtype=bool)
    if share > 0:
        order = np.random.default_rng(seed).permutation(len(names))
        sizes = np.bincount(codes, minlength=len(names))[order]
        wanted, total = share * len(codes), 0
        for name, size in list(zip(order, sizes, strict=True))[: len(names) - 1]:
            if total >= wanted:
                break
            if total + size <= max(1.5 * wanted, wanted + 1):
                held[name] = True
                total += int(size)
        if not held.any():  # all are large
            held[order[int(np.argmin(sizes))]] = True
    rows: np.ndarray = held[codes]
    return rows


def learn(
    frame: pd.DataFrame,
    task: Task,
    root: Path,
    networks: SourceNetworks | None = None,
    *,
    cleaning: pd.DataFrame | None = None,
    write: Print = show,
) -> Learnt:
    """Tune, cross-validate, blend and choose, as for a target of a study; resumes what it finds under ``root``.

    Args:
        frame: Columns ``formula``, ``composition`` (key), ``value``, ``split`` (``train`` or ``test``; the hold-out may
            be empty), one row each, and ``group`` where rows have groups.
        task: What is learnt.
        root: Private folder; what is finished in it is not computed again.
        networks: Source networks that have seen none of the compositions.
        cleaning: What was repaired and dropped.
        write: Receives lines of progress.

    Raises:
        DataError: There are too few compositions, or nothing to learn.
        ConfigError: The plan and the networks do not fit together, or processes cannot be started from here.
        CellError: Not one method could be fitted.
        StoreError: Something cannot be written.
    """
    started = perf_counter()
    check_learnable(frame, task.target)
    _check_main_guard(task.workers)
    if networks is not None:
        networks.check_free_of(frame["composition"])
    params = study_params(task, int((frame["split"] == "train").sum()), networks)
    paths = StudyPaths(STUDY, root)
    report = report_frame([]) if cleaning is None else cleaning
    prepared = PreparedData(frame.reset_index(drop=True), report).write(paths.prepared_folder, task.target)
    write_features(frame, paths.features(task.target), REPRESENTATIONS, where=str(prepared))
    if networks is not None:
        _place(networks, paths)
    outcome = run_targets(
        params,
        [task.target],
        paths,
        lambda digests: NullRecorder(),
        write,
        units={task.target: task.unit},
        pool=InlinePool if task.workers == 1 else WorkerPool,
    )[task.target]
    if outcome.winners.winner is None:
        reasons = [f"{o.result.label}: {o.result.failure}" for o in outcome.outcomes if o.result.failure]
        raise CellError(f"no method could be fitted to {task.target!r}: {'; '.join(reasons)}.")
    results = tuple(o.result for o in outcome.outcomes)
    return Learnt(paths.results(task.target), results, outcome.winners.winner, perf_counter() - started)


def study_params(task: Task, n_rows: int, networks: SourceNetworks | None = None) -> Params:
    """The configuration of a study of this one target, with the recipes that ``crossprop study new`` takes."""
    effort, sources = task.plan.effort, networks.sources if networks else ()
    tier = "full" if effort.whole else "standard"
    values = study_values(STUDY, [task.target], n_rows, sources, tier=tier, title=task.target, seed=task.seed)
    elemnets = networks.elemnets if networks else ()
    values["study"] |= {
        "tier": effort.name,
        "elemnet_sources": list(elemnets),
        "joint": {JOINT: list(sources)} if networks else {},
        "joint_pretrain": values["study"]["pretrain"] if networks else None,
        "methods": [str(method) for method in task.plan.methods],
        "folds": task.plan.folds,
        "folds_by_target": {},
        "budget": _budget(task.plan, effort, len(elemnets)),
        "learning_curve": None,
    }
    values["compute"] = {"workers": task.workers, "backend": task.backend, "retries": 1}
    return parse_params(values, origin="the plan")


def _budget(plan: Plan, effort: Effort, elemnets: int) -> Mapping[str, float]:
    """Both sides get what the one with more cells needs; the ceiling is for runaway searches only."""

    def most(family: Family) -> int:
        sides = (Side.SCRATCH, Side.TRANSFER)
        counts = [
            sum(count_points(m, elemnets) for m in plan.methods if (m.side, m.family) == (side, family))
            for side in sides
        ]
        return max(1, *counts)

    return {
        "ml_trials": effort.trials * most(Family.REGRESSOR),
        "dl_trials": effort.network_trials * most(Family.NETWORK),
        "seconds": max(600.0, 20.0 * plan.seconds),
    }


def check_learnable(frame: pd.DataFrame, target: str) -> None:
    """Refuse a table that nothing can be learnt from.

    Raises:
        DataError: It has too few compositions, or one value only.
    """
    learning = frame[frame["split"] == "train"]
    refuse_unlearnable(learning["value"].to_numpy(), f"the rows of {target!r} to learn from")
    together = together_in(learning)
    known, what = learning[together].nunique(), f"{together}s"
    if known < LEAST_COMPOSITIONS:
        raise DataError(
            f"{target!r} has {len(learning)} rows of {known} {what} to learn from; at least "
            f"{LEAST_COMPOSITIONS} {what} are needed for folds and a screening split. Give more rows"
            + (". Groups that share a composition count as one." if what == "groups" else ".")
        )


def _check_main_guard(workers: int) -> None:
    if workers != 1 and getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ConfigError(
            "Worker processes import the script that started them. Put what your script does under "
            "\"if __name__ == '__main__':\", or fit with workers=1."
        )


def _place(networks: SourceNetworks, paths: StudyPaths) -> None:
    """Copy the source networks to where a study has them."""
    for name in (*networks.elemnets, JOINT):
        folder = paths.source_model(name)
        try:
            same = load_provenance(folder) == load_provenance(networks.folder / name)
        except ModelFormatError:
            same = False
        if not same:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(networks.folder / name, folder)


WORTH_SAYING: Final = 1.3


@dataclass(frozen=True)
class Outcome:
    """What came of a fit.

    Attributes:
        learnt: Cells, winner and the folder of the model.
        task: What was learnt.
        networks: What was transferred from, or ``None``.
        notes: What has to be said: what was left out, and why.
    """

    learnt: Learnt
    task: Task
    networks: SourceNetworks | None
    notes: tuple[str, ...]


def run_protocol(
    rows: pd.DataFrame,
    settings: Settings,
    root: Path,
    *,
    cleaning: pd.DataFrame | None = None,
    write: Print = show,
) -> Outcome:
    """The whole protocol on one table.

    Args:
        rows: Columns ``formula``, ``composition`` (key), ``value``, ``split`` where it is decided already, and
            ``group`` (key of the rows that stay together) where rows have groups.
        settings: What was asked for.
        root: Private folder of the fit; a fit that was stopped goes on from what it finds there.
        cleaning: What was repaired and dropped.
        write: Receives lines of progress.

    Raises:
        ConfigError: A method is unknown or has nothing to transfer from.
        DataError: There is too little to learn from.
        PretrainingError: Source networks could not be trained.
    """
    frame = rows
    if "split" not in rows.columns:
        held = held_out(rows[together_in(rows)].to_numpy(), settings.holdout, settings.seed)
        frame = rows.assign(split=["test" if test else "train" for test in held])
    columns = [name for name in (*PREPARED_COLUMNS, GROUP_COLUMN) if name in frame.columns]
    frame = frame[columns].reset_index(drop=True)
    check_learnable(frame, settings.target)
    decision = decide(frame, settings, root, write)
    plan, networks = decision.plan, decision.networks
    seconds, slower = max(plan.seconds, 6.0), slowdown(settings.workers)
    write(
        f"plan: {', '.join(map(str, plan.methods))}; {plan.folds} folds; effort {plan.effort.name!r}, "
        f"about {slower * seconds / 60:.1f} minutes"
    )
    if slower >= WORTH_SAYING:
        write(
            f"note: the machine is busy with other work; on a quiet one it would be {seconds / 60:.1f} minutes. The "
            "plan is the same on both: give fewer --minutes for a shorter one"
        )
    task = Task(target_name(settings.target, networks), settings.unit, plan, settings.seed, settings.workers)
    learnt = learn(frame, task, root, networks, cleaning=cleaning, write=write)
    return Outcome(learnt, task, networks, decision.notes)
