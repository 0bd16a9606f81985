"""The gates before the alias ``champion``: functions of evidence, each with its figure."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossprop.data.splits import together_in
from crossprop.errors import CrosspropError, PromotionError, StoreOutOfReachError, TrackingError
from crossprop.methods import unit_behind
from crossprop.models.saved import read_info
from crossprop.tracking.registry import VersionInfo, model_folder, predictor_folder, read_mlmodel
from crossprop.tracking.subprocess_check import Repeated
from crossprop.uncertainty.evidence import evenly, read_evidence
from crossprop.uncertainty.grouped import mean_interval, standard_error

TOLERANCE = 1e-3  # largest difference of a logged and a repeated prediction, as a share of the values' spread
COVERAGE_MARGIN = 0.03
LEAST_SHARED = 30  # rows that two different hold-outs have to share, or 3/4 of the smaller one
LEAST_SPREAD = 0.2  # standard deviation of the predictions, as a share of that of the values
LEAST_LEVELS = 0.05  # distinct predictions, as a share of the compositions or distinct values; at least ten
MOST_ROWS = 2_000  # of the hold-out that are predicted again, spread evenly
_CLIPPED = (0.02, 0.98)
_LEVEL_DIGITS = 6
OUTPUTS = {"value": "double", "lower": "double", "upper": "double", "in_domain": "boolean", "note": "string"}
_TITLES = {
    "repeats": "loads and repeats its predictions",
    "base": "beats the mean and the median",
    "spread": "predictions vary as values do",
    "champion": "against the champion",
    "origin": "data and code known",
    "signature": "signature as the service expects",
    "coverage": "interval coverage",
}

Predict = Callable[[Path, list[str]], Repeated]  # predicts formulas with the ensemble in a folder


@dataclass(frozen=True)
class Evidence:
    """Values of training rows, shape (n_train,), and the hold-out: formula, composition, y_true, y_pred (ensemble)."""

    training: np.ndarray
    holdout: pd.DataFrame

    @property
    def size(self) -> str:
        """Number of rows held out, for a gate's figure."""
        return f"{len(self.holdout):,} hold-out rows"

    def sample(self, most: int = MOST_ROWS) -> pd.DataFrame:
        """Rows of the hold-out to predict again: all, or so many, spread evenly."""
        return self.holdout.iloc[evenly(len(self.holdout), most)]

    @property
    def mae(self) -> float:
        """Mean absolute error of the ensemble on the hold-out."""
        return float((self.holdout["y_true"] - self.holdout["y_pred"]).abs().mean())

    def base_mae(self) -> float:
        """Error of ``base`` on the same hold-out: the mean of the training values for every row."""
        return float((self.holdout["y_true"] - self.training.mean()).abs().mean())


def gate_evidence(folder: Path, label: str) -> Evidence:
    """What the gates read of a saved ensemble's evidence; ``label`` names the version in a TrackingError."""
    try:
        rows, _ = read_evidence(folder)
    except CrosspropError as error:
        raise TrackingError(f"{label}: {error}") from error
    train, held = (rows[rows["split"] == split] for split in ("train", "test"))
    if held.empty:
        raise TrackingError(f"{label} has no hold-out rows. Run the target's stage again.")
    return Evidence(train["y_true"].to_numpy(dtype=float), held.reset_index(drop=True))


@dataclass(frozen=True)
class Gate:
    """One condition for becoming champion, and what was found; without evidence it is neither measured nor passed."""

    key: str
    passed: bool
    figure: str
    measured: bool = True

    @property
    def verdict(self) -> str:
        """Outcome and figure, as a version's tag keeps them."""
        return f"{'pass: ' if self.passed else 'failed: ' if self.measured else ''}{self.figure}"

    def __str__(self) -> str:
        outcome = "pass" if self.passed else "FAIL" if self.measured else "NONE"
        return f"{outcome}  {_TITLES[self.key]:<34} {self.figure}"


def repeats_predictions(rows: pd.DataFrame, repeated: Repeated) -> Gate:
    """Whether the model gave the logged predictions of the rows again, to a thousandth of the values' spread."""
    logged = rows["y_pred"].to_numpy(dtype=float)
    spread = max(float(np.ptp(rows["y_true"])), 1e-3 * float(np.abs(logged).max()), np.finfo(float).tiny)
    gaps = np.abs(repeated.value - logged)
    worst = int(np.argmax(gaps))
    share = f"{gaps[worst] / spread:.1e} of the values' spread"
    if gaps[worst] <= TOLERANCE * spread:
        figure = f"{len(rows):,} hold-out rows, largest difference {gaps[worst]:.2g} ({share})"
        return Gate("repeats", True, f"{figure}; loaded in {repeated.load_seconds:.1f} s")
    figure = (
        f"gives {repeated.value[worst]:.6g} for {rows['formula'].iloc[worst]}, {logged[worst]:.6g} was logged "
        f"({share}, at most {TOLERANCE:g}): its files and its results are not of the same training"
    )
    return Gate("repeats", False, figure)


