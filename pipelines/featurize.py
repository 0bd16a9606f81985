"""DVC stage ``featurize``: the matrices of every property of the study."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from crossprop.config import PARAMS_FILE, load_params
from crossprop.errors import run_command
from crossprop.features.matrices import matrices_of, write_features
from crossprop.paths import StudyPaths


def main() -> None:
    """Write elemental fractions, and physical attributes where a method reads them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=PARAMS_FILE)
    study = load_params(parser.parse_args().params).study
    paths = StudyPaths.of(study)
    for name in (*study.targets, *study.sources):
        table = paths.prepared(name)
        write_features(pd.read_parquet(table), paths.features(name), matrices_of(study, name), where=str(table))


if __name__ == "__main__":
    run_command(main)
