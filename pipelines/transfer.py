"""DVC stage ``transfer``: every cell of one target property, scratch and transfer."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from crossprop.config import PARAMS_FILE, load_params
from crossprop.console import run_command
from crossprop.experiments.target import run_target
from crossprop.paths import StudyPaths
from crossprop.tracking.runs import MlflowRecorder
from crossprop.tracking.study_context import open_study_context


def main() -> None:
    """Compute, record and write the cells of one target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True, help="a target property of the study")
    parser.add_argument("--params", type=Path, default=PARAMS_FILE)
    args = parser.parse_args()
    params = load_params(args.params)
    paths = StudyPaths(params.study.name)

    def recorder(prepared: pd.DataFrame, data_hash: str) -> MlflowRecorder:
        return MlflowRecorder(open_study_context(params, paths, {args.target: data_hash}))

    run_target(params, args.target, paths, recorder)


if __name__ == "__main__":
    run_command(main)
