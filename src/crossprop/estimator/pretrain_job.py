"""A process that trains source networks: ``python -m crossprop.estimator.pretrain_job WORK FOLDER``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from crossprop.config import Params, parse_params
from crossprop.data.catalog import Catalog, load_catalog
from crossprop.data.download import FetchProgress, fetch_files, print_progress
from crossprop.data.prepared import PreparedData
from crossprop.data.sources import prepare_source
from crossprop.errors import FetchError, run_command
from crossprop.estimator.pretrained import (
    EMBEDDED,
    FALLBACK,
    FORMAT,
    JOB_FILE,
    NOTE_FILE,
    SEEN_FILE,
    SourceRecipe,
    composition_codes,
    fallback_of,
)
from crossprop.estimator.study_file import JOINT
from crossprop.experiments.pretrain import pretrain_joint, pretrain_source
from crossprop.experiments.progress import show
from crossprop.features.matrices import write_features
from crossprop.methods import Representation
from crossprop.paths import RAW, StudyPaths

EDITION = "open"
_BOTH = (Representation.ELEMENTAL_FRACTIONS, Representation.PHYSICAL_ATTRIBUTES)


def pretrain_bundle(work: Path, folder: Path) -> None:
    """Do what ``job.json`` in the work folder asks for, and commit the networks to the folder as a whole."""
    started = perf_counter()
    job = json.loads((work / JOB_FILE).read_text(encoding="utf-8"))
    recipe, excluded = SourceRecipe(**job["recipe"]), frozenset(job["keys"])
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if (folder / NOTE_FILE).is_file():  # somebody else was faster
            return
        catalog = load_catalog()
        sources, elemnets, raw, notes = _fetched(catalog, recipe, folder.parent.parent)
        name, place = (FALLBACK, fallback_of(folder)) if notes else (recipe.name, folder)
        if (place / NOTE_FILE).is_file():
            return
        paths = StudyPaths("own", work)
        frames = {}
        for source in sources:
            data = prepare_source(catalog, source, raw, excluded, EDITION, job["seed"])
            frames[source] = _fewer(data.frame, recipe.rows)
            PreparedData(frames[source], data.cleaning).write(paths.prepared_folder, source)
            write_features(frames[source], paths.features(source), _BOTH, where=source)
            show(f"sources: {len(frames[source]):,} compositions of {source}, none of yours among them")
        params = _params(recipe, sources, elemnets, job)
        units = {source: catalog.property(source).unit for source in sources}
        pretrain_joint(params, JOINT, units, paths)
        for source in elemnets:
            pretrain_source(params, source, units[source], paths)
        seen = composition_codes(sorted(set().union(*(frame["composition"] for frame in frames.values()))))
        bundle = paths.source_model(JOINT).parent
        np.save(bundle / SEEN_FILE, np.sort(seen), allow_pickle=False)
        note = {
            "format": FORMAT,
            "recipe": name,
            "sources": list(sources),
            "elemnets": list(elemnets),
            "edition": EDITION,
            "epochs": recipe.epochs,
            "compositions": len(seen),
            "excluded": len(excluded),
            "seconds": round(perf_counter() - started, 1),
            "notes": notes,
        }
        (bundle / NOTE_FILE).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
        bundle.rename(place)
    show(f"sources: trained in {(perf_counter() - started) / 60:.1f} minutes, kept in {place}")


def _fetched(
    catalog: Catalog, recipe: SourceRecipe, cache: Path
) -> tuple[tuple[str, ...], tuple[str, ...], Path, list[str]]:
    """Sources, ElemNet sources, where their files lie, and what has to be said about them."""
    raw = RAW if RAW.is_dir() else cache / "raw"
    try:
        raw.mkdir(parents=True, exist_ok=True)
        files = catalog.pinned_files(recipe.sources, EDITION)
        fetch_files(files, raw, blobs=cache / "blobs", report=_tell_downloads, attempts=3)
    except FetchError as error:
        reason = str(error).partition(" (")[0]
        note = f"the public sources could not be had ({reason}); {', '.join(EMBEDDED)} is used in their place"
        show(f"sources: {note}")
        return EMBEDDED, (), raw, [note]
    return tuple(recipe.sources), tuple(recipe.elemnets), raw, []


def _tell_downloads(progress: FetchProgress) -> None:
    """What is copied from a mirror takes no time; what is downloaded does."""
    if progress.state in ("downloading", "retrying"):
        print_progress(progress)


def _fewer(frame: pd.DataFrame, most: int | None) -> pd.DataFrame:
    """At most so many rows: those with the lowest codes, so that several sources keep the same compositions."""
    if most is None or len(frame) <= most:
        return frame
    codes = composition_codes(frame["composition"])
    return frame.iloc[np.sort(np.argsort(codes, kind="stable")[:most])].reset_index(drop=True)


def _params(
    recipe: SourceRecipe, sources: tuple[str, ...], elemnets: tuple[str, ...], job: dict[str, Any]
) -> Params:
    schedule = {"epochs": recipe.epochs, "batch_size": 512, "weight_decay": 0.01, "learning_rate": 0.001}
    study = {
        "name": "own",
        "title": f"source networks, recipe {recipe.name}",
        "seed": job["seed"],
        "edition": EDITION,
        "targets": ["any"],
        "sources": list(sources),
        "elemnet_sources": list(elemnets),
        "joint": {JOINT: list(sources)},
        "methods": ["base"],
        "representations": ["elemental_fractions"],
        "budget": {"ml_trials": 1, "dl_trials": 1, "seconds": 1.0},
        "pretrain": schedule,
        "joint_pretrain": {**schedule, "learning_rate": 0.002},
        "scratch": schedule,
        "transfer": schedule,
    }
    search: dict[str, Any] = {"ml": {"algorithms": {"ridge": {}}}, "dl": {}, "finetune": {}}
    return parse_params({"study": study, "search": search, "compute": {"workers": job["workers"]}})


if __name__ == "__main__":
    run_command(lambda: pretrain_bundle(Path(sys.argv[1]), Path(sys.argv[2])))