def beats_base(evidence: Evidence, unit: str) -> Gate:
    """Whether its hold-out MAE is below those of the mean and the median of the training values."""
    mae, base = evidence.mae, evidence.base_mae()
    median = (evidence.holdout["y_true"] - np.median(evidence.training)).abs().mean()
    share = f" ({mae / base - 1:+.0%})" if base > 0 else ""
    compared = f"MAE {mae:.4g}{unit_behind(unit)} against {base:.4g} for the mean{share}, {median:.4g} for the median"
    return Gate("base", mae < min(base, median), f"{compared}; {evidence.size}")


def varied_predictions(evidence: Evidence) -> Gate:
    """Whether the hold-out predictions are not collapsed to one number or to a few levels."""
    y_true, y_pred = (evidence.holdout[c].to_numpy(dtype=float) for c in ("y_true", "y_pred"))
    low, high = np.quantile(y_true, _CLIPPED)
    spread_true, spread_pred = (float(np.clip(y, low, high).std()) for y in (y_true, y_pred))
    share = spread_pred / spread_true if spread_true > 0 else 1.0
    most = min(_levels(y_true), evidence.holdout["composition"].nunique())
    levels, least = _levels(y_pred), math.ceil(max(LEAST_LEVELS * most, min(10, most / 2)))
    return Gate(
        "spread",
        share >= LEAST_SPREAD and levels >= least,
        f"standard deviation {share:.2g} of that of the values (at least {LEAST_SPREAD:g}), {levels:,} distinct "
        f"predictions (at least {least:,}); {evidence.size}",
    )


def against_champion(evidence: Evidence, champion: Evidence, version: str, unit: str) -> Gate:
    """Whether it is no worse than the champion beyond what the hold-out can tell, on the rows that both have."""
    both = (e.holdout.assign(value=e.holdout["y_true"].map("{:.6g}".format)) for e in (evidence, champion))
    own, other = (r.assign(turn=r.groupby(["composition", "value"]).cumcount()) for r in both)
    on = ["composition", "value", "turn"]  # rows that repeat both are paired in their order
    pairs = own.merge(other[[*on, "y_pred"]], on=on, suffixes=("", "_champion"))
    same = len(pairs) == len(own) == len(other)
    least = min(LEAST_SHARED, math.ceil(0.75 * min(len(own), len(other))))
    if not same and len(pairs) < least:
        figure = (
            f"no evidence: its hold-out of {len(own):,} rows shares {len(pairs)} with the {len(other):,} of champion "
            f"v{version}; at least {least} are needed"
        )
        return Gate("champion", False, figure, measured=False)
    gaps = (pairs["y_true"] - pairs["y_pred"]).abs() - (pairs["y_true"] - pairs["y_pred_champion"]).abs()
    gap = mean_interval(gaps.to_numpy(), pairs[together_in(pairs)].to_numpy())
    if gap.low is None or gap.high is None:
        figure = "no evidence: the hold-out is one group, or one composition"
        return Gate("champion", False, figure, measured=False)
    ends = f"[{gap.low:+.3g}, {gap.high:+.3g}]{unit_behind(unit)}"
    text = f"MAE {gap.mean:+.4g} {ends} against v{version} (95 %)"
    shared = f"on the {len(pairs):,} rows that the hold-outs share (of {len(own):,} and {len(other):,})"
    certain = "better" if gap.high < 0 else "worse" if gap.low > 0 else ""
    verdict = "no more than chance" if gaps.any() else "equal errors"
    verdict = f"{certain} beyond doubt" if certain else verdict
    return Gate("champion", gap.low <= 0, f"{text}, {evidence.size if same else shared}: {verdict}")


def known_origin(tags: Mapping[str, str]) -> Gate:
    """Whether a version's tags hold the hash of the data and the commit of the code; uncommitted changes are shown."""
    data, commit = tags.get("crossprop.data_hash", ""), tags.get("crossprop.git_commit", "")
    states = {"true": " with uncommitted changes", "false": ""}
    state = states.get(tags.get("crossprop.git_dirty", ""), ", changes beside it unknown")
    text = f"data {data[:12] or 'unknown'}, commit {commit[:12] + state if commit else 'unknown'}"
    return Gate("origin", bool(data and commit), text)


