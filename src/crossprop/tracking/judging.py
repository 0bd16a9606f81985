"""Holds a registered version against all gates."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from crossprop.errors import CrosspropError, PromotionError, TrackingError
from crossprop.experiments.recording import StoreOutOfReachError
from crossprop.models.saved import INFO_FILE
from crossprop.tracking import gates
from crossprop.tracking.clean_process import CleanProcess
from crossprop.tracking.evidence import Evidence, load_evidence
from crossprop.tracking.gates import Gate, no_evidence
from crossprop.tracking.model_files import predictor_folder, read_mlmodel
from crossprop.tracking.open_registry import open_registry
from crossprop.tracking.versions import VersionInfo

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
        add(gates.beats_base(evidence, candidate.unit))
    else:
        add(no_evidence("base", evidence))
    add(_against_champion(uri, candidate, evidence, champion))
    add(gates.known_origin(candidate.tags, _dirty(uri, candidate)))
    add(_signature(uri, candidate, folder))
    add(coverage)
    return judged


def _from_clean_process(
    folder: Path | CrosspropError, evidence: Evidence | CrosspropError, process: CleanProcess
) -> tuple[Gate, Gate]:
    """The first gate and the coverage: both need what the model gives."""
    if not isinstance(folder, Path):
        return gates.gate("repeats", False, str(folder)), no_evidence(
            "coverage", "the model cannot be loaded"
        )
    if not isinstance(evidence, Evidence):
        return no_evidence("repeats", evidence), no_evidence("coverage", "no hold-out")
    n = len(evidence.holdout)
    rows = np.unique(np.linspace(0, n - 1, min(n, MOST_ROWS)).round().astype(int))
    try:
        repeated = process.repeat(folder, evidence.holdout["formula"].iloc[rows].tolist())
    except PromotionError as error:
        return gates.gate("repeats", False, str(error)), no_evidence("coverage", "the model cannot be loaded")
    covered = gates.coverage_within_bounds(evidence.holdout["y_true"].to_numpy(dtype=float)[rows], repeated)
    return gates.repeats_predictions(evidence, rows, repeated), covered


def _against_champion(
    uri: str, candidate: VersionInfo, evidence: Evidence | CrosspropError, champion: VersionInfo | None
) -> Gate:
    if champion is None:
        return gates.gate("champion", True, "no champion yet")
    if champion.version == candidate.version:
        return gates.gate("champion", True, "is the champion itself")
    if not isinstance(evidence, Evidence):
        return no_evidence("champion", evidence)
    folder = _or_error(lambda: predictor_folder(uri, champion))
    other = _or_error(lambda: load_evidence(uri, champion, folder if isinstance(folder, Path) else None))
    if not isinstance(other, Evidence):
        return no_evidence("champion", other)
    return gates.against_champion(evidence, other, champion.version, candidate.unit)


def _signature(uri: str, candidate: VersionInfo, folder: Path | CrosspropError) -> Gate:
    if not isinstance(folder, Path):
        return no_evidence("signature", folder)
    try:
        info = json.loads((folder / INFO_FILE).read_text(encoding="utf-8"))
        return gates.expected_signature(read_mlmodel(uri, candidate), info, candidate.target, candidate.unit)
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
