"""A study configuration for given data: chosen by effort and number of rows, estimated, written to ``conf/study/``."""

import math
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, NamedTuple

import pandas as pd
import yaml

from crossprop.config import Params, Recipe, StudyConfig, parse_params
from crossprop.data.catalog import Catalog, PropertyEntry, Role
from crossprop.errors import ConfigError, UserFileError
from crossprop.estimator.budget import STUDIES, Effort, Estimate, estimate_study, folds_for
from crossprop.io import atomic_file, usable_cores
from crossprop.methods import DEFAULT_SEED, Family, Method, Representation, Side

JOINT: Final = "all_sources"  # name of the joint network
STUDIES_FOLDER: Final = Path("conf/study")
FEW_ROWS: Final = 100  # below which the screening split is too small for many trials to mean anything
_MANY_TARGETS: Final = 8
_USUAL_SOURCE_ROWS: Final = 100_000
_PRUNING: Final = {"rows": 2000, "steps": 150, "after_screening": 2, "after_first_fold": 2, "margin": 0.25}
_REPRESENTATIONS: Final = (Representation.ELEMENTAL_FRACTIONS, Representation.PHYSICAL_ATTRIBUTES)


def study_values(
    name: str,
    targets: Sequence[str],
    rows: Mapping[str, int] | int,
    sources: Sequence[str] | None = None,
    *,
    tier: str = Effort.QUICK,
    title: str | None = None,
    seed: int = DEFAULT_SEED,
) -> dict[str, Any]:
    """Plain values of a configuration; ``rows`` are those to learn from, of each target or of all alike."""
    if tier not in STUDIES:
        raise ConfigError(f"{tier!r} is no tier. Choose one of {', '.join(STUDIES)}.")
    effort = Effort(tier)
    chosen, whole = STUDIES[effort], effort is Effort.FULL
    if not targets:
        raise ConfigError("A study needs a target. Name one of 'crossprop data list' with --target.")
    counts = {t: rows if isinstance(rows, int) else rows[t] for t in targets}
    wanted = tuple(chosen.sources if sources is None else sources)
    methods = [m for m in chosen.methods if wanted or m.side is not Side.TRANSFER]
    elemnets = wanted[: chosen.elemnets if sources is None else max(2, chosen.elemnets)]
    joint = any(m.uses_joint for m in methods)
    folds = {target: folds_for(n, effort, chosen.most_folds) for target, n in counts.items()}
    usual = max(set(folds.values()), key=list(folds.values()).count)
    most = 6 if min(counts.values()) < FEW_ROWS else 10**6  # trials, but one at least for every cell
    regressors, networks = (most_cells(methods, f, len(elemnets)) for f in (Family.REGRESSOR, Family.NETWORK))
    enough = [target for target, n in counts.items() if n >= 500]
    common: dict[str, Any] = {"weight_decay": 0.01, "min_steps": chosen.min_steps, "min_batches": 16}
    source = common | {"epochs": chosen.source_epochs, "batch_size": 512, "target_transform": "identity"}
    own = common | {"epochs": chosen.epochs, "batch_size": 256, "learning_rate": 0.001}
    study: dict[str, Any] = {
        "name": name,
        "title": title or f"{', '.join(targets)}: own data",
        "protocol": "strict",
        "seed": seed,
        "edition": "open",
        "targets": list(targets),
        "shards": _shards(targets),
        "sources": list(wanted),
        "elemnet_sources": list(elemnets),
        "joint": {JOINT: list(wanted)} if joint else {},
        "methods": [str(m) for m in methods],
        "representations": [str(r) for r in _REPRESENTATIONS],
        "folds": usual,
        "folds_by_target": {target: n for target, n in folds.items() if n != usual},
        "budget": {
            "ml_trials": max(min(chosen.ml_trials, most), regressors),
            "dl_trials": max(min(chosen.dl_trials, most), networks),
            "seconds": 86_400 if whole else 7_200,
        },
        "fidelity": None if whole else dict(_PRUNING),
        "learning_curve": {"targets": enough[:8], "shares": [0.1, 0.25, 0.5]} if whole and enough else None,
        "pretrain": Recipe(learning_rate=0.001, **source).model_dump(),
        "joint_pretrain": Recipe(learning_rate=0.002, **source).model_dump() if joint else None,
        "scratch": Recipe(**own).model_dump(),
        "transfer": Recipe(**own).model_dump(),
    }
    return {"study": study, "search": default_search()}


