"""What the statistics of a study say, in plain sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from crossprop.reporting.comparisons import (
    SIGNIFICANCE,
    Gain,
    modified_against_plain,
    transfer_against_scratch,
)
from crossprop.reporting.statistics import SignTest, geometric_mean
from crossprop.reporting.target_results import TargetResults
from crossprop.reporting.wording import number, p_value
from crossprop.vocabulary import Side


def findings(results: Sequence[TargetResults], gains: Sequence[Gain]) -> list[str]:
    """One sentence or two per question, in Markdown."""
    mae = transfer_against_scratch(results, "test_mae")
    lines = [_sides("the lower hold-out MAE", mae, "TL", "SC")]
    if mae.n:
        lines += [_size_of_gain(results), _beyond_noise(results, gains)]
    tails = transfer_against_scratch(results, "test_q95")
    lines.append(_sides("the lower 95th percentile of the error (Q95)", tails, "TL", "SC"))
    ensembles = transfer_against_scratch(results, "test_mae_ensemble")
    if ensembles.n:
        lines.append(_sides("the lower hold-out MAE as the mean of all fold models", ensembles, "TL", "SC"))
    tuned = modified_against_plain(results)
    if tuned.n + tuned.ties:
        lines.append(
            "Over target × source, "
            + _sides(
                "the lower validation MAE", tuned, "modified fine-tuning", "plain fine-tuning", of="pairs"
            )
        )
    lines.append(_chosen(results))
    return [line for line in lines if line]


def _chosen(results: Sequence[TargetResults]) -> str:
    of_paper = [target.paper_winner.method.side for target in results if target.paper_winner]
    told = (
        f"Cross-validation chose TL for {of_paper.count(Side.TRANSFER)} and SC for "
        f"{of_paper.count(Side.SCRATCH)} of {len(results)} targets"
    )
    winners = [target.winner.method for target in results if target.winner]
    if not any(method.ours for method in winners):
        return f"{told}."
    counts = Counter(method.notation for method in winners)
    named = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    return f"Of the paper's methods c{told[1:]}; among all methods, ours included, it chose {named}."


def _sides(what: str, test: SignTest, first: str, second: str, of: str = "targets") -> str:
    if test.n == 0:
        return f"No {of} on which {first} and {second} can be compared by {what}."
    ties = f", {test.ties} tied and left out" if test.ties else ""
    counted = f"{first} has {what} than {second} on **{test.wins} of {test.n}** {of}{ties}"
    if 0.5**test.n >= SIGNIFICANCE:
        return f"{counted}; too few for a sign test, whose p cannot fall below {0.5**test.n:.2g} here."
    verdict = "chance alone may explain it"
    if test.p_value < SIGNIFICANCE:
        verdict = "more than chance explains"
    elif test.high < 0.5:
        verdict = f"{second} is the better one, by more than chance explains"
    share = f"share {100 * test.share:.0f} %, 95 % interval {100 * test.low:.0f} to {100 * test.high:.0f} %"
    return f"{counted} (one-tailed exact sign test {p_value(test.p_value)}; {share}): {verdict}."


def _size_of_gain(results: Sequence[TargetResults]) -> str:
    ratios = [target.transfer_ratio for target in results if target.transfer_ratio]
    if not ratios:
        return ""
    mean = geometric_mean(ratios)
    way = "lower" if mean < 1 else "higher"
    return (
        f"The hold-out MAE of the best TL is {number(mean, 3)} times that of the best SC in the geometric "
        f"mean ({100 * abs(1 - mean):.1f} % {way}; from {number(min(ratios), 3)} to "
        f"{number(max(ratios), 3)})."
    )


def _beyond_noise(results: Sequence[TargetResults], gains: Sequence[Gain]) -> str:
    labels = {target.info.key: target.info.label for target in results}
    by_verdict = {
        verdict: [labels[gain.target] for gain in gains if gain.verdict == verdict]
        for verdict in ("TL better", "SC better", "within noise")
    }
    better = "; ".join(
        f"{verdict} on {len(names)} ({', '.join(names)})"
        for verdict, names in by_verdict.items()
        if names and verdict != "within noise"
    )
    rest = by_verdict["within noise"]
    return (
        f"Target by target (paired bootstrap, Holm-corrected): {better or 'no difference beyond noise'}"
        + (f"; the other {len(rest)} lie within the noise of their hold-outs." if rest and better else ".")
    )
