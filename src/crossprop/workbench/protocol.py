"""What ``crossprop fit`` and ``CrossPropertyRegressor`` share: hold out, decide, learn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from crossprop.data.prepared import GROUP_COLUMN, PREPARED_COLUMNS, together_in
from crossprop.experiments.progress import Print, show
from crossprop.workbench.decision import Settings, decide
from crossprop.workbench.learn import Learnt, Task, check_learnable, held_out, learn, target_name
from crossprop.workbench.machine import slowdown
from crossprop.workbench.networks import SourceNetworks

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