def _shards(targets: Sequence[str]) -> dict[str, list[str]]:
    """Targets divided among at most eight stages, each with one pool of workers."""
    size = max(_MANY_TARGETS, math.ceil(len(targets) / 8))
    if len(targets) <= size:
        return {"all": list(targets)}
    starts = enumerate(range(0, len(targets), size), start=1)
    return {f"part_{i}": list(targets[start : start + size]) for i, start in starts}


def default_search() -> dict[str, Any]:
    """The search spaces; ``conf/search/default.yaml`` takes them from the same file."""
    text = files("crossprop.estimator").joinpath("search.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def most_cells(methods: Sequence[Method], family: Family, elemnets: int) -> int:
    """Cells of a family on the side that has more of them: both sides get the trials that it needs."""
    study = StudyConfig.model_construct(
        methods=tuple(methods),
        representations=_REPRESENTATIONS,
        elemnet_sources=("any",) * elemnets,
        joint={JOINT: ()},
    )
    return max(1, *(study.count_cells(side, family) for side in (Side.SCRATCH, Side.TRANSFER)))


class NewStudy(NamedTuple):
    """A planned study, with the rows to learn from of each target and the bytes to fetch first."""

    values: dict[str, Any]
    params: Params
    rows: dict[str, int]
    estimate: Estimate
    to_fetch: int
    tier: str


def plan_study(
    catalog: Catalog,
    name: str,
    targets: Sequence[str],
    sources: Sequence[str] | None,
    raw_root: Path,
    *,
    tier: str | None = None,
    minutes: float | None = None,
    title: str | None = None,
    seed: int = DEFAULT_SEED,
) -> NewStudy:
    """Choose methods and budgets for targets of the catalogue: by tier, or the most thorough within the minutes."""
    if tier is not None and minutes is not None:
        raise ConfigError("Give --tier or --minutes, not both.")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]*", name):
        raise ConfigError(f"{name!r} is no name of a study: use small letters, digits and underscores.")
    if sources is not None and not sources:
        raise ConfigError("A study transfers from a source. Name one, or learn with 'crossprop fit'.")
    goals = [_with_role(catalog, target, Role.TARGET) for target in targets]
    given = None if sources is None else [_with_role(catalog, source, Role.SOURCE).key for source in sources]
    rows = {entry.key: learning_rows(catalog, entry) for entry in goals}
    heading = ", ".join(entry.description.split(",")[0].strip() for entry in goals[:4])
    heading += f" and {len(goals) - 4} more" if len(goals) > 4 else ""
    keys = [entry.key for entry in goals]

    def planned(tier: str) -> NewStudy:
        values = study_values(name, keys, rows, given, tier=tier, title=title or heading, seed=seed)
        params = parse_params(values, f"study {name}")
        study = params.study
        sizes = {s: catalog.property(s).rows or _USUAL_SOURCE_ROWS for s in study.sources}
        pinned = catalog.pinned_files([*study.targets, *study.sources], study.edition)
        wanted = [f for f in pinned if f.folder is None and not (raw_root / f.relative_path).is_file()]
        to_fetch = sum(f.size or 0 for f in wanted)
        return NewStudy(values, params, rows, estimate_study(params, rows, sizes), to_fetch, tier)

    if minutes is None:
        return planned(tier or Effort.QUICK)
    plans = [planned(effort) for effort in STUDIES]
    fitting = [plan for plan in plans if plan.estimate.total <= 60 * minutes]
    if not fitting:
        least = min(plans, key=lambda plan: plan.estimate.total)
        needed = math.ceil(least.estimate.total / 6) / 10
        raise ConfigError(
            f"No tier fits into {minutes:g} minutes: the smallest, {least.tier}, takes about {needed:.1f} minutes. "
            f"Give --minutes {math.ceil(needed)}, or learn from a file alone with 'crossprop fit'."
        )
    return fitting[-1]


