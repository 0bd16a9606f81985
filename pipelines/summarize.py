"""DVC stage ``summarize``: the report of the study."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossprop.config import PARAMS_FILE, load_params
from crossprop.data.catalog import load_catalog
from crossprop.errors import run_command
from crossprop.paths import StudyPaths
from crossprop.report.study import study_info
from crossprop.report.summary import summarize


def main() -> None:
    """Write tables, figures and pages from the cells that the configuration enumerates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=PARAMS_FILE)
    params = load_params(parser.parse_args().params)
    paths, catalog = StudyPaths.of(params.study), load_catalog()
    paper = {target: catalog.property(target).paper for target in params.study.targets}
    summarize(study_info(params, paths), paths, paths.reports, paper)


if __name__ == "__main__":
    run_command(main)
