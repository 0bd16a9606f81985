"""DVC stage ``register``: the winner of every target becomes a version with the alias ``challenger``."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossprop.config import PARAMS_FILE, load_params
from crossprop.errors import run_command
from crossprop.paths import StudyPaths
from crossprop.tracking.registration import register_study


def main() -> None:
    """Register the study's winners."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=PARAMS_FILE)
    params = load_params(parser.parse_args().params)
    register_study(params, StudyPaths.of(params.study))


if __name__ == "__main__":
    run_command(main)
