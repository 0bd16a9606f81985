"""DVC stage ``register``: the winner of every target becomes a version with the alias ``challenger``."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossprop.config import PARAMS_FILE, load_params
from crossprop.errors import run_command
from crossprop.io import write_json
from crossprop.paths import StudyPaths
from crossprop.tracking.registration import register_study


def main() -> None:
    """Register the study's winners."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=PARAMS_FILE)
    params = load_params(parser.parse_args().params)
    paths = StudyPaths.of(params.study)
    if params.study.leaks:
        paths.registry.parent.mkdir(parents=True, exist_ok=True)
        write_json(paths.registry, [])
        print(
            f"Nothing is registered: the sources of the study {params.study.name} may hold compositions of the "
            f"hold-out (study.excluded). It is for comparison only; the report is in {paths.reports}.",
            flush=True,
        )
        return
    versions = register_study(params, paths)
    print(
        f"{len(versions)} of {len(params.study.targets)} targets of the study {params.study.name} have a registered "
        f"model; the report is in {paths.reports}.\nNext: crossprop models (what is registered), crossprop ui (the "
        "runs), crossprop promote --all (those that pass the gates become champions)",
        flush=True,
    )


if __name__ == "__main__":
    run_command(main)
