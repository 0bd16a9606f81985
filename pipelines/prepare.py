"""DVC stage ``prepare``: cleaned, split tables; source rows free of every target's compositions."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossprop.config import PARAMS_FILE, load_params
from crossprop.data.catalog import load_catalog
from crossprop.data.prepare import prepare_study
from crossprop.errors import run_command
from crossprop.experiments.progress import show
from crossprop.paths import StudyPaths


def main() -> None:
    """Prepare every property of the study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=PARAMS_FILE)
    study = load_params(parser.parse_args().params).study
    paths = StudyPaths.of(study)
    prepare_study(
        load_catalog(),
        study.targets,
        study.sources,
        paths.raw,
        paths.prepared_folder,
        excluded=study.excluded,
        edition=study.edition,
        seed=study.seed,
        report=show,
    )


if __name__ == "__main__":
    run_command(main)
