"""DVC stage ``featurize``: the matrices of one property."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from crossprop.config import PARAMS_FILE, load_params
from crossprop.console import run_command
from crossprop.features.matrices import write_features
from crossprop.paths import StudyPaths
from crossprop.vocabulary import Representation


def main() -> None:
    """Write elemental fractions, and for a target the study's other representations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--property", required=True)
    parser.add_argument("--params", type=Path, default=PARAMS_FILE)
    args = parser.parse_args()
    study = load_params(args.params).study
    paths = StudyPaths(study.name)
    wanted = [
        Representation.ELEMENTAL_FRACTIONS,
        *(study.representations if args.property in study.targets else ()),
    ]
    table = paths.prepared(args.property)
    write_features(pd.read_parquet(table), paths.features(args.property), wanted, where=str(table))


if __name__ == "__main__":
    run_command(main)
