"""How long a study will take, roughly: from what the networks and regressors of measured studies cost.

Measured on four cores: the 41 targets of the study ``jarvis``, tier ``quick`` (500 to 25,000 rows, 6.2 hours of
worker time), the four of ``transport`` (24 minutes of worker time), and the pretraining of both. The figures of any
study stand in its report (``costs.md``, ``runs.csv``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from crossprop.config import Params, Recipe, StudyConfig
from crossprop.experiments.pool import usable_cores
from crossprop.vocabulary import Family, Method, Side

CORES: Final = 4
ROWS_A_SECOND: Final = 12_000.0
"""Rows that pretraining of an ElemNet passes in a second, on four cores."""

JOINT_ROWS_A_SECOND: Final = 10_700.0
STAGE_SECONDS: Final = 22.0
"""What a stage costs that ``mlflow run`` starts: DVC, MLflow and the imports."""

FIXED_SECONDS: Final = 75.0
"""``fetch``, ``prepare``, ``featurize``, ``summarize`` and ``register`` on small data."""

FEATURE_ROWS_A_SECOND: Final = 6_000.0
_PREPARE_ROWS_A_SECOND: Final = 20_000.0
_USUAL_SOURCE_ROWS: Final = 100_000


@dataclass(frozen=True)
class Estimate:
    """Wall time in seconds, downloads not counted.

    Attributes:
        data: Preparing tables and matrices, writing report and registry.
        sources: Pretraining.
        targets: Tuning, cross-validation and hold-out.
    """

    data: float
    sources: float
    targets: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.data + self.sources + self.targets


def estimate(params: Params, rows: Mapping[str, int], source_rows: Mapping[str, int]) -> Estimate:
    """Estimate what a study costs; expect it to be off by a factor of 1.5 either way.

    Args:
        params: The configuration.
        rows: Rows to learn from of each target.
        source_rows: Compositions of each source.
    """
    study, cores = params.study, params.compute.workers or usable_cores()
    sizes = {source: source_rows.get(source, _USUAL_SOURCE_ROWS) for source in study.sources}
    sources = sum(study.pretrain.epochs * sizes[s] for s in study.elemnet_sources) / ROWS_A_SECOND
    for names in study.joint.values():
        assert study.joint_pretrain is not None  # the configuration guarantees it beside a joint network
        union = max(sizes[s] for s in names) + 0.2 * (
            sum(sizes[s] for s in names) - max(sizes[s] for s in names)
        )
        sources += study.joint_pretrain.epochs * union / JOINT_ROWS_A_SECOND
    stages = len(study.elemnet_sources) + len(study.joint) + len(study.shards)
    with_attributes = sum(rows.values()) + (sum(sizes.values()) if study.joint else 0)
    data = (
        FIXED_SECONDS
        + STAGE_SECONDS * stages
        + with_attributes / FEATURE_ROWS_A_SECOND
        + sum(sizes.values()) / _PREPARE_ROWS_A_SECOND
    )
    worker = sum(target_seconds(study, target, rows[target]) for target in study.targets)
    return Estimate(data, sources * CORES / cores, 1.15 * worker / cores)


def target_seconds(study: StudyConfig, target: str, rows: int) -> float:
    """Worker seconds of one target."""
    folds, halving = study.folds_of(target), study.fidelity
    fitted: dict[Method, float] = {
        m: _fit_seconds(study, m, rows * (folds - 1) / folds) for m in study.methods
    }
    screened = {m: fitted[m] if halving is None else _screening_seconds(m, rows) for m in study.methods}
    seconds = 0.0
    for side in (Side.SCRATCH, Side.TRANSFER):
        for family, trials in (
            (Family.REGRESSOR, study.budget.ml_trials),
            (Family.NETWORK, study.budget.dl_trials),
        ):
            methods = [m for m in study.methods if m.side is side and m.family is family]
            points = {m: len(study.points(m)) for m in methods}
            for method in methods:
                share = trials * points[method] / sum(points.values())
                seconds += share * screened[method]
                kept = points[method] if halving is None and side is Side.SCRATCH else 1
                seconds += fitted[method] * kept * folds * (1.0 if halving is None else _SURVIVES[method])
    return seconds


_SURVIVES: Final = {
    **dict.fromkeys(Method, 0.9),
    Method.DL: 0.45,
    Method.ML_FEATEXTR: 0.1,
    Method.DL_FEATEXTR: 0.1,
    Method.FREEZING: 0.1,
    Method.BOOST_SOURCES: 0.7,
}
"""Share of the folds that a method had on average where hopeless cells end early (`jarvis`, tier `quick`)."""


def _screening_seconds(method: Method, rows: int) -> float:
    """A trial on few rows and few steps."""
    few = min(rows, 2_000) / 2_000
    if method.family is Family.REGRESSOR:
        return 0.4 + (0.7 if method in (Method.ML, Method.ML_FEATEXTR) else 1.6) * few
    return 2.2 if method in (Method.RESNET, Method.RESNET_FINETUNE) else 5.5


def _fit_seconds(study: StudyConfig, method: Method, rows: float) -> float:
    """A fit on so many rows."""
    if method.family is Family.REGRESSOR:
        return 0.4 + rows * (0.0015 if method in (Method.ML, Method.ML_FEATEXTR) else 0.0006)
    if method.family is not Family.NETWORK:
        return 0.0
    recipe = study.transfer if method.side is Side.TRANSFER else study.scratch
    batch = _batch(recipe, rows)
    steps = max(recipe.min_steps, recipe.epochs * rows / batch)
    a_step = 0.038 + 0.045 * batch / 256
    return 1.0 + steps * a_step * (0.4 if method in (Method.RESNET, Method.RESNET_FINETUNE) else 1.0)


def _batch(recipe: Recipe, rows: float) -> float:
    batch = float(recipe.batch_size)
    while batch > 16 and rows / batch < recipe.min_batches:
        batch /= 2
    return batch
