"""A finished cell in MLflow's words: tags, parameters, metrics, data sets, description."""

from __future__ import annotations

import getpass
import hashlib
import json

import numpy as np
import pandas as pd

from crossprop.errors import TrackingError
from crossprop.experiments.results import CellOutcome, CellResult
from crossprop.tracking.artifacts import TRIALS_FILE
from crossprop.tracking.context import RunContext
from crossprop.tracking.drafts import DataSet, RunDraft
from crossprop.tracking.experiments import EXPERIMENT_ID
from crossprop.tracking.figures import fold_curves

_SCALARS = (
    "val_mae", "cv_mae_mean", "cv_mae_std", "test_mae", "test_mae_low", "test_mae_high", "test_q95",
    "test_r2", "test_mae_ensemble", "test_mae_median", "strict_test_mae",
)  # fmt: skip
_MOST_STEPS = 100
_MOST_STEPS_SCREENED = 25


def draft_of_cell(outcome: CellOutcome, context: RunContext) -> RunDraft:
    """Everything about a cell's run but its files.

    Raises:
        TrackingError: An error of the cell is NaN or infinite.
    """
    result, cost = outcome.result, outcome.cost
    return RunDraft(
        experiment=f"{result.study}/{result.target}",
        notes=experiment_notes(result, context),
        identity=("crossprop.cell", result.cell),
        fingerprint=fingerprint(result, context.data_hashes.get(result.target, "")),
        name=result.label,
        tags=_tags(outcome, context),
        params=_params(result),
        metrics=_metrics(outcome),
        data_sets=_data_sets(result, context),
        seconds=cost.tune_seconds + cost.fit_seconds,
        failure=result.failure,
    )


