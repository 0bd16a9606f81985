"""What a fit is going to do, decided once and written down: a fit that was stopped goes on with the same plan."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import pandas as pd

from crossprop.data.prepared import GROUP_COLUMN, together_in
from crossprop.errors import ConfigError, ModelFormatError, PretrainingError, StoreError
from crossprop.estimator.budget import Effort, Plan, plan_effort
from crossprop.estimator.pretrained import SourceNetworks, affordable, find_networks, networks_for
from crossprop.experiments.fingerprint import data_digest, digest
from crossprop.experiments.progress import Print, show
from crossprop.methods import DEFAULT_SEED, Method, Side

AUTO: Final = "auto"
NONE: Final = "none"
PLAN_FILE: Final = "plan.json"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a person may say about a fit.

    Attributes:
        target: Name of the property.
        unit: Its unit.
        sources: ``none``, ``auto``, or a folder of source networks.
        minutes: Wall time to aim at; ``None`` computes everything in full.
        methods: Methods instead of those that the minutes allow.
        folds: Folds of the cross-validation instead of those that the minutes allow.
        trials: Trials of every method instead of those that the minutes allow.
        holdout: Share of the rows that is held out and measured on; 0 learns from all.
        workers: Processes, 0 for one on every core, 1 for this process alone.
        seed: Seed of every draw.
        cache: Where source networks are kept; the user's cache folder unless told.
    """

    target: str = "value"
    unit: str = ""
    sources: str | Path = NONE
    minutes: float | None = None
    methods: Sequence[Method | str] | None = None
    folds: int | None = None
    trials: int | None = None
    holdout: float = 0.0
    workers: int = 0
    seed: int = DEFAULT_SEED
    cache: Path | None = None


@dataclass(frozen=True)
class Decision:
    """What a fit does.

    Attributes:
        plan: Methods, trials and folds.
        networks: What is transferred from, or ``None``.
        notes: What has to be said about both.
    """

    plan: Plan
    networks: SourceNetworks | None
    notes: tuple[str, ...]

    @classmethod
    def stored(cls, root: Path, key: str) -> Self | None:
        """What an earlier start of the same fit decided; ``None`` where there was none, or of something else."""
        try:
            values = json.loads((root / PLAN_FILE).read_text(encoding="utf-8"))
            if values["key"] != key:
                return None
            plan = values["plan"]
            plan["effort"]["networks"] = tuple(Method(m) for m in plan["effort"]["networks"])
            made = Plan(
                Effort(**plan["effort"]),
                tuple(Method(m) for m in plan["methods"]),
                plan["folds"],
                plan["seconds"],
                tuple(plan["left_out"]),
            )
            networks = SourceNetworks.load(values["networks"]) if values["networks"] else None
        except (OSError, ValueError, KeyError, TypeError, ModelFormatError):
            return None
        return cls(made, networks, tuple(values["notes"]))

    def store(self, root: Path, key: str) -> None:
        """Write it down, whole or not at all."""
        values: dict[str, Any] = {
            "key": key,
            "plan": asdict(self.plan),
            "networks": str(self.networks.folder.resolve()) if self.networks else None,
            "notes": list(self.notes),
        }
        try:
            root.mkdir(parents=True, exist_ok=True)
            draft = root / f"{PLAN_FILE}.{os.getpid()}.part"
            draft.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
            draft.replace(root / PLAN_FILE)
        except OSError as error:
            raise StoreError(
                f"{root} cannot be written: {error}. Name a place that can be, or free some space, and run again."
            ) from error


def decide(frame: pd.DataFrame, settings: Settings, root: Path, write: Print = show) -> Decision:
    """Choose source networks and plan the fits, or take up what an earlier start of the same fit decided.

    Args:
        frame: Columns ``formula``, ``composition``, ``value``, ``split``.
        settings: What was asked for.
        root: Private folder of the fit.
        write: Receives lines of progress.

    Raises:
        ConfigError: A method is unknown or has nothing to transfer from.
        PretrainingError: Source networks could not be trained, and methods were asked for that need them.
    """
    asked = asdict(replace(settings, cache=None))
    key = digest(
        [{name: str(value) for name, value in asked.items()}, data_digest(frame), *_groups_digest(frame)]
    )
    if (found := Decision.stored(root, key)) is not None:
        write("an earlier start of this fit was stopped: going on from there")
        return found
    methods = _methods(settings.methods)
    networks, minutes, notes = choose_networks(frame["composition"].tolist(), settings, methods, write)
    _check_transfer(methods, networks)
    plan = plan_effort(
        int((frame["split"] == "train").sum()),
        minutes=minutes,
        workers=settings.workers,
        joint=networks is not None,
        elemnets=len(networks.elemnets) if networks else 0,
        methods=methods,
        folds=settings.folds,
        trials=settings.trials,
    )
    plan = _with_possible_folds(plan, frame)
    if settings.folds is not None and plan.folds < settings.folds:
        notes.append(
            f"{plan.folds} folds instead of {settings.folds}: each has to hold a few compositions (or groups)"
        )
    if plan.left_out and minutes is not None:
        notes.append(f"for want of time left out: {'; '.join(plan.left_out)}")
    if minutes is not None and plan.seconds > 60 * minutes:
        notes.append(f"even the least effort takes about {plan.seconds / 60:.1f} minutes")
    decision = Decision(plan, networks, tuple(notes))
    decision.store(root, key)
    return decision


