"""Bootstrap intervals of rows that are not independent."""

import numpy as np

from crossprop.methods import DEFAULT_SEED


def cluster_interval(gaps: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of values, shape (n,), drawn by groups, since polymorphs share a cause."""
    from scipy.stats import bootstrap

    _, index = np.unique(groups.astype(str), return_inverse=True)
    totals, counts = np.bincount(index, weights=gaps), np.bincount(index)
    if len(totals) == 1:
        return float(np.mean(gaps)), float(np.mean(gaps))
    drawn = bootstrap(
        (totals, counts), lambda t, n, axis: t.sum(axis=axis) / n.sum(axis=axis), paired=True, method="percentile",
        n_resamples=10_000, batch=max(1, 4_000_000 // len(totals)), rng=DEFAULT_SEED,
    )  # fmt: skip
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)
