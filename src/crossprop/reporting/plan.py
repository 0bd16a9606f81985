"""From a study's configuration to what its report states: titles, units, budgets, the cells to expect."""

from __future__ import annotations

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
        cells, _, _ = plan_target(params, name, paths)
        targets.append(
            TargetInfo(
                key=name,
                label=entry.label,
                unit=entry.unit,
                description=entry.description,
                cells=tuple(cell.id for cell in cells),
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
    folds = {study.folds_of(target) for target in study.targets}
    lines.append(
        f"Cross-validation of the best cell of each method: {', '.join(map(str, sorted(folds)))} folds"
    )
    lines.append(
        f"Epochs: {study.pretrain.epochs} for sources, {study.scratch.epochs} for networks from random weights, "
        f"{study.transfer.epochs} for fine-tuning"
    )
    return tuple(lines)
