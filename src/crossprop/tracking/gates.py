"""The gates before the alias ``champion``: pure functions of evidence, each with its figure."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from crossprop.data.compositions import composition_keys, fraction_matrix
from crossprop.errors import CrosspropError, PromotionError, TrackingError
from crossprop.experiments.results import StoreOutOfReachError
from crossprop.methods import DEFAULT_SEED
from crossprop.models.saved import INFO_FILE
from crossprop.tracking.clean_process import CleanProcess, Repeated
from crossprop.tracking.client import VersionInfo, open_registry
from crossprop.tracking.model_files import predictor_folder, read_mlmodel
from crossprop.tracking.store import named_faults

EVIDENCE_FILE = "evidence.parquet"
PREDICTIONS_FILE = "predictions.parquet"


@dataclass(frozen=True)
class Evidence:
    """Rows that a version learnt from and rows that were held out.

    Attributes:
        training: Values of the training rows, in the property's unit, shape (n_train,).
        holdout: Columns formula, composition, y_true, y_pred (the ensemble's); one row per row held out.
        origin: Where it was found, for people.
    """

    training: np.ndarray
    holdout: pd.DataFrame
    origin: str

    @property
    def errors(self) -> np.ndarray:
        """Absolute errors on the hold-out, shape (n_test,)."""
        return (self.holdout["y_true"] - self.holdout["y_pred"]).abs().to_numpy(dtype=float)

    @property
    def mae(self) -> float:
        """Mean absolute error of the ensemble on the hold-out."""
        return float(self.errors.mean())

    def base_mae(self) -> float:
        """Error of ``base`` on the same hold-out: the mean of the training values for every row."""
        return float(np.abs(self.holdout["y_true"] - self.training.mean()).mean())

    def median_mae(self) -> float:
        """Error of the median of the training values on the same hold-out."""
        return float(np.abs(self.holdout["y_true"] - np.median(self.training)).mean())


def load_evidence(uri: str, info: VersionInfo, folder: Path | None) -> Evidence:
    """Evidence beside the saved ensemble, or else the predictions logged on the version's run.

    Args:
        uri: Store.
        info: The version.
        folder: Its saved ensemble; ``None`` if that is gone.

    Raises:
        TrackingError: There is none of both, or it cannot be read.
    """
    beside = None if folder is None else folder / EVIDENCE_FILE
    if beside is not None and beside.is_file():
        return evidence_of(_read(beside), "evidence.parquet of the model")
    if not info.run_id:
        raise TrackingError(f"{info.name} version {info.version} has no {EVIDENCE_FILE} and names no run.")
    return evidence_of(_predictions_of_run(uri, info), f"predictions of run {info.run_id[:8]}")


def evidence_of(rows: pd.DataFrame, origin: str) -> Evidence:
    """Evidence from a table: ``evidence.parquet``'s columns, or those of a run's predictions.

    Raises:
        TrackingError: Columns are missing, or there are no training or no hold-out rows.
    """
    needed = {"split", "formula", "y_true", "y_pred"}
    if missing := sorted(needed - set(rows.columns)):
        raise TrackingError(f"The {origin} lack the columns {', '.join(missing)}. Register the winner again.")
    of_run = "y_pred_ensemble" in rows.columns
    training = rows.loc[rows["split"] == ("validation" if of_run else "train"), "y_true"].to_numpy(
        dtype=float
    )
    held = rows[rows["split"] == "test"]
    held = held.assign(y_pred=held["y_pred_ensemble"]) if of_run else held
    held = held[held["y_pred"].notna() & held["y_true"].notna()]
    if not len(held) or not len(training):
        raise TrackingError(
            f"The {origin} hold {len(training)} training and {len(held)} hold-out rows: too few."
        )
    if "composition" not in held.columns:
        held = held.assign(composition=composition_keys(fraction_matrix(held["formula"], where=origin)))
    columns = ["formula", "composition", "y_true", "y_pred"]
    return Evidence(training, held[columns].reset_index(drop=True), origin)


def _predictions_of_run(uri: str, info: VersionInfo) -> pd.DataFrame:
    import requests
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    what = f"{info.name} version {info.version}"
    with (
        named_faults(uri, f"reading the predictions of {what}"),
        tempfile.TemporaryDirectory(prefix="crossprop-evidence-") as scratch,
    ):
        try:
            path = download_artifacts(
                run_id=info.run_id, artifact_path=PREDICTIONS_FILE, dst_path=scratch, tracking_uri=uri
            )
        except (
            requests.RequestException
        ):  # an OSError, too: the store does not answer, nothing is known to be gone
            raise
        except (MlflowException, OSError) as error:
            if isinstance(error, MlflowException) and error.error_code not in _ABSENT:
                raise
            raise TrackingError(
                f"{what} has no {EVIDENCE_FILE}, and its run {info.run_id} or the predictions logged on it are gone."
            ) from error
        return _read(Path(path))


_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND")


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except CrosspropError:
        raise
    except Exception as error:  # pyarrow has an exception of its own for every kind of damage
        raise TrackingError(f"{path} is damaged: {str(error)[:200]}. Register the winner again.") from error


TOLERANCE = 1e-3
"""Largest difference between a logged and a repeated prediction, as a share of the values' spread."""
COVERAGE_MARGIN = 0.03
LEAST_SHARED = 30
"""Rows that two different hold-outs have to share for a comparison."""
_CONFIDENCE = 0.95
_RESAMPLES = 10_000
_BLOCK_ENTRIES = 4_000_000
_OUTPUTS = {"value": "double", "lower": "double", "upper": "double", "in_domain": "boolean", "note": "string"}


@dataclass(frozen=True)
class Gate:
    """One condition for becoming champion.

    Attributes:
        key: Short name, also of the version tag that keeps the figure.
        title: What is asked for.
        passed: Whether it is met; a gate without evidence is not.
        figure: What was found, with numbers and units.
        measured: ``False`` where there was no evidence to judge by.
    """

    key: str
    title: str
    passed: bool
    figure: str
    measured: bool = True

    def __str__(self) -> str:
        verdict = "pass" if self.passed else "FAIL" if self.measured else "NONE"
        return f"{verdict}  {self.title:<34} {self.figure}"


TITLES = {
    "repeats": "loads and repeats its predictions",
    "base": "beats the mean (base)",
    "champion": "against the champion",
    "origin": "data and code known",
    "signature": "signature as the service expects",
    "coverage": "interval coverage",
}


def gate(key: str, passed: bool, figure: str, *, measured: bool = True) -> Gate:
    """A gate by its key."""
    return Gate(key, TITLES[key], bool(passed), figure, measured)


def no_evidence(key: str, why: CrosspropError | str) -> Gate:
    """A gate that cannot be judged; it counts as failed and says so."""
    return gate(key, False, f"no evidence: {why}", measured=False)


def repeats_predictions(evidence: Evidence, rows: np.ndarray, repeated: Repeated) -> Gate:
    """Whether the model gave the logged predictions again in the clean process.

    Args:
        evidence: What was logged.
        rows: Which rows of the hold-out were predicted, shape (n,).
        repeated: What the model gave for them.
    """
    logged = evidence.holdout["y_pred"].to_numpy(dtype=float)
    spread = max(float(np.ptp(evidence.holdout["y_true"])), float(np.abs(logged).max()), 1e-12)
    gaps = np.abs(repeated.value - logged[rows])
    worst = int(np.argmax(gaps))
    share = f"{gaps[worst] / spread:.1e} of the values' spread"
    if gaps[worst] <= TOLERANCE * spread:
        return gate(
            "repeats",
            True,
            f"{len(rows):,} hold-out rows, largest difference {gaps[worst]:.2g} ({share}); "
            f"loaded in {repeated.load_seconds:.1f} s",
        )
    formula = evidence.holdout["formula"].iloc[rows[worst]]
    return gate(
        "repeats",
        False,
        f"gives {repeated.value[worst]:.6g} for {formula}, {logged[rows][worst]:.6g} was logged ({share}, at most "
        f"{TOLERANCE:g}): its files and its results are not of the same training",
    )


def beats_base(evidence: Evidence, unit: str) -> Gate:
    """Whether its hold-out MAE is below that of the mean of the training values."""
    mae, base = evidence.mae, evidence.base_mae()
    compared = f"MAE {_value(mae, unit)} against {base:.4g}"
    share = f" ({mae / base - 1:+.0%})" if base > 0 else ""
    return gate(
        "base",
        mae < base,
        f"{compared}{share}, {evidence.median_mae():.4g} for the median; {_rows(evidence)}",
    )


def against_champion(evidence: Evidence, champion: Evidence, version: str, unit: str) -> Gate:
    """Whether it is no worse than the champion beyond what the hold-out can tell.

    Compositions are drawn with all their rows (a bootstrap of pairs), since polymorphs share an error's cause.

    Args:
        evidence: Of the version that would be champion.
        champion: Of the present champion.
        version: The champion's number, for the figure.
        unit: Unit of the property.
    """
    pairs = _pairs(evidence.holdout, champion.holdout)
    both = len(evidence.holdout), len(champion.holdout)
    same = len(pairs) == both[0] == both[1]
    if not same and len(pairs) < LEAST_SHARED:
        shared = f"its hold-out of {both[0]:,} rows shares {len(pairs)} with the {both[1]:,} of champion v{version}"
        return no_evidence("champion", f"{shared}; at least {LEAST_SHARED} are needed")
    gaps = (pairs["y_true"] - pairs["y_pred"]).abs() - (pairs["y_true"] - pairs["y_pred_champion"]).abs()
    low, high = cluster_interval(gaps.to_numpy(), pairs["composition"].to_numpy())
    gap = float(gaps.mean())
    text = f"MAE {gap:+.4g} [{low:+.3g}, {high:+.3g}]{_unit(unit)} against v{version} (95 %), "
    if same:
        text += _rows(evidence)
    else:
        text += f"on the {len(pairs):,} rows that the hold-outs share (of {both[0]:,} and {both[1]:,})"
    if not gaps.any():
        verdict = "equal errors"
    elif low > 0:
        verdict = "worse beyond doubt"
    else:
        verdict = "better beyond doubt" if high < 0 else "no more than chance"
    return gate("champion", low <= 0, f"{text}: {verdict}")


def cluster_interval(
    gaps: np.ndarray, groups: np.ndarray, confidence: float = _CONFIDENCE
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean, whole groups of rows drawn with replacement.

    Args:
        gaps: Values, shape (n,).
        groups: Group of each, shape (n,).
        confidence: Share of resampled means inside the interval.
    """
    _, index = np.unique(groups.astype(str), return_inverse=True)
    totals, counts = np.bincount(index, weights=gaps), np.bincount(index)
    rng = np.random.default_rng(DEFAULT_SEED)
    block = max(1, _BLOCK_ENTRIES // len(totals))
    means = []
    for start in range(0, _RESAMPLES, block):
        drawn = rng.integers(0, len(totals), size=(min(block, _RESAMPLES - start), len(totals)))
        means.append(totals[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def known_origin(tags: Mapping[str, str], dirty: str | None) -> Gate:
    """Whether the hash of the data and the commit of the code are known; uncommitted changes are shown.

    Args:
        tags: Of the version.
        dirty: ``"true"`` or ``"false"`` where the version or its run say so.
    """
    data, commit = tags.get("crossprop.data_hash", ""), tags.get("crossprop.git_commit", "")
    state = {"true": " with uncommitted changes", "false": ""}.get(dirty or "", ", changes beside it unknown")
    text = f"data {data[:12] or 'unknown'}, commit {commit[:12] + state if commit else 'unknown'}"
    return gate("origin", bool(data and commit), text)


def expected_signature(described: Mapping[str, Any], info: Mapping[str, Any], target: str, unit: str) -> Gate:
    """Whether the model takes formulas and returns what the service reads, for the property it is registered as.

    Args:
        described: Content of ``MLmodel``.
        info: Content of the ensemble's ``model.json``.
        target: Target property of the registered model.
        unit: Its unit.
    """
    signature = described.get("signature") or {}
    try:
        takes, gives = (
            {str(c["name"]): str(c["type"]) for c in json.loads(signature[side])}
            for side in ("inputs", "outputs")
        )
    except (KeyError, TypeError, ValueError):
        return gate("signature", False, "the model states no signature; register the winner again")
    text = f"{', '.join(takes)} → {', '.join(gives)}"
    wrong = [f"{k} ({v})" for k, v in _OUTPUTS.items() if gives.get(k) != v]
    if takes != {"formula": "string"} or wrong:
        wanted = f"a text 'formula' and the outputs {', '.join(wrong)}" if wrong else "one text 'formula'"
        return gate("signature", False, f"{text}; the service needs {wanted}")
    stated = str(info.get("target")), str(info.get("unit") or "")
    if stated[0] != target or (unit and stated[1] != unit):
        return gate(
            "signature", False, f"the files are of {stated[0]} in {stated[1]}, not of {target} in {unit}"
        )
    return gate("signature", True, f"{text}, in {unit}" if _unit(unit) else text)


def coverage_within_bounds(y_true: np.ndarray, repeated: Repeated) -> Gate:
    """Whether the interval held the value as often as stated, within 3 points or what chance allows.

    Args:
        y_true: Values held out, shape (n,).
        repeated: Intervals that the model gave for them.
    """
    held = (repeated.lower <= y_true) & (y_true <= repeated.upper)
    low, high = coverage_bounds(repeated.stated, len(held))
    share = float(held.mean())
    return gate(
        "coverage",
        low <= share <= high,
        f"{share:.1%} of {len(held):,} hold-out rows, {repeated.stated:.0%} stated (allowed {low:.1%} to {high:.1%})",
    )


def coverage_bounds(stated: float, n: int) -> tuple[float, float]:
    """Stated coverage ± 3 points, or the 99 % band of n draws where that is wider.

    The band is binomial: exact if the rows were independent of the calibration and of each other.
    """
    from scipy.stats import binom

    low, high = (float(k) / n for k in binom.interval(0.99, n, stated))
    return min(low, stated - COVERAGE_MARGIN), min(1.0, max(high, stated + COVERAGE_MARGIN))


def _pairs(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Rows that two hold-outs share: same composition and value, repeated ones in their order."""
    keyed = []
    for rows in (first, second):
        rows = rows.assign(value=[f"{v:.6g}" for v in rows["y_true"]])
        keyed.append(rows.assign(turn=rows.groupby(["composition", "value"]).cumcount()))
    on = ["composition", "value", "turn"]
    other = keyed[1][[*on, "y_pred"]].rename(columns={"y_pred": "y_pred_champion"})
    return keyed[0].merge(other, on=on, how="inner")


def _rows(evidence: Evidence) -> str:
    return f"{len(evidence.holdout):,} hold-out rows"


def _unit(unit: str) -> str:
    return f" {unit}" if unit not in ("", "1") else ""


def _value(value: float, unit: str) -> str:
    return f"{value:.4g}{_unit(unit)}"


T = TypeVar("T")
MOST_ROWS = 2_000
"""So many rows of the hold-out are predicted anew, drawn evenly."""


def judge(
    uri: str,
    candidate: VersionInfo,
    champion: VersionInfo | None,
    process: CleanProcess,
    report: Callable[[Gate], None] = lambda gate: None,
) -> list[Gate]:
    """Hold a version against all gates; what cannot be judged counts as failed and says why.

    Args:
        uri: Store.
        candidate: The version that would be champion.
        champion: The present champion.
        process: Where the model is loaded.
        report: Receives every gate as it is judged.

    Raises:
        StoreOutOfReachError: The store does not answer.
    """
    judged: list[Gate] = []

    def add(gate: Gate) -> None:
        judged.append(gate)
        report(gate)

    folder = _or_error(lambda: predictor_folder(uri, candidate))
    evidence = _or_error(lambda: load_evidence(uri, candidate, folder if isinstance(folder, Path) else None))
    first, coverage = _from_clean_process(folder, evidence, process)
    add(first)
    if isinstance(evidence, Evidence):
        add(beats_base(evidence, candidate.unit))
    else:
        add(no_evidence("base", evidence))
    add(_against_champion(uri, candidate, evidence, champion))
    add(known_origin(candidate.tags, _dirty(uri, candidate)))
    add(_signature(uri, candidate, folder))
    add(coverage)
    return judged


def _from_clean_process(
    folder: Path | CrosspropError, evidence: Evidence | CrosspropError, process: CleanProcess
) -> tuple[Gate, Gate]:
    """The first gate and the coverage: both need what the model gives."""
    if not isinstance(folder, Path):
        return gate("repeats", False, str(folder)), no_evidence("coverage", "the model cannot be loaded")
    if not isinstance(evidence, Evidence):
        return no_evidence("repeats", evidence), no_evidence("coverage", "no hold-out")
    n = len(evidence.holdout)
    rows = np.unique(np.linspace(0, n - 1, min(n, MOST_ROWS)).round().astype(int))
    try:
        repeated = process.repeat(folder, evidence.holdout["formula"].iloc[rows].tolist())
    except PromotionError as error:
        return gate("repeats", False, str(error)), no_evidence("coverage", "the model cannot be loaded")
    covered = coverage_within_bounds(evidence.holdout["y_true"].to_numpy(dtype=float)[rows], repeated)
    return repeats_predictions(evidence, rows, repeated), covered


def _against_champion(
    uri: str, candidate: VersionInfo, evidence: Evidence | CrosspropError, champion: VersionInfo | None
) -> Gate:
    if champion is None:
        return gate("champion", True, "no champion yet")
    if champion.version == candidate.version:
        return gate("champion", True, "is the champion itself")
    if not isinstance(evidence, Evidence):
        return no_evidence("champion", evidence)
    folder = _or_error(lambda: predictor_folder(uri, champion))
    other = _or_error(lambda: load_evidence(uri, champion, folder if isinstance(folder, Path) else None))
    if not isinstance(other, Evidence):
        return no_evidence("champion", other)
    return against_champion(evidence, other, champion.version, candidate.unit)


def _signature(uri: str, candidate: VersionInfo, folder: Path | CrosspropError) -> Gate:
    if not isinstance(folder, Path):
        return no_evidence("signature", folder)
    try:
        info = json.loads((folder / INFO_FILE).read_text(encoding="utf-8"))
        return expected_signature(read_mlmodel(uri, candidate), info, candidate.target, candidate.unit)
    except (TrackingError, OSError, ValueError) as error:
        return no_evidence("signature", str(error))


def _dirty(uri: str, version: VersionInfo) -> str | None:
    """Whether the code had uncommitted changes; versions of old say so on their run only."""
    if "crossprop.git_dirty" in version.tags or not version.run_id:
        return version.tags.get("crossprop.git_dirty")
    from mlflow.exceptions import MlflowException

    with open_registry(uri, f"reading the run of {version.name} version {version.version}") as client:
        try:
            return client.get_run(version.run_id).data.tags.get("crossprop.git_dirty")
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise


def _or_error(get: Callable[[], T]) -> T | CrosspropError:
    try:
        return get()
    except StoreOutOfReachError:
        raise
    except CrosspropError as error:
        return error
