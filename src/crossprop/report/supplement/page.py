"""``supplement.md``: the analyses of the paper's supplement, of this study."""

from __future__ import annotations

from collections.abc import Sequence

from crossprop.methods import Architecture
from crossprop.paths import StudyPaths
from crossprop.report.part import Part
from crossprop.report.statistics import Gain
from crossprop.report.study import PaperTable, StudyInfo, TargetResults
from crossprop.report.supplement.correlations import correlations_part
from crossprop.report.supplement.extensions import own_methods_part
from crossprop.report.supplement.intervals import TargetCoverage, coverage_part
from crossprop.report.supplement.layers import layers_part
from crossprop.report.supplement.learning_curves import learning_curves_part
from crossprop.report.supplement.networks import networks_part, source_model_rows, source_models_part
from crossprop.report.supplement.repeats import repeats_part
from crossprop.report.supplement.validation import stopped_part, tails_part, validation_part
from crossprop.report.supplement.winning import winning_part


def supplement_parts(
    study: StudyInfo,
    results: Sequence[TargetResults],
    own: Sequence[Gain],
    paths: StudyPaths,
    paper: PaperTable,
    covered: Sequence[TargetCoverage],
) -> list[Part]:
    """All parts in the order of the page; those that a study has nothing for have no headline.

    Args:
        study: The study.
        results: All targets.
        own: Our own methods against the paper's, of the targets that have both.
        paths: Where the source networks lie.
        paper: The paper's errors by target key.
        covered: The targets whose models carry evidence.

    Raises:
        ModelFormatError: A source network has not been trained.
        StoreError: Results do not fit together.
    """
    of_paper = any(paper.get(target.info.key) for target in results)
    residual = any(c.method.architecture is Architecture.RESNET for t in results for c in t.cells)
    return [
        own_methods_part(results, own),
        repeats_part(results),
        validation_part(results, paper),
        winning_part(study, results, of_paper=of_paper),
        source_models_part(source_model_rows(study, paths)),
        tails_part(results, of_paper=of_paper),
        coverage_part(covered),
        learning_curves_part(results),
        correlations_part(results),
        layers_part(results),
        networks_part(residual=residual),
        stopped_part(results),
    ]
