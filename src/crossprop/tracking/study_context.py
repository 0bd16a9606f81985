"""From a study's configuration to what its runs have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from crossprop.config import Params
from crossprop.data.catalog import load_catalog
from crossprop.paths import StudyPaths
from crossprop.tracking.context import RunContext
from crossprop.tracking.provenance import git_state
from crossprop.tracking.reaper import claim_project_run, project_run_id, reap_dead_runs
from crossprop.tracking.store import open_client, prepare_store, store_uri


def open_study_context(params: Params, paths: StudyPaths, data_hashes: Mapping[str, str]) -> RunContext:
    """Make the tracking store ready for a stage: initialise it, end dead runs, claim the stage's own.

    Args:
        params: Configuration.
        paths: Where the study's files lie.
        data_hashes: Hash of the prepared table of every property, or joint network's sources, that the stage works on.

    Raises:
        TrackingError: The store is locked, damaged, not writable or not reachable.
    """
    own_run = project_run_id()
    uri = prepare_store(store_uri(paths.root))
    client = open_client(uri)
    claim_project_run(client, own_run, params.study.name)
    reap_dead_runs(client, params.study.name)
    catalog = load_catalog()
    joint = {name: f"Joint network of {', '.join(sources)}" for name, sources in params.study.joint.items()}
    return RunContext(
        uri=uri,
        study=params.study.name,
        git=git_state(Path(paths.root)),
        data_hashes=dict(data_hashes),
        data_sources={name: str(paths.prepared(name)) for name in data_hashes},
        descriptions={name: joint.get(name) or catalog.property(name).description for name in data_hashes},
        config_text=yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False),
    )