def fingerprint(result: CellResult, data_hash: str) -> str:
    """Digest of a cell's facts and data: the same for the same outcome, whatever it cost to compute."""
    text = json.dumps({**result.as_dict(), "data": data_hash}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def experiment_notes(result: CellResult, context: RunContext) -> str:
    """Markdown description of a target's experiment."""
    what = context.descriptions.get(result.target, result.target)
    unit = result.unit or "none (dimensionless)"
    return (
        f"{what}. Unit: {unit}.\n\n[Compare the cells](#/experiments/{EXPERIMENT_ID}/runs"
        "?workflowType=machine_learning&viewStateShareKey=crossprop), best first. One run is one cell "
        f"(method × source × representation) of study `{result.study}`, protocol `{result.protocol}`.\n\nThe "
        "winner is chosen by `cv_mae_mean`; `test_mae` is measured once, on the hold-out. `cv_mae` has one "
        "step per fold. Runs without `cv_mae_mean` were screened only."
    )


def curve_metrics(key: str, curve: pd.Series, most_steps: int = _MOST_STEPS) -> list[tuple[str, float, int]]:
    """At most so many steps of a curve indexed by epoch, first and last among them; gaps are left out."""
    curve = curve.dropna()
    picks = np.unique(np.linspace(0, len(curve) - 1, min(len(curve), most_steps)).round().astype(int))
    return [(key, float(curve.iloc[i]), int(curve.index[i])) for i in picks]


def source_tags() -> dict[str, str]:
    """Who and what made a run, for the UI's columns ``Created by`` and ``Source``."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "unknown"
    return {"mlflow.user": user, "mlflow.source.name": "crossprop", "mlflow.source.type": "LOCAL"}


def _tags(outcome: CellOutcome, context: RunContext) -> dict[str, str]:
    result = outcome.result
    optional = {
        "crossprop.source": result.source,
        "crossprop.representation": result.representation,
        "crossprop.layer": result.layer,
        "crossprop.data_hash": context.data_hashes.get(result.target),
        "crossprop.source_data_hash": context.data_hashes.get(result.source) if result.source else None,
    }
    tags = {
        "crossprop.study": result.study,
        "crossprop.target": result.target,
        "crossprop.method": str(result.method),
        "crossprop.side": str(result.method.side),
        "crossprop.protocol": result.protocol,
        "crossprop.unit": result.unit,
        "mlflow.note.content": _note(result),
        **{key: str(value) for key, value in optional.items() if value},
        **context.git_tags(),
        **source_tags(),
    }
    if len(outcome.trials):
        tags["mlflow.loggedArtifacts"] = json.dumps([{"path": TRIALS_FILE, "type": "table"}])
    return tags


def _note(result: CellResult) -> str:
    unit = f" {result.unit}" if result.unit else ""
    lines = [f"**{result.method.notation}** for **{result.target}**"]
    if result.source:
        lines[0] += f", from **{result.source}**" + (f", layer `{result.layer}`" if result.layer else "")
    elif result.representation:
        lines[0] += f", on {result.representation.short}"
    if result.failure:
        lines.append(f"Failed: {result.failure}")
    if result.cv_mae_mean is not None and result.cv_mae is not None:
        lines.append(
            f"Cross-validation MAE {result.cv_mae_mean:.4g} ± {result.cv_mae_std:.2g}{unit} "
            f"({len(result.cv_mae)} folds)"
        )
    elif result.val_mae is not None:
        why = "" if result.stopped else "; screened only, not the best of its method"
        lines.append(f"Screening MAE {result.val_mae:.4g}{unit}{why}")
    if result.stopped:
        lines.append(f"Stopped: {result.stopped}")
    if result.test_mae is not None:
        interval = ""
        if result.test_mae_low is not None and result.test_mae_high is not None:
            interval = f" [{result.test_mae_low:.4g}, {result.test_mae_high:.4g}]"
        lines.append(f"Hold-out MAE {result.test_mae:.4g}{interval}{unit} on {result.n_test:,} rows")
    if result.strict_test_mae is not None and result.strict_n_train is not None:
        lines.append(
            f"Without training rows whose composition is in the hold-out: MAE {result.strict_test_mae:.4g}{unit} "
            f"({result.strict_n_train:,} rows to learn from)"
        )
    lines.append(f"{result.n_train:,} rows to learn from, {result.n_trials} trials")
    return "\n\n".join(lines)


def _params(result: CellResult) -> dict[str, str]:
    params = {
        "method": str(result.method),
        "source": result.source,
        "representation": result.representation and str(result.representation),
        "layer": result.layer,
        "n_train": result.n_train,
        "n_test": result.n_test,
        "n_trials": result.n_trials,
        "best_fold": result.best_fold,
        "strict_n_train": result.strict_n_train,
        "stopped": result.stopped,
    }
    clash = sorted(set(params) & set(result.hyperparameters))
    tuned = {
        (f"tuned.{key}" if key in clash else key): value for key, value in result.hyperparameters.items()
    }
    settings = {key: value for key, value in params.items() if value is not None}
    return {key: str(value) for key, value in (settings | tuned).items()}


def _metrics(outcome: CellOutcome) -> tuple[tuple[str, float, int], ...]:
    result, cost = outcome.result, outcome.cost
    metrics = [(name, float(value), 0) for name in _SCALARS if (value := getattr(result, name)) is not None]
    metrics += [("cv_mae", float(value), fold) for fold, value in enumerate(result.cv_mae or ())]
    metrics += [("race_mae", float(value), fold) for fold, value in enumerate(result.race_mae or ())]
    metrics += [
        ("tune_seconds", cost.tune_seconds, 0),
        ("fit_seconds", cost.fit_seconds, 0),
        ("peak_memory_mib", cost.peak_memory / 2**20, 0),
    ]
    if len(outcome.history):
        most_steps = _MOST_STEPS if result.cv_mae is not None else _MOST_STEPS_SCREENED
        for column in ("val_mae", "loss"):
            curve = fold_curves(outcome.history, column).mean(axis=1)
            if not np.isfinite(curve).all() and result.failure is None:
                raise TrackingError(
                    f"The {column} curve of cell {result.cell} ({result.label}, {result.target}) is not "
                    "finite, though the cell did not fail. Check its history."
                )
            metrics += curve_metrics(f"learning_curve/{column}", curve[np.isfinite(curve)], most_steps)
    return tuple(metrics)


def _data_sets(result: CellResult, context: RunContext) -> tuple[DataSet, ...]:
    digest = context.data_hashes.get(result.target)
    if not digest:
        return ()
    shared = {
        "digest": digest,
        "source": context.data_sources.get(result.target, result.target),
        "unit": result.unit,
    }
    return (
        DataSet(name=f"{result.target}.train", context="training", n_rows=result.n_train, **shared),
        DataSet(name=f"{result.target}.test", context="testing", n_rows=result.n_test, **shared),
    )
