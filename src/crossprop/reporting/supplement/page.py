"""``supplement.md``: the analyses of the paper's supplement, of this study."""

from __future__ import annotations

from collections.abc import Sequence

from crossprop.paths import StudyPaths
from crossprop.reporting.comparisons import Gain
from crossprop.reporting.part import Part
from crossprop.reporting.study_info import PaperTable, StudyInfo
from crossprop.reporting.supplement.correlations import correlations_part
from crossprop.reporting.supplement.intervals import TargetCoverage, coverage_part
from crossprop.reporting.supplement.layers import layers_part
from crossprop.reporting.supplement.learning_curves import learning_curves_part
from crossprop.reporting.supplement.networks import networks_part
from crossprop.reporting.supplement.own_methods import own_methods_part
from crossprop.reporting.supplement.repeats_page import repeats_part
from crossprop.reporting.supplement.source_models import source_model_rows, source_models_part
from crossprop.reporting.supplement.tails import tails_part
from crossprop.reporting.supplement.unfinished import stopped_part
from crossprop.reporting.supplement.validation import validation_part
from crossprop.reporting.supplement.winning import winning_part
from crossprop.reporting.target_results import TargetResults
from crossprop.vocabulary import Architecture


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
