"""A fit: from a table in memory and a few settings to a saved model, planned once and resumable until it is done."""

import multiprocessing
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, Self

import numpy as np
import pandas as pd
from joblib import parallel_config  # type: ignore[import-untyped]
from pydantic import Field, ValidationError, field_validator

from crossprop.config import Params, Section, explain, parse_params
from crossprop.data.cleaning import refuse_unlearnable, report_frame
from crossprop.data.prepared import PREPARED_COLUMNS, PreparedData
from crossprop.data.splits import AUXILIARY, GROUP_COLUMN, draw_holdout, together_in
from crossprop.errors import CellError, ConfigError, DataError, ModelFormatError, PretrainingError
from crossprop.estimator.budget import FITS, PLAIN, Effort, first_folds, fit_seconds, plain_affordable
from crossprop.estimator.pretrained import SourceNetworks, affordable, find_networks, networks_for
from crossprop.estimator.study_file import JOINT, most_cells, study_values
from crossprop.experiments.executor import Executor, InlinePool, WorkerPool, usable_cores
from crossprop.experiments.fingerprint import data_digest, digest
from crossprop.experiments.progress import Print, show
from crossprop.experiments.results import CellResult
from crossprop.experiments.targets import run_targets
from crossprop.features.matrices import write_features
from crossprop.io import atomic_file, atomic_folder, exclusive, read_json, write_json
from crossprop.methods import DEFAULT_SEED, Family, Method, Representation, Side
from crossprop.models.transfer import check_network
from crossprop.paths import WORK, StudyPaths

STUDY: Final = "own"  # name of the study that a model says it comes from
AUTO, NONE = "auto", "none"
PLAN_FILE: Final = "plan.json"
LEAST_COMPOSITIONS: Final = 10
_SCRATCH: Final = (Method.BASE, Method.ML, Method.BOOST)
_FROM_JOINT: Final = (Method.BOOST_SOURCES, Method.RESNET_FINETUNE)
_FROM_ELEMNET: Final = (Method.ML_FEATEXTR, Method.FINETUNE, Method.MODFINETUNE)


class Settings(Section):
    """The settings of a fit; ``None`` leaves a value to the minutes, ``minutes`` of ``None`` computes all in full.

    ``sources`` is ``none``, ``auto`` or a folder of source networks; ``holdout`` is the share of the rows that is held
    out; ``workers`` of 0 is one process on every core, of 1 this process alone.
    """

    target: str = "value"
    unit: str = ""
    sources: str | Path = NONE
    minutes: Annotated[float, Field(gt=0)] | None = None
    methods: tuple[Method, ...] | None = None
    folds: Annotated[int, Field(ge=2)] | None = None
    trials: Annotated[int, Field(ge=1)] | None = None
    holdout: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    workers: Annotated[int, Field(ge=0)] = 0
    seed: Annotated[int, Field(ge=0)] = DEFAULT_SEED

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(explain(error.errors()[0])) from None

    @field_validator("minutes", "folds", "trials", "holdout", "workers", "seed", mode="before")
    @classmethod
    def _is_number(cls, value: Any) -> Any:
        if isinstance(value, (str, bool)):
            raise ValueError("Input should be a number")
        return value

    @field_validator("methods")
    @classmethod
    def _learns(cls, methods: tuple[Method, ...] | None) -> tuple[Method, ...] | None:
        if methods is not None and not set(methods) - {Method.BASE, Method.BLEND}:
            raise ValueError("nothing learns: name a method that does, such as ml or boost")
        return methods and tuple(dict.fromkeys([Method.BASE, *methods]))


@dataclass(frozen=True)
class Plan:
    """What a fit computes, as a study of one target; ``seconds`` is the estimated time without pretraining."""

    params: Params
    seconds: float
    networks: SourceNetworks | None = None
    notes: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        """Name of the property."""
        return self.params.study.targets[0]

    @classmethod
    def stored(cls, path: Path, key: str) -> Self | None:
        """The plan that an earlier start of the same fit stored, or ``None``."""
        try:
            values = read_json(path)
            if values["key"] != key:
                return None
            networks = SourceNetworks.load(values["networks"]) if values["networks"] else None
            return cls(parse_params(values["params"]), values["seconds"], networks, tuple(values["notes"]))
        except (OSError, ValueError, KeyError, TypeError, ConfigError, ModelFormatError):
            return None

    def store(self, path: Path, key: str) -> None:
        """Write the plan to a file."""
        values: dict[str, Any] = {"key": key, "params": self.params.model_dump(mode="json")}
        networks = str(self.networks.folder.resolve()) if self.networks else None
        with atomic_file(path) as draft:
            write_json(draft, values | {"seconds": self.seconds, "networks": networks, "notes": self.notes})


