"""DVC stage ``transfer``: every cell of the targets of one shard, scratch and transfer."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from crossprop.config import PARAMS_FILE, load_params
from crossprop.errors import ConfigError, run_command
from crossprop.experiments.results import Recorder
from crossprop.experiments.targets import run_targets
from crossprop.paths import StudyPaths
from crossprop.tracking.provenance import open_study_context, system_metrics
from crossprop.tracking.runs import record_cell


def main() -> None:
    """Compute, record and write the cells of the shard's targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shard", required=True, help="a key of study.shards")
    parser.add_argument("--params", type=Path, default=PARAMS_FILE)
    args = parser.parse_args()
    params = load_params(args.params)
    if args.shard not in params.study.shards:
        raise ConfigError(f"{args.shard!r} is no shard of the study {params.study.name}: {list(params.study.shards)}.")
    paths = StudyPaths.of(params.study)

    def recorder(data_hashes: dict[str, str]) -> Recorder:
        return partial(record_cell, open_study_context(params, paths, data_hashes))

    with system_metrics(paths.root):
        run_targets(params, params.study.shards[args.shard], paths, recorder)


if __name__ == "__main__":
    run_command(main)
