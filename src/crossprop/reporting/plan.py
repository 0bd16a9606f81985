"""From a study's configuration to what its report states: titles, units, budgets, the cells to expect."""

from __future__ import annotations

from collections import Counter

from crossprop.config import Params
from crossprop.data.catalog import load_catalog
from crossprop.experiments.target import plan_target
from crossprop.paths import StudyPaths
from crossprop.reporting.study_info import StudyInfo, TargetInfo
from crossprop.vocabulary import Family, Side


def study_info(params: Params, paths: StudyPaths) -> StudyInfo:
    """What the report of a study must know, with the ids of all cells that the configuration enumerates.

    Raises:
        ModelFormatError: A source network has not been trained.
    """
    study, catalog = params.study, load_catalog()
    targets = []
    for name in study.targets:
        entry = catalog.property(name)
        cells = plan_target(params, name, paths)[0]
        targets.append(
            TargetInfo(
                key=name,
                label=entry.label,
                unit=entry.unit,
                description=entry.description,
                cells=tuple(cell.id for cell in cells),
                folds=study.folds_of(name),
            )
        )
    return StudyInfo(
        name=study.name,
        title=study.title,
        protocol=study.protocol,
        edition=study.edition,
        seed=study.seed,
        targets=tuple(targets),
        sources=study.sources,
        tier=study.tier,
        elemnets=study.elemnet_sources,
        joint=study.joint,
        units={source: catalog.property(source).unit for source in study.sources},
        budget=_budget(params),
    )


def _budget(params: Params) -> tuple[str, ...]:
    study = params.study
    lines = []
    for side, name in ((Side.SCRATCH, "Scratch"), (Side.TRANSFER, "Transfer")):
        regressors, networks = (
            study.count_cells(side, family) for family in (Family.REGRESSOR, Family.NETWORK)
        )
        lines.append(
            f"{name}: {study.budget.ml_trials} trials on regressors shared by {regressors} cells, "
            f"{study.budget.dl_trials} trials on networks shared by {networks} cells, "
            f"at most {study.budget.seconds:g} worker seconds for each target"
        )
    lines.append(f"Cross-validation of the best cell of each method: {_folds(params)}")
    if study.fidelity is not None:
        given = study.fidelity
        lines.append(
            f"Multi-fidelity: screening learns from at most {given.rows:,} rows, networks for at most "
            f"{given.steps} steps; {given.after_screening} methods of each side and family are "
            "cross-validated (the paper's and ours apart); after the first fold those stop that are more than "
            f"{100 * given.margin:g} % behind the best of their side, and at most {given.after_first_fold} of "
            "each side go on"
        )
    lines.append(
        f"Epochs: {study.pretrain.epochs} for sources, {study.scratch.epochs} for networks from random weights, "
        f"{study.transfer.epochs} for fine-tuning"
    )
    return tuple(lines)


def _folds(params: Params) -> str:
    """How many folds how many targets get."""
    counted = Counter(params.study.folds_of(target) for target in params.study.targets)
    if len(counted) == 1:
        return f"{next(iter(counted))} folds"
    return ", ".join(
        f"{folds} folds on {n} {'target' if n == 1 else 'targets'}" for folds, n in sorted(counted.items())
    )
