"""``crossprop study``: study configurations for user data, trials in MLflow, and pretraining on a cluster."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from crossprop.cli.fit import Seed, listed
from crossprop.paths import RAW

app = typer.Typer(help="Study configurations, trials in MLflow, pretraining on a cluster.", no_args_is_help=True)


@app.command("trials")
def record_trials(
    target: Annotated[str, Argument(help="Target, or <study>.<target> where several studies have it.")],
    method: Annotated[str | None, Option(help="Only the cells of this method, such as finetune.")] = None,
    uri: Annotated[str | None, Option(help="Store; MLFLOW_TRACKING_URI or ./mlflow.db by default.")] = None,
) -> None:
    """Record every trial of a target's cells in MLflow, as a child run of its cell; needs no computing."""
    from crossprop.tracking.trials import record_trials as record

    done = record(uri, target, method)
    typer.echo("\n".join(f"{name:<44} {every} trials, {new} recorded now" for name, new, every in done))
    typer.echo("Next: crossprop ui shows them below the run of their cell")


@app.command("new")
def new_study(
    name: Annotated[str, Argument(help="Name of the study: small letters, digits, underscores.")],
    target: Annotated[list[str] | None, Option(help="A target property; may be given again.")] = None,
    targets: Annotated[str | None, Option(help="Target properties, separated by commas.")] = None,
    sources: Annotated[str | None, Option(help="Source properties, by commas; else the tier's.")] = None,
    tier: Annotated[str | None, Option(help="trial, quick (default), standard or full.")] = None,
    minutes: Annotated[float | None, Option(help="Take the largest tier that fits.", min=1)] = None,
    title: Annotated[str | None, Option(help="Heading of the report.")] = None,
    seed: Seed = None,
    replace: Annotated[bool, Option("--replace", help="Replace a study of this name.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Say what it would compute; write nothing.")] = False,
) -> None:
    """Write a study for your own data, with budgets that suit its size."""
    from crossprop.data.catalog import load_catalog
    from crossprop.estimator.study_file import explain, plan_study, write_study
    from crossprop.methods import DEFAULT_SEED

    goals, origins = [*(target or []), *listed(targets)], None if sources is None else listed(sources)
    seed = DEFAULT_SEED if seed is None else seed
    options: dict[str, Any] = {"tier": tier, "minutes": minutes, "title": title, "seed": seed}
    study = plan_study(load_catalog(), name, goals, origins, RAW, **options)
    typer.echo(explain(study))
    if dry_run:
        typer.echo(f"Nothing was written. Without --dry-run this writes conf/study/{name}.yaml.")
        return
    path = write_study(study, replace=replace)
    typer.echo(
        f"\nWrote {path}. Run it:  dvc exp run -S study={name}\n"
        f"Or, to look first:  python tools/resolve_params.py study={name} && crossprop check && dvc repro"
    )


@app.command("pretrain")
def pretrain_study(
    params: Annotated[Path, Option(help="Configuration of the study.")] = Path("params.yaml"),
) -> None:
    """Pretrain the networks of a study side by side on the Ray cluster of compute.ray."""
    from crossprop.config import load_params
    from crossprop.data.catalog import load_catalog
    from crossprop.experiments.ray_pretrain import pretrain_networks
    from crossprop.paths import StudyPaths
    from crossprop.tracking.provenance import open_study_context
    from crossprop.tracking.runs import record_pretraining

    loaded, catalog = load_params(params), load_catalog()
    paths = StudyPaths.of(loaded.study)

    def record(provenance: dict[str, Any], history: Any) -> None:
        context = open_study_context(loaded, paths, {provenance["source"]: provenance["data_sha256"]})
        record_pretraining(context, provenance, history)

    units = {source: catalog.property(source).unit for source in loaded.study.sources}
    pretrain_networks(loaded, units, paths, record)
    typer.echo("Next: dvc commit --force pretrain pretrain_joint && dvc repro")