def choose_networks(
    keys: list[str], settings: Settings, methods: Sequence[Method] | None, write: Print = show
) -> tuple[SourceNetworks | None, float | None, list[str]]:
    """What to transfer from, the minutes that are left for the fits, and what has to be said about it."""
    minutes, sources = settings.minutes, str(settings.sources)
    if sources == NONE:
        return None, minutes, []
    if methods is not None and not any(m.side is Side.TRANSFER for m in methods):
        return None, minutes, ["no transfer: none of the methods transfers"]
    if sources != AUTO:
        networks = SourceNetworks.load(settings.sources)
        return networks, minutes, _said(networks)
    recipe = affordable(minutes)
    if recipe is None:
        networks_found = find_networks(keys, settings.cache)
        if networks_found is None:
            return (
                None,
                minutes,
                [
                    f"no transfer: {minutes:g} minutes are too few to train source networks, and none that is free of "
                    "these compositions is cached; give more minutes once, later fits reuse the networks"
                ],
            )
        return networks_found, minutes, _said(networks_found)
    before = find_networks(keys, settings.cache)
    try:
        networks = networks_for(
            keys, recipe, cache=settings.cache, workers=settings.workers, seed=settings.seed, write=write
        )
    except PretrainingError as error:
        if methods is not None:
            raise
        return None, minutes, [f"no transfer: {error}"]
    fresh = before is None or before.folder != networks.folder
    if fresh and minutes is not None:
        minutes = max(minutes - recipe.minutes_here(), 0.25 * minutes)
    return networks, minutes, _said(networks)


def _said(networks: SourceNetworks) -> list[str]:
    own = f", ElemNets of {', '.join(networks.elemnets)}" if networks.elemnets else ""
    return [
        f"transfer from {', '.join(networks.sources)}{own} (recipe {networks.recipe!r}, {len(networks.seen):,} "
        "compositions, none of these rows' among them)"
    ]


def _methods(given: Sequence[Method | str] | None) -> list[Method] | None:
    """The methods that were asked for, and the base, which all are compared with."""
    if given is None:
        return None
    try:
        methods = [Method(str(method)) for method in given]
    except ValueError as error:
        raise ConfigError(f"{error}. Choose among {', '.join(map(str, Method))}.") from None
    if not set(methods) - {Method.BASE, Method.BLEND}:
        raise ConfigError(
            f"methods {', '.join(methods) or 'none'}: nothing learns. Name one that does, such as ml or boost."
        )
    return list(dict.fromkeys([Method.BASE, *methods]))


def _check_transfer(methods: Sequence[Method] | None, networks: SourceNetworks | None) -> None:
    for method in methods or ():
        if method.side is not Side.TRANSFER:
            continue
        if networks is None:
            raise ConfigError(
                f"{method} transfers, but there are no source networks. Fit with sources 'auto', or leave it out."
            )
        if not method.uses_joint and not networks.elemnets:
            raise ConfigError(
                f"{method} transfers from an ElemNet; the source networks (recipe {networks.recipe!r}) have none. "
                "Have larger ones made (recipe 'quick'), or leave it out."
            )


def _with_possible_folds(plan: Plan, frame: pd.DataFrame) -> Plan:
    """Not more folds than a third of the compositions, so that a fold holds a few of them."""
    known = int(frame.loc[frame["split"] == "train", together_in(frame)].nunique())
    return replace(plan, folds=max(2, min(plan.folds, known // 3)))


def _groups_digest(frame: pd.DataFrame) -> list[str]:
    return [digest(frame[GROUP_COLUMN].tolist())] if GROUP_COLUMN in frame else []
