"""DVC stages ``pretrain`` and ``pretrain_joint``: the network of one source property, or of several at once."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossprop.config import PARAMS_FILE, load_params
from crossprop.data.catalog import load_catalog
from crossprop.errors import run_command
from crossprop.experiments.pretrain import pretrain
from crossprop.paths import StudyPaths
from crossprop.tracking.provenance import open_study_context, system_metrics
from crossprop.tracking.runs import record_pretraining


def main() -> None:
    """Train, save and record one network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="a source property of the study, or a key of study.joint")
    parser.add_argument("--params", type=Path, default=PARAMS_FILE)
    args = parser.parse_args()
    params = load_params(args.params)
    paths, catalog = StudyPaths.of(params.study), load_catalog()
    units = {source: catalog.property(source).unit for source in params.study.sources}
    with system_metrics(paths.root):
        provenance, history = pretrain(params, args.name, units, paths)
    context = open_study_context(params, paths, {args.name: provenance["data_sha256"]})
    record_pretraining(context, provenance, history)


if __name__ == "__main__":
    run_command(main)
