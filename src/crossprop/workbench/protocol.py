"""What ``crossprop fit`` and ``CrossPropertyRegressor`` share: hold out, decide, learn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from crossprop.experiments.progress import Print, show
from crossprop.workbench.decision import Settings, decide
from crossprop.workbench.learn import Learnt, Task, check_learnable, held_out, learn, target_name
from crossprop.workbench.networks import SourceNetworks


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
        rows: Columns ``formula``, ``composition`` (key), ``value``, and ``split`` where it is decided already.
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
        held = held_out(rows["composition"].to_numpy(), settings.holdout, settings.seed)
        frame = rows.assign(split=["test" if test else "train" for test in held])
    frame = frame[["formula", "composition", "value", "split"]].reset_index(drop=True)
    check_learnable(frame, settings.target)
    decision = decide(frame, settings, root, write)
    plan, networks = decision.plan, decision.networks
    write(
        f"plan: {', '.join(map(str, plan.methods))}; {plan.folds} folds; effort {plan.effort.name!r}, "
        f"about {max(plan.seconds, 6.0) / 60:.1f} minutes"
    )
    task = Task(target_name(settings.target, networks), settings.unit, plan, settings.seed, settings.workers)
    learnt = learn(frame, task, root, networks, cleaning=cleaning, write=write)
    return Outcome(learnt, task, networks, decision.notes)
