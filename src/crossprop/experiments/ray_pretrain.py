"""The networks of a study, pretrained side by side on a Ray cluster: the folders are those of the stages."""

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from crossprop.config import Params
from crossprop.errors import CellError, CrosspropError
from crossprop.experiments.fingerprint import OF_NETWORKS, code_digest, data_digest
from crossprop.experiments.pretrain import joint_digest, load_provenance, pretrain, recipes
from crossprop.experiments.progress import Print, show
from crossprop.experiments.ray_cluster import DEATHS, Files, RayCluster, packed, unpack
from crossprop.io import atomic_folder
from crossprop.paths import StudyPaths
from crossprop.training.device import precision_of, process_environment

Record = Callable[[dict[str, Any], pd.DataFrame], None]


def pretrain_networks(
    params: Params, units: Mapping[str, str], paths: StudyPaths, record: Record, write: Print = show
) -> None:
    """Train and write all networks of a study that are not there yet, one on each source and the joint ones.

    Each is a task of the cluster ``compute.ray``; together they share its CPUs. A network whose node died is begun
    anew elsewhere. ``record`` takes provenance and history of each, as :func:`pretrain` returns them. Networks
    that could not be trained are a CellError; the others are written.
    """
    study, compute = params.study, params.compute
    wanted = {name: (name,) for name in study.elemnet_sources} | dict(study.joint)
    missing = {name: sources for name, sources in wanted.items() if not _finished(params, name, paths)}
    if not missing:
        write(f"{study.name}: all {len(wanted)} networks are there")
        return
    cluster, flying, failed = RayCluster(compute.ray, write), dict[Any, str](), list[str]()
    ray = cluster.ray
    try:
        shared = min(cluster.largest, cluster.cpus // len(missing))
        threads = min(compute.workers or int(max(shared, compute.ray.cpus)), int(cluster.largest)) or 1
        # The precision is that of the driver, whichever node trains.
        changed = compute.model_copy(update={"workers": threads, "precision": precision_of(compute.precision)})
        run = ray.remote(
            num_cpus=threads,
            num_gpus=compute.ray.gpus,
            max_retries=DEATHS,
            max_calls=1,  # a backend takes its threads once in a process
            runtime_env={"env_vars": process_environment(compute.backend, threads)},
        )(_pretrain)
        given = params.model_copy(update={"compute": changed})
        for name, sources in missing.items():
            files: Files = {}
            for path in (path for s in sources for path in (paths.prepared(s), paths.features(s))):
                place = (path if path.is_dir() else path.parent).relative_to(paths.root)
                files |= {str(place / file): content for file, content in packed(path).items()}
            task = run.options(name=f"pretrain {name}").remote(given, name, dict(units), files)
            flying[task] = name
        write(f"{study.name}: pretraining {', '.join(missing)} with {threads} threads each")
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
            mae = f"validation MAE {provenance['validation_mae']:.4g} {provenance['unit'] or 'of the medians'}"
            write(f"{name}: trained in {provenance['seconds']:.0f} s, {mae}")
    finally:
        cluster.close()
    if failed:
        raise CellError(f"Not pretrained: {'; '.join(failed)}. Run the command again: the other networks are kept.")


def _finished(params: Params, name: str, paths: StudyPaths) -> bool:
    """Whether a network is there that learnt the same rows by the same recipe, seed, code and backend."""
    study = params.study
    try:
        known = load_provenance(paths.source_model(name))
    except CrosspropError:  # missing or damaged
        return False
    tables = {s: data_digest(pd.read_parquet(paths.prepared(s))) for s in study.joint.get(name, (name,))}
    data = joint_digest(tables, paths) if name in study.joint else tables[name]
    if known["recipe"] not in [recipe.model_dump(mode="json") for recipe in recipes(params, name)]:
        return False
    now = (study.edition, study.seed, data, code_digest(OF_NETWORKS))
    keys = ("edition", "seed", "data_sha256", "code_sha256")
    versions = {"backend": params.compute.backend, "precision": precision_of(params.compute.precision)}
    return tuple(map(known.get, keys)) == now and versions.items() <= known["versions"].items()


def _pretrain(params: Params, name: str, units: dict[str, str], given: Files) -> tuple[Files, Any, Any]:
    """Train a network on a node: its files, its provenance and its history."""
    with TemporaryDirectory(prefix="crossprop-") as folder:
        paths = StudyPaths(params.study.name, Path(folder))
        unpack(given, paths.root)
        provenance, history = pretrain(params, name, units, paths)
        return packed(paths.source_model(name)), provenance, history
