"""The networks of a study, pretrained side by side on a Ray cluster: the folders are those of the stages."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from crossprop.config import Params
from crossprop.errors import CellError, CrosspropError
from crossprop.experiments.fingerprint import code_digest, data_digest
from crossprop.experiments.pretrain import joint_rows, load_provenance, pretrain_joint, pretrain_source
from crossprop.experiments.progress import Print, show
from crossprop.experiments.ray_cluster import DEATHS, Files, RayCluster, packed, unpack
from crossprop.io import atomic_folder
from crossprop.paths import StudyPaths
from crossprop.training.device import fast_precision, process_environment

Record = Callable[[dict[str, Any], pd.DataFrame], None]
"""Takes the provenance and the history of a network, as :func:`pretrain_source` returns them."""


def pretrain_networks(
    params: Params, units: Mapping[str, str], paths: StudyPaths, record: Record, write: Print = show
) -> None:
    """Train all networks of a study that are not there yet, one on each source and the joint ones, and write them.

    Each is a task of the cluster ``compute.ray``; together they share its CPUs. A network whose node died is begun
    anew elsewhere.

    Raises:
        ConfigError: The cluster cannot be used.
        CellError: Networks could not be trained; the others are written.
    """
    study, compute = params.study, params.compute
    wanted = {name: (name,) for name in study.elemnet_sources} | dict(study.joint)
    missing = {
        name: sources for name, sources in wanted.items() if not _finished(params, name, sources, paths)
    }
    if not missing:
        write(f"{study.name}: all {len(wanted)} networks are there")
        return
    cluster = RayCluster(compute.ray, write)
    ray = cluster.ray
    try:
        shared = min(cluster.largest, cluster.cpus // len(missing))
        threads = compute.workers or max(1, int(max(shared, compute.ray.cpus)))
        # The precision is that of the driver, whichever node trains.
        precision = fast_precision() if compute.pretrain_precision == "auto" else compute.pretrain_precision
        changed = compute.model_copy(update={"workers": threads, "pretrain_precision": precision})
        run = ray.remote(
            num_cpus=threads,
            num_gpus=compute.ray.gpus,
            max_retries=DEATHS,
            max_calls=1,  # a backend takes its threads once in a process
            runtime_env={"env_vars": process_environment(compute.backend, threads)},
        )(_pretrain)
        flying = {}
        for name, sources in missing.items():
            given = {}
            for source in sources:
                files, matrices = paths.prepared(source), paths.features(source)
                given[files.parent.relative_to(paths.root), source] = ray.put(packed(files))
                given[matrices.relative_to(paths.root), source] = ray.put(packed(matrices))
            task = run.options(name=f"pretrain {name}").remote(
                params.model_copy(update={"compute": changed}), name, dict(units), given
            )
            flying[task] = name
        write(f"{study.name}: pretraining {', '.join(missing)} with {threads} threads each")
        failed = []
        while flying:
            (task,), _ = ray.wait([*flying])
            name = flying.pop(task)
            try:
                network, provenance, history = ray.get(task)
            except ray.exceptions.RayError as error:
                cause = getattr(error, "cause", error)
                failed.append(f"{name} ({type(cause).__name__}: {cause})")
                continue
            with atomic_folder(paths.source_model(name)) as draft:
                unpack(network, draft)
            record(provenance, history)
            mae = (
                f"validation MAE {provenance['validation_mae']:.4g} {provenance['unit'] or 'of the medians'}"
            )
            write(f"{name}: trained in {provenance['seconds']:.0f} s, {mae}")
    finally:
        cluster.close()
    if failed:
        raise CellError(
            f"Not pretrained: {'; '.join(failed)}. Run the command again: the other networks are kept."
        )


def _finished(params: Params, name: str, sources: Sequence[str], paths: StudyPaths) -> bool:
    """Whether a network is there that learnt the same rows by the same recipe, seed and code."""
    try:
        known = load_provenance(paths.source_model(name))
    except CrosspropError:  # missing or damaged
        return False
    study, joint = params.study, name in params.study.joint
    recipe = study.joint_pretrain if joint else study.pretrain
    if joint:
        data = joint_rows(tuple(sources), paths).digest
    else:
        data = data_digest(pd.read_parquet(paths.prepared(name)))
    now = {
        "edition": study.edition,
        "recipe": None if recipe is None else recipe.model_dump(mode="json"),
        "seed": study.seed,
        "data_sha256": data,
        "code_sha256": code_digest(),
    }
    return all(known.get(key) == value for key, value in now.items()) and (
        known["versions"]["backend"] == params.compute.backend
    )


def _pretrain(
    params: Params, name: str, units: dict[str, str], given: dict[tuple[Path, str], Any]
) -> tuple[Files, dict[str, Any], pd.DataFrame]:
    """Train a network on a node: its files, its provenance and its history."""
    import ray

    with TemporaryDirectory(prefix="crossprop-") as folder:
        paths = StudyPaths(params.study.name, Path(folder))
        for (place, _), reference in given.items():
            unpack(ray.get(reference), paths.root / place)
        if name in params.study.joint:
            train = partial(pretrain_joint, params, name, units, paths)
        else:
            train = partial(pretrain_source, params, name, units[name], paths)
        provenance, history = train()
        return packed(paths.source_model(name)), provenance, history