def write_study(study: NewStudy, folder: Path = STUDIES_FOLDER, replace: bool = False) -> Path:
    """Write the study where Hydra finds it; an existing one is refused (ConfigError) unless it is to be replaced."""
    name = study.params.study.name
    path = folder / f"{name}.yaml"
    if not folder.is_dir():
        raise ConfigError(f"There is no folder {folder}. Run this in the project's root.")
    if path.exists() and not replace:
        raise ConfigError(f"{path} exists. Replace it with --replace, or choose another name.")
    targets = ", ".join(f"{target} ({n:,} rows to learn from)" for target, n in study.rows.items())
    head = (
        f"# Written by `crossprop study new` (tier {study.tier}) for {targets}.\n"
        f"# Run it with `dvc exp run -S study={name}`; change what you like.\n"
    )
    options: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "default_flow_style": None}
    with atomic_file(path) as draft:
        text = yaml.safe_dump(study.values["study"], width=110, **options)
        draft.write_text(head + text, encoding="utf-8")
    return path


def explain(study: NewStudy) -> str:
    """A text that says what the study would compute, and how long that takes."""
    config, spent = study.params.study, study.estimate
    cells = sum(len(config.points(method)) for method in config.methods)
    total, data, sources, targets = (
        f"{seconds / 60:.{int(seconds < 600)}f}" for seconds in (spent.total, spent.data, spent.sources, spent.targets)
    )
    rows = [f"{t}: {n:,} rows to learn from, {config.folds_of(t)} folds" for t, n in study.rows.items()]
    lines = [
        f"study     {config.name}, tier {study.tier}, protocol {config.protocol}",
        f"targets   {'; '.join(rows)}",
        f"sources   {', '.join(config.sources)} (freed of the targets' compositions); "
        f"ElemNet for {', '.join(config.elemnet_sources)}" + ("; joint network of all" if config.joint else ""),
        f"methods   {', '.join(config.methods)}: {cells} cells a target, "
        + ("weak cells are pruned early" if config.fidelity else "every one in full"),
        f"trials    {config.budget.ml_trials} on regressors, {config.budget.dl_trials} on networks, a side and target",
        f"time      about {total} minutes on {usable_cores()} cores: data and report {data}, "
        f"source networks {sources}, targets {targets} (may be off by half)",
    ]
    if study.to_fetch:
        lines.append(f"download  {math.ceil(study.to_fetch / 1e6)} MB first")
    if min(study.rows.values()) < FEW_ROWS:
        lines.append(f"note      fewer than {FEW_ROWS} rows: differences between methods will mostly be noise")
    return "\n".join(lines)


def studies_naming(key: str, folder: Path = STUDIES_FOLDER) -> list[Path]:
    """Studies that have a property among their targets or sources."""
    found = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError):
            continue
        stated = [values.get(role) for role in ("targets", "sources")] if isinstance(values, dict) else []
        if any(key in (names if isinstance(names, list) else [names]) for names in stated):
            found.append(path)
    return found


def learning_rows(catalog: Catalog, entry: PropertyEntry) -> int:
    """Rows to learn from, as the catalogue or the user's files say."""
    if entry.embedded is not None:
        return catalog.packages[entry.embedded.package].n_train
    if not entry.is_own:
        return int(0.9 * (entry.paper.data_size or entry.rows or 1_000))
    paths = [Path(file.folder or "", file.path) for file in entry.files if file.split != "test"]
    try:
        return sum(len(pd.read_csv(path)) for path in paths)
    except (OSError, ValueError) as error:
        raise UserFileError(
            f"A data file of {entry.key!r} cannot be read: {error}. Restore it with 'dvc checkout', or add it again."
        ) from None


def _with_role(catalog: Catalog, name: str, role: Role) -> PropertyEntry:
    entry = catalog.property(name)
    if role not in entry.roles:
        raise ConfigError(f"{entry.key!r} is no {role}. Choose among 'crossprop data list --role {role}'.")
    return entry
