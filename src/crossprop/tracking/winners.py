"""Registers the winner of every target of a study."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from crossprop.config import Params
from crossprop.errors import StoreError
from crossprop.experiments.fingerprint import data_digest
from crossprop.experiments.progress import Print, show
from crossprop.experiments.results import CellResult
from crossprop.paths import StudyPaths
from crossprop.tracking.registry import RegisteredVersion, Winner, register_winners
from crossprop.tracking.study_context import open_study_context


def register_study(params: Params, paths: StudyPaths, write: Print = show) -> list[RegisteredVersion]:
    """Register all winners and list them in the study's list of registered versions.

    Raises:
        StoreError: A target's results are missing or damaged.
        TrackingError: The store or the registry refuses.
    """
    hashes = {t: data_digest(pd.read_parquet(paths.prepared(t))) for t in params.study.targets}
    context = open_study_context(params, paths, hashes)

    def winners() -> Iterator[Winner]:
        for target in params.study.targets:
            folder = paths.results(target)
            winner, run_id = _winner(folder)
            if winner is None:
                write(f"{target}: no cell finished, nothing to register")
                continue
            predictions = pd.read_parquet(folder / "predictions.parquet")
            own = predictions[predictions["cell"] == winner.cell].drop(columns="cell")
            yield Winner(run_id, winner, folder / "model", own)

    def told(winner: Winner, version: RegisteredVersion) -> None:
        state = "registered" if version.created else "was registered already"
        write(f"{version.name} version {version.version}: {winner.result.label}, {state}")

    versions = register_winners(context, winners(), report=told)
    listed = [{"name": v.name, "version": v.version, "run_id": v.run_id, "uri": v.uri} for v in versions]
    paths.registry.parent.mkdir(parents=True, exist_ok=True)
    paths.registry.write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
    return versions


def _winner(folder: Path) -> tuple[CellResult | None, str]:
    try:
        winner = json.loads((folder / "winners.json").read_text(encoding="utf-8"))["winner"]
        cells = [
            CellResult.from_dict(c) for c in json.loads((folder / "cells.json").read_text(encoding="utf-8"))
        ]
        runs = {
            r["cell"]: r["run_id"] for r in json.loads((folder / "runs.json").read_text(encoding="utf-8"))
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder} holds no complete results: {error}. Run its transfer stage.") from error
    chosen = next((cell for cell in cells if cell.cell == winner), None)
    return chosen, runs.get(winner, "")