@dataclass(frozen=True)
class Outcome:
    """The result of a fit: its plan, the folder of the target's results, every cell, and the chosen one."""

    plan: Plan
    folder: Path
    results: tuple[CellResult, ...]
    winner: CellResult

    @property
    def model(self) -> Path:
        """Folder of the saved model."""
        return self.folder / "model"


def run_fit(
    rows: pd.DataFrame,
    settings: Settings,
    root: Path,
    *,
    cleaning: pd.DataFrame | None = None,
    write: Print = show,
    on_plain: Callable[[Outcome], None] = lambda outcome: None,
    on_end: Callable[[Outcome], None] = lambda outcome: None,
) -> Outcome:
    """Hold out, plan, tune, cross-validate, blend and choose, as for a target; a stopped fit goes on in its ``root``.

    ``rows`` has the columns ``formula``, ``composition`` (key), ``value``, ``split`` where it is decided already, and
    ``group`` (key of the rows that stay together) where rows have groups. ``on_plain`` receives the plain median
    model, which comes first unless methods are named, ``on_end`` the best one while ``root`` is locked; a ``root``
    that another process works in is a StoreError.
    """
    if settings.workers != 1 and getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ConfigError("Put what your script does under \"if __name__ == '__main__':\", or fit with workers=1.")
    if "split" not in rows:
        keys, share = rows[together_in(rows)].to_numpy(), settings.holdout
        held = draw_holdout(keys, settings.seed, share) if share else np.zeros(len(rows), dtype=bool)
        rows = rows.assign(split=np.where(held, "test", "train"))
    frame = rows[[name for name in (*PREPARED_COLUMNS, GROUP_COLUMN) if name in rows]].reset_index(drop=True)
    (learnt, known), what = _learnt(frame), f"{together_in(frame)}s"
    values = frame.loc[frame["split"] == "train", "value"].to_numpy()
    refuse_unlearnable(values, f"the rows of {settings.target!r} to learn from")
    if known < LEAST_COMPOSITIONS:
        raise DataError(
            f"{settings.target!r} has {learnt} rows of {known} {what} to learn from; at least {LEAST_COMPOSITIONS} "
            f"{what} are needed. Give more rows; groups that share a composition count as one."
        )
    report, paths = report_frame([]) if cleaning is None else cleaning, StudyPaths(STUDY, root)

    def compute(plan: Plan, pool: type[Executor]) -> Outcome:
        data, target = frame, plan.target
        if plan.networks is not None:
            data = with_auxiliary(frame, plan.networks)
            _copy_networks(plan.networks, paths)
        prepared = PreparedData(data, report).write(paths.prepared_folder, target)
        representations = (Representation.ELEMENTAL_FRACTIONS, Representation.PHYSICAL_ATTRIBUTES)
        write_features(data, paths.features(target), representations, where=str(prepared))
        more: dict[str, Any] = {"units": {target: settings.unit}, "pool": pool, "planned": plan.seconds}
        made = run_targets(plan.params, [target], paths, lambda digests: lambda cell: "", write, **more)
        done = made[target]
        results = tuple(outcome.result for outcome in done.outcomes)
        if done.winners.winner is None:
            reasons = [f"{result.label}: {result.failure}" for result in results if result.failure]
            raise CellError(f"no method could be fitted to {target!r}: {'; '.join(reasons)}.")
        return Outcome(plan, paths.results(target), results, done.winners.winner)

    with exclusive(root / WORK / "fit.lock", "works on this fit"):
        if plain_affordable(learnt, settings.minutes) and Method.PLAIN_MEDIAN in (settings.methods or PLAIN):
            folds = min(settings.folds or 10, first_folds(learnt))
            plan = choose_plan(learnt, known, settings.model_copy(update={"methods": PLAIN, "folds": folds}))
            with parallel_config("threading", n_jobs=settings.workers or usable_cores()):
                on_plain(compute(plan, InlinePool))
        plan = plan_fit(frame, settings, root, write)
        study = plan.params.study
        write(
            f"plan: {', '.join(study.methods)}; {study.folds} folds; effort {study.tier!r}, "
            f"about {max(plan.seconds, 6.0) / 60:.1f} minutes on a machine that is idle"
        )
        outcome = compute(plan, InlinePool if settings.workers == 1 else WorkerPool)
        on_end(outcome)
        return outcome


