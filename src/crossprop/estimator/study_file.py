"""A study configuration for given data: methods, folds, trials and recipes by tier and by number of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import yaml

from crossprop.config import Params, Recipe, StudyConfig
from crossprop.errors import ConfigError
from crossprop.io import usable_cores
from crossprop.methods import DEFAULT_SEED, PAPER_METHODS, Family, Method, Side

JOINT: Final = "all_sources"
"""Name of the joint network."""

FOLDS_BY_ROWS: Final = ((1_200, 10), (5_000, 5), (24_000, 4))
"""Folds of fewer rows than these, as in the quick tier of the JARVIS study; 3 beyond."""

FEW_ROWS: Final = 100
"""Rows below which the screening split is too small for many trials to mean anything."""

_OWN_METHODS: Final = (
    Method.BOOST,
    Method.BOOST_SOURCES,
    Method.RESNET,
    Method.RESNET_FINETUNE,
    Method.BLEND,
)
_PUBLIC: Final = (
    "formation_energy", "band_gap", "energy_per_atom", "volume_per_atom", "stability", "magnetic_moment",
)  # fmt: skip


@dataclass(frozen=True)
class StudyTier:
    """How much a study spends.

    Attributes:
        name: Name of the tier.
        sources: Sources, unless others are named.
        elemnets: How many of them get an ElemNet of their own; the joint network learns all.
        methods: Methods, as far as the sources allow them.
        ml_trials: Trials of each side on regressors.
        dl_trials: Trials of each side on networks; more where there are more cells.
        source_epochs: Epochs of the source networks.
        epochs: Epochs of the target's networks.
        min_steps: Steps that such a network has at least.
        most_folds: Folds at most.
        whole: Every method is computed in full; otherwise hopeless ones end early.
    """

    name: str
    sources: tuple[str, ...]
    elemnets: int
    methods: tuple[Method, ...]
    ml_trials: int
    dl_trials: int
    source_epochs: int
    epochs: int
    min_steps: int
    most_folds: int = 10
    whole: bool = False


_ALL: Final = (*PAPER_METHODS, *_OWN_METHODS)
TIERS: Final = {
    tier.name: tier
    for tier in (
        StudyTier(
            "trial", ("seebeck_p",), 1,
            (Method.BASE, Method.ML, Method.ML_FEATEXTR, Method.BOOST, Method.BLEND), 8, 1, 6, 10, 300, 5,
        ),
        StudyTier("quick", ("formation_energy",), 1, _ALL, 12, 6, 10, 10, 300),
        StudyTier("standard", _PUBLIC, 2, _ALL, 12, 10, 20, 10, 300),
        StudyTier("full", _PUBLIC, 6, _ALL, 48, 48, 20, 12, 500, whole=True),
    )
}  # fmt: skip
"""From the least to the most. ``trial`` needs no download: its source comes with an installed package."""


def study_values(
    name: str,
    targets: Sequence[str],
    rows: Mapping[str, int] | int,
    sources: Sequence[str] | None = None,
    *,
    tier: str = "quick",
    title: str | None = None,
    protocol: str = "strict",
    seed: int = DEFAULT_SEED,
) -> dict[str, Any]:
    """Plain values of a configuration that :func:`crossprop.config.parse_params` accepts.

    Args:
        name: Name of the study.
        targets: Keys of its targets.
        rows: Rows to learn from, of each target or of all alike.
        sources: Keys of its sources; those of the tier if ``None``. Without any, transfer methods are left out.
        tier: One of :data:`TIERS`.
        title: What the report is headed with.
        protocol: Which training rows are kept; ``strict`` drops those whose composition is held out.
        seed: Seed of all draws.

    Raises:
        ConfigError: The tier is unknown, there are no targets, or they repeat.
    """
    chosen = find_tier(tier)
    if not targets:
        raise ConfigError(
            "A study needs a target. Name one with --target, as 'crossprop data list' shows them."
        )
    if repeated := sorted({t for t in targets if list(targets).count(t) > 1}):
        raise ConfigError(f"The target(s) {', '.join(repeated)} are named more than once. Name each once.")
    counts = {t: rows if isinstance(rows, int) else rows[t] for t in targets}
    wanted = tuple(chosen.sources if sources is None else sources)
    methods = [m for m in chosen.methods if wanted or m.side is not Side.TRANSFER]
    elemnets = wanted[: chosen.elemnets if sources is None else max(2, chosen.elemnets)]
    joint = any(m.uses_joint for m in methods)
    folds = {target: folds_of(n, chosen) for target, n in counts.items()}
    usual = max(set(folds.values()), key=list(folds.values()).count)
    study: dict[str, Any] = {
        "name": name,
        "title": title or f"{', '.join(targets)}: own data",
        "protocol": protocol,
        "seed": seed,
        "edition": "open",
        "targets": list(targets),
        "shards": shards_of(targets),
        "sources": list(wanted),
        "elemnet_sources": list(elemnets),
        "joint": {JOINT: list(wanted)} if joint else {},
        "methods": [str(m) for m in methods],
        "representations": ["elemental_fractions", "physical_attributes"],
        "folds": usual,
        "folds_by_target": {target: n for target, n in folds.items() if n != usual},
        "budget": _budget(chosen, methods, len(elemnets), min(counts.values())),
        "fidelity": None
        if chosen.whole
        else {"rows": 2000, "steps": 150, "after_screening": 2, "after_first_fold": 2, "margin": 0.05},
        "learning_curve": _learning_curve(chosen, counts),
        "pretrain": _source_recipe(chosen, 0.001),
        "joint_pretrain": _source_recipe(chosen, 0.002) if joint else None,
        "scratch": _recipe(chosen, 0.001),
        "transfer": _recipe(chosen, 0.0005),
    }
    return {"study": study, "search": default_search()}


def find_tier(name: str) -> StudyTier:
    """A tier by name.

    Raises:
        ConfigError: There is none of this name.
    """
    if name not in TIERS:
        raise ConfigError(f"{name!r} is no tier. Choose one of {', '.join(TIERS)}.")
    return TIERS[name]


def folds_of(rows: int, tier: StudyTier) -> int:
    """Folds for so many rows to learn from."""
    usual = next((folds for limit, folds in FOLDS_BY_ROWS if rows <= limit), 3)
    return min(tier.most_folds, 10 if tier.whole else usual)


def shards_of(targets: Sequence[str], most: int = 8) -> dict[str, list[str]]:
    """Targets shared out among stages; a stage keeps one pool of workers busy."""
    if len(targets) <= most:
        return {"all": list(targets)}
    size = max(most, -(-len(targets) // 8))
    parts = [list(targets[i : i + size]) for i in range(0, len(targets), size)]
    return {f"part_{i}": part for i, part in enumerate(parts, start=1)}


def default_search() -> dict[str, Any]:
    """The search spaces, as ``conf/search/default.yaml`` has them."""
    text = files("crossprop.estimator").joinpath("search.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    return values


def _budget(tier: StudyTier, methods: Sequence[Method], elemnets: int, fewest: int) -> dict[str, Any]:
    """Trials of each side: those of the tier, fewer on few rows, but one at least for every cell."""
    trials = {Family.REGRESSOR: tier.ml_trials, Family.NETWORK: tier.dl_trials}
    for family in trials:
        if fewest < FEW_ROWS:
            trials[family] = min(trials[family], 6)
        for side in (Side.SCRATCH, Side.TRANSFER):
            cells = sum(_points(m, elemnets) for m in methods if m.side is side and m.family is family)
            trials[family] = max(trials[family], cells)
    seconds = 86_400 if tier.whole else 7_200
    return {"ml_trials": trials[Family.REGRESSOR], "dl_trials": trials[Family.NETWORK], "seconds": seconds}


def _points(method: Method, elemnets: int) -> int:
    """Cells of a method for one target."""
    if method in (Method.ML, Method.DL):
        return 2
    return elemnets if method.side is Side.TRANSFER and not method.extension else 1


def _learning_curve(tier: StudyTier, rows: Mapping[str, int]) -> dict[str, Any] | None:
    enough = [target for target, n in rows.items() if n >= 500]
    return {"targets": enough[:8], "shares": [0.1, 0.25, 0.5]} if tier.whole and enough else None


def _source_recipe(tier: StudyTier, rate: float) -> dict[str, Any]:
    return {"epochs": tier.source_epochs, "batch_size": 512, "learning_rate": rate} | _SCHEDULE


def _recipe(tier: StudyTier, rate: float) -> dict[str, Any]:
    steps = {"epochs": tier.epochs, "batch_size": 256, "min_steps": tier.min_steps, "min_batches": 16}
    return steps | {"learning_rate": rate} | _SCHEDULE


_SCHEDULE: Final = {
    "weight_decay": 0.01,
    "schedule": "cosine",
    "warmup_fraction": 0.1,
    "dropout": 0.0,
    "patience": None,
    "restore_best": False,
}


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
