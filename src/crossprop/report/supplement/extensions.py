"""The methods beyond the paper, apart from its eight: what they gain over the best of those."""

from __future__ import annotations

from collections.abc import Sequence

from crossprop.experiments.results import CellResult
from crossprop.methods import Method
from crossprop.report.part import Part, Row, cell_name, interval, markdown_table, number, p_value, unit_name
from crossprop.report.statistics import Gain, geometric_mean, sign_test
from crossprop.report.study import TargetResults

WHAT_THEY_ARE = {
    Method.BOOST: "boosted trees, extra trees or a support vector machine on physical attributes",
    Method.BOOST_SOURCES: "the same on physical attributes beside what the joint network predicts for its sources",
    Method.RESNET: "a residual network on fractions beside attributes, from random weights",
    Method.RESNET_FINETUNE: "the joint residual network, pretrained on several sources at once, fine-tuned",
    Method.BLEND: "a convex mean of the target's cross-validated cells, its weights learnt on the other folds",
}


def has_own(results: Sequence[TargetResults]) -> bool:
    """Whether a study has any cell of a method of ours."""
    return any(cell.method.extension for target in results for cell in target.cells)


def own_rows(results: Sequence[TargetResults], gains: Sequence[Gain]) -> list[Row]:
    """One row per target: the best of ours and the best of the paper's methods, both by cross-validation."""
    by_target = {target.info.key: target for target in results}
    rows: list[Row] = []
    for gain in gains:
        target = by_target[gain.target]
        ours, theirs = target.best_own, target.paper_winner
        rows.append(
            {
                "target": target.info.key,
                "label": target.info.label,
                "unit": target.info.unit,
                "ours": cell_name(ours),
                "ours_cv_mae": ours.cv_mae_mean if ours else None,
                "ours_mae": ours.test_mae if ours else None,
                "papers": cell_name(theirs),
                "papers_cv_mae": theirs.cv_mae_mean if theirs else None,
                "papers_mae": theirs.test_mae if theirs else None,
                "difference": gain.difference,
                "low": gain.low,
                "high": gain.high,
                "p": gain.p_value,
                "p_holm": gain.p_adjusted,
                "verdict": gain.verdict,
                "blend_of": _blend_of(ours),
                "winner_is_ours": bool(target.winner and target.winner.method.extension),
                "ours_run_id": target.run_id(ours),
                "papers_run_id": target.run_id(theirs),
            }
        )
    return rows


def own_findings(results: Sequence[TargetResults], gains: Sequence[Gain]) -> list[str]:
    """What our methods gain, in a sentence or two; nothing in a study without them."""
    if not gains:
        return []
    by_target = {target.info.key: target for target in results}
    pairs = [(by_target[g.target].best_own, by_target[g.target].paper_winner) for g in gains]
    errors = [
        (ours.test_mae, theirs.test_mae)
        for ours, theirs in pairs
        if ours and theirs and ours.test_mae and theirs.test_mae
    ]
    test = sign_test([ours for ours, _ in errors], [theirs for _, theirs in errors])
    verdicts = [gain.verdict for gain in gains]
    won = sum(bool(target.winner and target.winner.method.extension) for target in results)
    mean = geometric_mean([ours / theirs for ours, theirs in errors])
    return [
        f"Our own methods, by cross-validation the winner on {won} of {len(results)} targets: their best has the lower "
        f"hold-out MAE than the best of the paper's methods on **{test.wins} of {test.n}** targets (one-tailed exact "
        f"sign test {p_value(test.p_value)}), {number(mean, 3)} times its MAE in the geometric mean; beyond noise "
        f"(paired bootstrap, Holm-corrected) better on {verdicts.count('ours better')}, worse on "
        f"{sum(verdict.startswith('paper') for verdict in verdicts)}."
    ]


def own_methods_part(results: Sequence[TargetResults], gains: Sequence[Gain]) -> Part:
    """The section; without a headline in a study of the paper's methods alone.

    Args:
        results: All targets.
        gains: Ours against the paper's, of the targets that have both.
    """
    if not has_own(results):
        return Part()
    present = {cell.method for target in results for cell in target.cells}
    of_target = {gain.target: gain for gain in gains}
    lines = [
        [
            target.info.label,
            unit_name(target.info.unit),
            *_measured(target),
            of_target[target.info.key].verdict,
        ]
        for target in results
        if target.info.key in of_target
    ]
    text = [
        "Methods beyond the paper's eight, compared with the best of those. They take no part in best SC, best TL "
        "and the re-made tables; only “winner” is chosen among all.",
        "\n".join(
            f"- **{method.notation}**: {what}." for method, what in WHAT_THEY_ARE.items() if method in present
        ),
        *own_findings(results, gains),
        markdown_table(
            ["target", "unit", "best of ours", "best of the paper's methods", "ratio", "beyond noise?"],
            lines,
            left=(0, 1, 2, 3, 5),
        ),
        "Hold-out MAE with its 95 % bootstrap interval, cells chosen by cross-validation; **bold**: the winner.",
    ]
    return Part(
        title="Our own methods against the paper's",
        text="\n\n".join(text),
        tables={"tables/own_methods.csv": own_rows(results, gains)},
    )


def _blend_of(cell: CellResult | None) -> str | None:
    """What a blend is made of, the heaviest first; None for any other cell."""
    if cell is None or cell.method is not Method.BLEND:
        return None
    shares = [(float(w), name) for name, w in cell.hyperparameters.items() if isinstance(w, int | float)]
    return "; ".join(f"{name} {weight:.2f}" for weight, name in sorted(shares, key=lambda pair: -pair[0]))


def _measured(target: TargetResults) -> list[str]:
    ours, theirs = target.best_own, target.paper_winner
    texts = []
    for cell in (ours, theirs):
        mae = number(cell.test_mae) if cell else "–"
        bounds = interval(cell.test_mae, cell.test_mae_low, cell.test_mae_high) if cell else ""
        won = cell is not None and target.winner is not None and target.winner.cell == cell.cell
        texts.append(f"{f'**{mae}**' if won else mae} {bounds}<br>{cell_name(cell)}")
    known = ours is not None and theirs is not None and ours.test_mae is not None and bool(theirs.test_mae)
    ratio = (ours.test_mae or 0.0) / (theirs.test_mae or 1.0) if known and ours and theirs else None
    return [*texts, number(ratio, 3)]
