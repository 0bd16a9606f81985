"""DVC stage ``fetch``: the files of the study's properties, verified."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossprop.config import PARAMS_FILE, load_params
from crossprop.data.catalog import load_catalog
from crossprop.data.download import fetch_files, print_progress
from crossprop.errors import run_command
from crossprop.paths import RAW


def main() -> None:
    """Copy or download every pinned file that is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=PARAMS_FILE)
    study = load_params(parser.parse_args().params).study
    files = load_catalog().pinned_files([*study.targets, *study.sources, *study.excluded], study.edition)
    RAW.mkdir(parents=True, exist_ok=True)
    fetch_files(files, RAW, report=print_progress)


if __name__ == "__main__":
    run_command(main)
