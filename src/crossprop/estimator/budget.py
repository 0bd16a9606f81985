"""How much is computed: the levels of effort, their budgets for a fit or a study, and the estimated time."""

from collections.abc import Mapping
from enum import StrEnum
from math import log2
from typing import Final, NamedTuple

from crossprop.config import Params, StudyConfig
from crossprop.io import usable_cores
from crossprop.methods import PAPER_METHODS, Architecture, Family, Method, Side
from crossprop.training.trainer import suited


class Effort(StrEnum):
    """How much is computed, from the least to the most; fits, studies and source networks know some of them."""

    TRIAL = "trial"
    SHORT = "short"
    QUICK = "quick"
    STANDARD = "standard"
    FULL = "full"


class FitBudget(NamedTuple):
    """Budget of a fit of one target: trials of every cell, most folds, least steps, networks from scratch."""

    trials: int
    network_trials: int
    most_folds: int
    min_steps: int
    networks: tuple[Method, ...] = ()


FITS: Final = {
    Effort.TRIAL: FitBudget(4, 1, 3, 300),
    Effort.SHORT: FitBudget(4, 1, 5, 300, (Method.RESNET,)),
    Effort.QUICK: FitBudget(5, 2, 10, 600, (Method.RESNET,)),
    Effort.STANDARD: FitBudget(8, 4, 10, 600, (Method.DL, Method.RESNET)),
    Effort.FULL: FitBudget(16, 8, 10, 600, (Method.DL, Method.RESNET)),
}


class StudyBudget(NamedTuple):
    """Budget of a study: sources, the first ``elemnets`` of which get an ElemNet, and trials of each side."""

    sources: tuple[str, ...]
    elemnets: int
    methods: tuple[Method, ...]
    ml_trials: int
    dl_trials: int
    source_epochs: int
    epochs: int
    min_steps: int
    most_folds: int = 10


EMBEDDED: Final = ("seebeck_p",)  # sources that come with an installed package
PUBLIC: Final = (
    "formation_energy", "band_gap", "energy_per_atom", "volume_per_atom", "stability", "magnetic_moment",
)  # fmt: skip
PLAIN: Final = (Method.BASE, Method.PLAIN_BASELINE, Method.PLAIN_MEDIAN)  # untuned: what a fit computes first
_CHEAP: Final = (*PLAIN, Method.ML, Method.ML_FEATEXTR, Method.BOOST, Method.BLEND)
_ALL: Final = (*PAPER_METHODS, *(method for method in Method if method not in PAPER_METHODS))
STUDIES: Final = {
    Effort.TRIAL: StudyBudget(EMBEDDED, 1, _CHEAP, 8, 1, 6, 10, 300, most_folds=5),
    Effort.QUICK: StudyBudget(PUBLIC[:1], 1, _ALL, 12, 6, 10, 10, 300),
    Effort.STANDARD: StudyBudget(PUBLIC, 2, _ALL, 12, 10, 20, 10, 300),
    Effort.FULL: StudyBudget(PUBLIC, 6, _ALL, 48, 48, 20, 12, 500),
}

FOLDS_BY_ROWS: Final = ((1_200, 10), (5_000, 5), (24_000, 4))  # up to so many rows to learn from; 3 beyond


def folds_for(rows: int, effort: Effort, most: int = 10) -> int:
    """Folds for so many rows to learn from; full effort takes ten for any number."""
    usual = next((folds for limit, folds in FOLDS_BY_ROWS if rows <= limit), 3)
    return min(most, 10 if effort is Effort.FULL else usual)


def first_folds(rows: int) -> int:
    """Folds of the plain models that a fit starts with."""
    return 10 if rows <= 200 else 5 if rows <= 600 else 3


# Costs, measured on four cores with as many processes.
CORES: Final = 4
ELEMNET_ROWS_PER_SECOND: Final = 12_000.0
JOINT_ROWS_PER_SECOND: Final = 10_700.0
PREPARE_ROWS_PER_SECOND: Final = 20_000.0
FEATURE_ROWS_PER_SECOND: Final = 6_000.0
STAGE_SECONDS: Final = 22.0  # start of a stage: DVC, MLflow and the imports
FIXED_SECONDS: Final = 75.0  # the stages beside pretraining and transfer, on small data
PLAIN_SECONDS: Final = 0.00067  # of the plain models' fit, a row and doubling of rows
START_SECONDS: Final = 2.0
KERAS_SECONDS: Final = 6.0  # what the first network of a process takes in addition
ALONE: Final = 0.5  # time of a process alone, relative to one of as many as there are cores
MOST_PLAIN_ROWS: Final = 30_000  # up to which the plain models' trees fit into a gigabyte or two a process


