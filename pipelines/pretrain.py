"""DVC stage ``pretrain``: the network of one source property."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossprop.config import PARAMS_FILE, load_params
from crossprop.data.catalog import load_catalog
from crossprop.errors import run_command
from crossprop.experiments.pretrain import pretrain_source
from crossprop.paths import StudyPaths
from crossprop.tracking.provenance import open_study_context, system_metrics
from crossprop.tracking.runs import record_pretraining


def main() -> None:
    """Train, save and record one source network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True, help="a source property of the study")
    parser.add_argument("--params", type=Path, default=PARAMS_FILE)
    args = parser.parse_args()
    params = load_params(args.params)
    paths = StudyPaths(params.study.name)
    unit = load_catalog().property(args.source).unit
    with system_metrics(paths.root):
        provenance, history = pretrain_source(params, args.source, unit, paths)
    context = open_study_context(params, paths, {args.source: provenance["data_sha256"]})
    record_pretraining(context, provenance, history)


if __name__ == "__main__":
    run_command(main)