def _strict_and_learnt(frame: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Compositions that source networks must not have seen, of the hold-out or of rows with groups, and the others."""
    held = (frame["split"] == "test") | (GROUP_COLUMN in frame)
    return frame.loc[held, "composition"].tolist(), frame.loc[~held, "composition"].tolist()


def with_auxiliary(frame: pd.DataFrame, networks: SourceNetworks) -> pd.DataFrame:
    """The rows; those that the networks know are learnt from only, since errors on them would be too low."""
    networks.check_usable_for(*_strict_and_learnt(frame))
    return frame.assign(split=frame["split"].mask(networks.overlap(frame["composition"]), AUXILIARY))


def _learnt(frame: pd.DataFrame) -> tuple[int, int]:
    """How many rows there are to learn from, and how many compositions (or groups)."""
    learning = frame[frame["split"] == "train"]
    return len(learning), int(learning[together_in(frame)].nunique())


def plan_fit(frame: pd.DataFrame, settings: Settings, root: Path, write: Print = show) -> Plan:
    """Choose source networks, methods, trials and folds, or read the plan of an earlier start of the same fit."""
    asked = {name: str(value) for name, value in settings}
    key = digest([asked, data_digest(frame)])
    if (found := Plan.stored(root / PLAN_FILE, key)) is not None:
        write("an earlier start of this fit was stopped: going on from there")
        return found
    networks, minutes, reason = _choose_networks(frame, settings, write)
    notes = [reason]
    if networks is not None:
        elemnets = f", ElemNets of {', '.join(networks.elemnets)}" if networks.elemnets else ""
        known = int(networks.overlap(frame["composition"]).sum())
        notes = [
            f"transfer from {', '.join(networks.sources)}{elemnets} (recipe {networks.recipe!r}, "
            f"{networks.n_seen:,} compositions, {'those of some' if known else 'none'} of these rows among them)"
        ]
        if known:
            notes.append(
                f"{known} of {len(frame)} rows have a composition that the source networks have seen: they are learnt "
                "from in every fold, but no error is measured on them"
            )
    if settings.methods is None and not plain_affordable(_learnt(frame)[0], minutes):
        notes.append("no plain baseline and plain median: too many rows for the time or the memory")
    _check_transfer(settings.methods, networks)
    plan = choose_plan(*_learnt(frame), settings.model_copy(update={"minutes": minutes}), networks)
    if settings.folds is not None and plan.params.study.folds < settings.folds:
        notes.append(
            f"{plan.params.study.folds} folds instead of {settings.folds}: each has to hold a few compositions "
            "(or groups)"
        )
    plan = replace(plan, notes=(*filter(None, notes), *plan.notes))
    plan.store(root / PLAN_FILE, key)
    return plan


def choose_plan(n_rows: int, n_compositions: int, settings: Settings, networks: SourceNetworks | None = None) -> Plan:
    """The most thorough plan that fits into the minutes; the least thorough where none does."""
    options = (fit_params(effort, n_rows, n_compositions, settings, networks) for effort in FITS)
    plans = [Plan(params, fit_seconds(params, n_rows), networks) for params in options]
    if settings.minutes is None:
        return plans[-1]
    limit = 60 * settings.minutes
    chosen = next((plan for plan in reversed(plans) if plan.seconds <= limit), plans[0])
    notes = []
    if left_out := _left_out(chosen.params, plans[-1].params, settings):
        notes.append(f"because of the time limit: {'; '.join(left_out)}")
    if chosen.seconds > limit:
        notes.append(f"even the least effort takes about {chosen.seconds / 60:.1f} minutes")
    return replace(chosen, notes=tuple(notes))


def fit_params(
    effort: Effort, n_rows: int, n_compositions: int, settings: Settings, networks: SourceNetworks | None
) -> Params:
    """The configuration of a study of this one target; a fold holds three compositions at least."""
    budget = FITS[effort]
    sources, elemnets = (networks.sources, networks.elemnets) if networks else ((), ())
    target = target_name(settings.target, sources)
    methods = settings.methods
    if methods is None:
        transfer = [*(_FROM_JOINT if networks else ()), *(_FROM_ELEMNET if elemnets else ())]
        possible = [m for m in transfer if budget.networks or m.family is Family.REGRESSOR]
        plain = PLAIN if plain_affordable(n_rows, settings.minutes) else ()
        methods = (*plain, *_SCRATCH, *budget.networks, *possible, Method.BLEND)
    chosen = [method for method in Method if method in methods]
    tier = Effort.FULL if effort is Effort.FULL else Effort.STANDARD
    values = study_values(STUDY, [target], n_rows, sources, tier=tier, title=target, seed=settings.seed)
    study = values["study"]
    folds = settings.folds or min(study["folds"], budget.most_folds)
    kinds = (("ml", budget.trials, Family.REGRESSOR), ("dl", budget.network_trials, Family.NETWORK))
    for name, trials, family in kinds:
        cells = most_cells(chosen, family, len(elemnets))
        study["budget"][f"{name}_trials"] = (settings.trials or trials) * cells
    for recipe in ("scratch", "transfer"):
        study[recipe]["min_steps"] = budget.min_steps
    study |= {
        "tier": effort.value,
        "elemnet_sources": list(elemnets),
        "joint": {JOINT: list(sources)} if networks else {},
        "joint_pretrain": study["pretrain"] if networks else None,
        "methods": chosen,
        "folds": min(folds, max(2, n_compositions // 3)),
        "learning_curve": None,
    }
    values["compute"] = {"workers": settings.workers, "retries": 1}
    return parse_params(values, origin="the plan")


def target_name(text: str, sources: Sequence[str] = ()) -> str:
    """A column's name as the name of a property: lower case, with underscores; never that of a source."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "value"
    return f"own_{name}" if name in {JOINT, *sources} else name


def _left_out(chosen: Params, full: Params, settings: Settings) -> list[str]:
    left_out = []
    study, effort, most = chosen.study, FITS[Effort(chosen.study.tier)], FITS[Effort.FULL]
    if missing := [str(method) for method in full.study.methods if method not in study.methods]:
        left_out.append(f"no {', '.join(missing)}")
    if most.trials > effort.trials and settings.trials is None:
        left_out.append(
            f"{effort.trials} trials of a regressor and {effort.network_trials} of a network instead of "
            f"{most.trials} and {most.network_trials}"
        )
    if full.study.folds > study.folds:
        left_out.append(f"{study.folds} folds instead of {full.study.folds}")
    if study.fidelity is not None:
        left_out.append("methods that fell behind early were not cross-validated")
    return left_out


def _choose_networks(
    frame: pd.DataFrame, settings: Settings, write: Print
) -> tuple[SourceNetworks | None, float | None, str]:
    """The networks to transfer from, the minutes that are left for the fits, and why there are no networks."""
    minutes, sources, methods = settings.minutes, str(settings.sources), settings.methods
    if sources == NONE:
        return None, minutes, ""
    if methods is not None and not any(Method(m).side is Side.TRANSFER for m in methods):
        return None, minutes, "no transfer: none of the methods transfers"
    if sources != AUTO:
        return SourceNetworks.load(settings.sources), minutes, ""
    held_out, learnt = _strict_and_learnt(frame)
    cached, recipe = find_networks(held_out, learnt=learnt), affordable(minutes)
    if recipe is None:
        reason = (
            f"no transfer: {minutes:g} minutes are too few to train source networks, and none that is free of "
            "these compositions is cached; give more minutes once, later fits reuse the networks"
        )
        return cached, minutes, reason
    try:
        networks = networks_for(
            held_out, recipe, learnt=learnt, workers=settings.workers, seed=settings.seed, write=write
        )
    except PretrainingError as error:
        if methods is not None:
            raise
        return None, minutes, f"no transfer: {error}"
    if minutes is not None and (cached is None or cached.folder != networks.folder):
        minutes = max(minutes - recipe.minutes_here(), 0.25 * minutes)
    return networks, minutes, ""


def _check_transfer(methods: Sequence[Method | str] | None, networks: SourceNetworks | None) -> None:
    for method in (m for m in map(Method, methods or ()) if m.side is Side.TRANSFER):
        if networks is None:
            raise ConfigError(f"{method} transfers, but there are no source networks. Fit with sources 'auto'.")
        if not method.uses_joint and not networks.elemnets:
            raise ConfigError(f"{method} transfers from an ElemNet. Have one made (recipe 'quick'), or leave it out.")


def _copy_networks(networks: SourceNetworks, paths: StudyPaths) -> None:
    for name in (*networks.elemnets, networks.joint):
        given = networks.folder / name
        check_network(given)
        with atomic_folder(paths.source_model(JOINT if name == networks.joint else name)) as draft:
            shutil.copytree(given, draft, dirs_exist_ok=True)