def plain_affordable(rows: int, minutes: float | None) -> bool:
    """Whether a fit of so many rows can begin with the plain models within its minutes."""
    seconds = first_folds(rows) * PLAIN_SECONDS * rows * log2(rows)
    return rows <= MOST_PLAIN_ROWS and (minutes is None or seconds <= 60 * minutes * usable_cores())


class Estimate(NamedTuple):
    """Wall time of a study in seconds without downloads, right within a factor of 1.5."""

    data: float
    sources: float
    targets: float

    @property
    def total(self) -> float:
        """Sum of the three."""
        return self.data + self.sources + self.targets


def estimate_study(params: Params, rows: Mapping[str, int], source_rows: Mapping[str, int]) -> Estimate:
    """Estimate what a study costs, from the rows of each target and the compositions of each source."""
    study, cores = params.study, params.compute.workers or usable_cores()
    sources = sum(study.pretrain.epochs * source_rows[s] for s in study.elemnet_sources) / ELEMNET_ROWS_PER_SECOND
    for names in study.joint.values():
        assert study.joint_pretrain is not None  # the configuration guarantees it beside a joint network
        largest = max(source_rows[s] for s in names)
        union = largest + 0.2 * (sum(source_rows[s] for s in names) - largest)
        sources += study.joint_pretrain.epochs * union / JOINT_ROWS_PER_SECOND
    stages = len(study.elemnet_sources) + len(study.joint) + len(study.shards)
    all_sources = sum(source_rows[s] for s in study.sources)
    with_attributes = sum(rows.values()) + (all_sources if study.joint else 0)
    data = FIXED_SECONDS + STAGE_SECONDS * stages
    data += with_attributes / FEATURE_ROWS_PER_SECOND + all_sources / PREPARE_ROWS_PER_SECOND
    targets = sum(target_seconds(study, target, rows[target]) for target in study.targets)
    return Estimate(data, sources * CORES / cores, 1.15 * targets / cores)


def fit_seconds(params: Params, rows: int) -> float:
    """Wall time of a fit of one target without the training of source networks."""
    study = params.study
    processes = min(params.compute.workers or usable_cores(), usable_cores())
    spent = target_seconds(study, study.targets[0], rows) / processes
    networks = any(m.family is Family.NETWORK or m.side is Side.TRANSFER for m in study.methods)
    return START_SECONDS + KERAS_SECONDS * networks + (ALONE if processes == 1 else 1.0) * spent


def target_seconds(study: StudyConfig, target: str, rows: int) -> float:
    """Worker seconds of one target with so many rows to learn from."""
    folds, whole = study.folds_of(target), study.fidelity is None
    seconds = 0.0
    for method in study.methods:
        if method.side not in (Side.SCRATCH, Side.TRANSFER):
            continue
        trials = study.budget.ml_trials if method.family is Family.REGRESSOR else study.budget.dl_trials
        points = len(study.points(method))
        fitted = _fitting_seconds(study, method, rows * (folds - 1) / folds)
        screened = fitted if whole else _screening_seconds(method, rows)
        seconds += trials * points / study.count_cells(method.side, method.family) * screened
        kept = points if whole and method.side is Side.SCRATCH else 1
        seconds += fitted * kept * folds * (1.0 if whole else _SURVIVES.get(method, 0.9))
    if Method.PLAIN_MEDIAN in study.methods:
        learnt = max(rows * (folds - 1) / folds, 2)
        seconds += folds * PLAIN_SECONDS * learnt * log2(learnt)
    return seconds


# Share of the folds that a method had on average where pruning is on (`jarvis`, tier `quick`); 0.9 of the others.
_SURVIVES: Final = {
    **dict.fromkeys((Method.ML_FEATEXTR, Method.DL_FEATEXTR, Method.FREEZING), 0.1),
    Method.DL: 0.45,
    Method.BOOST_SOURCES: 0.7,
}
_ON_FRACTIONS: Final = (Method.ML, Method.ML_FEATEXTR)


def _screening_seconds(method: Method, rows: int) -> float:
    if method.family is Family.REGRESSOR:
        return 0.4 + (0.7 if method in _ON_FRACTIONS else 1.6) * min(rows, 2_000) / 2_000
    return 2.2 if method.architecture is Architecture.RESNET else 5.5


def _fitting_seconds(study: StudyConfig, method: Method, rows: float) -> float:
    if method.family is Family.REGRESSOR:
        return 0.4 + rows * (0.0015 if method in _ON_FRACTIONS else 0.0006)
    recipe = suited(study.transfer if method.starts_from_source else study.scratch, round(rows))
    steps = recipe.epochs * (round(rows) // recipe.batch_size)
    residual = method.architecture is Architecture.RESNET
    return 1.0 + steps * (0.038 + 0.045 * recipe.batch_size / 256) * (0.4 if residual else 1.0)
