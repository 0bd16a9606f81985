"""DVC stage ``summarize``: the report of the study."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossprop.config import PARAMS_FILE, load_params
from crossprop.errors import run_command
from crossprop.paths import StudyPaths
from crossprop.report.summary import summarize


def main() -> None:
    """Write tables, figures and pages from the cells that the configuration enumerates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=PARAMS_FILE)
    params = load_params(parser.parse_args().params)
    paths = StudyPaths.of(params.study)
    print(summarize(params.study, paths, paths.reports), flush=True)


if __name__ == "__main__":
    run_command(main)