def expected_signature(model: Any, info: Mapping[str, Any], target: str, unit: str) -> Gate:
    """Whether MLflow's model takes formulas and returns what the service reads, for the property it stands for."""
    schemas = [model.get_input_schema(), model.get_output_schema()]
    if None in schemas:
        return Gate("signature", False, "the model states no signature; register the winner again")
    takes, gives = ({str(c.get("name")): str(c["type"]) for c in schema.to_dict()} for schema in schemas)
    text = f"{', '.join(takes)} → {', '.join(gives)}"
    wrong = [f"{k} ({v})" for k, v in OUTPUTS.items() if gives.get(k) != v]
    if takes != {"formula": "string"} or wrong:
        wanted = f"a text 'formula' and the outputs {', '.join(wrong)}" if wrong else "one text 'formula'"
        return Gate("signature", False, f"{text}; the service needs {wanted}")
    stated = str(info.get("target")), str(info.get("unit") or "")
    if stated[0] != target or (unit and stated[1] != unit):
        return Gate("signature", False, f"files are of {stated[0]} in {stated[1]}, not of {target} in {unit}")
    return Gate("signature", True, text + unit_behind(unit, ", in {}"))


def coverage_within_bounds(rows: pd.DataFrame, repeated: Repeated, stated: float) -> Gate:
    """Whether the n intervals held the value as often as stated, within 3 points or the 99 % band of n draws.

    Where the rows of a group or a composition are held together, n is that of as many independent rows.
    """
    from scipy.stats import binom

    values = rows["y_true"].to_numpy(dtype=float)
    held = ((repeated.lower <= values) & (values <= repeated.upper)).astype(float)
    share, alone = float(held.mean()), standard_error(held, np.arange(len(held)))
    together = standard_error(held, rows[together_in(rows)].to_numpy())
    ratio = max(1.0, together / alone) if alone > 0 and together > 0 else 1.0
    n = max(1, round(len(held) / ratio**2))
    by_chance = [float(k) / n for k in binom.interval(0.99, n, stated)]
    low = min(by_chance[0], stated - COVERAGE_MARGIN)
    high = min(1.0, max(by_chance[1], stated + COVERAGE_MARGIN))
    return Gate(
        "coverage",
        low <= share <= high,
        f"{share:.1%} of {len(values):,} hold-out rows, {stated:.0%} stated (allowed {low:.1%} to {high:.1%})",
    )


def _levels(numbers: np.ndarray) -> int:
    """Number of distinct values, at six digits of the largest."""
    largest = max(float(np.abs(numbers).max()), 1e-300)
    return len(np.unique(np.round(numbers / largest, _LEVEL_DIGITS)))


def judge(uri: str, candidate: VersionInfo, champion: VersionInfo | None, predict: Predict) -> Iterator[Gate]:
    """Judge a version by every gate, one after the other; what cannot be judged counts as failed and says why."""
    found: dict[str, Any] = {}
    missing: CrosspropError = PromotionError("")
    try:
        folder = found["folder"] = predictor_folder(uri, candidate)
        evidence = found["evidence"] = gate_evidence(folder, candidate.label)
        rows = found["rows"] = evidence.sample()
        found["repeated"] = predict(folder, rows["formula"].tolist())
    except StoreOutOfReachError:
        raise
    except CrosspropError as error:
        missing = error

    def known(what: str) -> Any:
        if what not in found:
            raise missing
        return found[what]

    def signature() -> Gate:
        model = read_mlmodel(model_folder(uri, candidate), candidate.label)
        return expected_signature(model, read_info(known("folder")), candidate.target, candidate.unit)

    def compared() -> Gate:
        if champion is None or champion.version == candidate.version:
            return Gate("champion", True, "is the champion itself" if champion else "no champion yet")
        if champion.unit != candidate.unit:
            figure = f"no evidence: champion v{champion.version} predicts in {champion.unit}, it in {candidate.unit}"
            return Gate("champion", False, figure, measured=False)
        other = gate_evidence(predictor_folder(uri, champion), champion.label)
        return against_champion(known("evidence"), other, champion.version, candidate.unit)

    def coverage() -> Gate:
        stated = float(read_info(known("folder"))["interval"]["coverage"])
        return coverage_within_bounds(known("rows"), known("repeated"), stated)

    gates: dict[str, Callable[[], Gate]] = {
        "repeats": lambda: repeats_predictions(known("rows"), known("repeated")),
        "base": lambda: beats_base(known("evidence"), candidate.unit),
        "spread": lambda: varied_predictions(known("evidence")),
        "champion": compared,
        "origin": lambda: known_origin(candidate.tags),
        "signature": signature,
        "coverage": coverage,
    }
    for key, judged in gates.items():
        try:
            yield judged()
        except StoreOutOfReachError:
            raise
        except CrosspropError as error:
            # A model that does not load is a failure; for all other gates it is no evidence.
            failed = key == "repeats" and isinstance(error, PromotionError)
            yield Gate(key, False, str(error) if failed else f"no evidence: {error}", measured=failed)
