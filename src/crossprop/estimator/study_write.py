"""Writing a study to ``conf/study/``, and saying beforehand what it would compute and how long that takes."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from crossprop.config import Params, parse_params
from crossprop.data.catalog import Catalog, PropertyEntry, Role
from crossprop.errors import ConfigError, OwnFileError
from crossprop.estimator.study_file import TIERS, Estimate, estimate, find_tier, study_values
from crossprop.io import usable_cores
from crossprop.methods import DEFAULT_SEED

STUDIES: Final = Path("conf/study")
_EMBEDDED_ROWS: Final = {"seebeck_p": 9_000}
"""Compositions of embedded sources, merged."""


@dataclass(frozen=True)
class NewStudy:
    """A study that is ready to be written.

    Attributes:
        values: Plain values of the configuration.
        params: The same, validated.
        tier: Tier that it follows.
        rows: Rows to learn from of each target.
        estimate: How long it takes, downloads not counted.
        to_fetch: Bytes of pinned files that are not there yet.
    """

    values: dict[str, Any]
    params: Params
    tier: str
    rows: dict[str, int]
    estimate: Estimate
    to_fetch: int


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
    """Choose methods and budgets for targets of the catalogue.

    Args:
        catalog: The catalogue, one's own data included.
        name: Name of the study.
        targets: Keys or labels of the targets.
        sources: Keys or labels of the sources; those of the tier if ``None``.
        raw_root: Folder of fetched files, to say what has to be fetched.
        tier: Tier; ``quick`` if neither it nor ``minutes`` is given.
        minutes: Wall time; the most thorough tier that fits is taken.
        title: What the report is headed with.
        seed: Seed of all draws.

    Raises:
        ConfigError: The tier is unknown, nothing fits into the time, or the study is impossible.
        UnknownPropertyError: A target or source is unknown.
    """
    if tier is not None and minutes is not None:
        raise ConfigError("Give --tier or --minutes, not both.")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]*", name):
        raise ConfigError(f"{name!r} is no name of a study: use small letters, digits and underscores.")
    if sources is not None and not sources:
        raise ConfigError(
            "A study transfers from one source at least. Name one, or learn with 'crossprop fit'."
        )
    goals = [_with_role(catalog, target, Role.TARGET) for target in targets]
    given = None if sources is None else [_with_role(catalog, source, Role.SOURCE).key for source in sources]
    rows = {entry.key: learning_rows(catalog, entry) for entry in goals}

    def planned(chosen: str) -> NewStudy:
        values = study_values(
            name, [e.key for e in goals], rows, given, tier=chosen, title=title or _title(goals), seed=seed
        )
        params = parse_params(values, f"study {name}")
        used = [catalog.property(source) for source in params.study.sources]
        sizes = {entry.key: _source_rows(entry) for entry in used}
        return NewStudy(
            values, params, chosen, rows, estimate(params, rows, sizes), _to_fetch(catalog, params, raw_root)
        )

    if minutes is None:
        return planned(find_tier(tier or "quick").name)
    plans = [planned(chosen) for chosen in TIERS]
    fitting = [plan for plan in plans if plan.estimate.total <= 60 * minutes]
    if not fitting:
        least = min(plans, key=lambda plan: plan.estimate.total)
        raise ConfigError(
            f"No tier fits into {minutes:g} minutes: the least, {least.tier}, takes about "
            f"{least.estimate.total / 60:.0f}. Give more, or learn from the file alone with 'crossprop fit'."
        )
    return fitting[-1]


def write_study(study: NewStudy, folder: Path = STUDIES, replace: bool = False) -> Path:
    """Write the study where Hydra finds it.

    Raises:
        ConfigError: There is one of this name, or no such folder.
    """
    path = folder / f"{study.params.study.name}.yaml"
    if not folder.is_dir():
        raise ConfigError(f"There is no folder {folder}. Run this in the project's root.")
    if path.exists() and not replace:
        raise ConfigError(f"{path} exists. Replace it with --replace, or choose another name.")
    head = (
        f"# Written by `crossprop study new` (tier {study.tier}) for "
        + ", ".join(f"{target} ({n:,} rows to learn from)" for target, n in study.rows.items())
        + f".\n# Run it with `dvc exp run -S study={study.params.study.name}`; change what you like.\n"
    )
    text = yaml.safe_dump(
        study.values["study"], sort_keys=False, width=110, allow_unicode=True, default_flow_style=None
    )
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(head + text, encoding="utf-8")
    draft.replace(path)
    return path


def explain(study: NewStudy) -> str:
    """What the study would compute, and how long that takes."""
    config, spent = study.params.study, study.estimate
    cells = sum(len(config.points(method)) for method in config.methods)
    minutes = [f"{seconds / 60:.0f}" for seconds in (spent.total, spent.data, spent.sources, spent.targets)]
    lines = [
        f"study     {config.name}, tier {study.tier}, protocol {config.protocol}",
        "targets   "
        + "; ".join(
            f"{t}: {n:,} rows to learn from, {config.folds_of(t)} folds" for t, n in study.rows.items()
        ),
        f"sources   {', '.join(config.sources)} (freed of the targets' compositions); "
        f"ElemNet for {', '.join(config.elemnet_sources)}"
        + ("; joint network of all" if config.joint else ""),
        f"methods   {', '.join(config.methods)}: {cells} cells a target, "
        + ("hopeless ones end early" if config.fidelity else "every one in full"),
        f"trials    {config.budget.ml_trials} on regressors, {config.budget.dl_trials} on networks, a side and target",
        f"time      about {minutes[0]} minutes on {usable_cores()} cores: data and report {minutes[1]}, "
        f"source networks {minutes[2]}, targets {minutes[3]} (may be off by half)",
    ]
    if study.to_fetch:
        lines.append(f"download  {study.to_fetch / 1e6:.0f} MB first")
    if min(study.rows.values()) < 100:
        lines.append("note      fewer than 100 rows: differences between methods will mostly be noise")
    return "\n".join(lines)


def studies_naming(key: str, folder: Path = STUDIES) -> list[Path]:
    """Studies that have a property among their targets or sources."""
    found = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError):
            continue
        if isinstance(values, dict) and key in [*values.get("targets", ()), *values.get("sources", ())]:
            found.append(path)
    return found


def learning_rows(catalog: Catalog, entry: PropertyEntry) -> int:
    """Rows to learn from, as far as the catalogue or the files of one's own say.

    Raises:
        OwnFileError: A file of one's own is missing.
    """
    if entry.embedded is not None:
        return catalog.packages[entry.embedded.package].n_train
    if entry.is_own:
        return sum(_lines(Path(f.folder or "", f.path)) for f in entry.files if f.split != "test")
    return int(0.9 * (entry.paper.data_size or entry.rows or 1_000))


def _lines(path: Path) -> int:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return sum(1 for _ in csv.reader(stream)) - 1
    except OSError as error:
        raise OwnFileError(
            f"{path} cannot be read: {error.strerror}. Bring it back with 'dvc checkout' (or 'dvc pull'), or add "
            "the data with --replace."
        ) from None


def _with_role(catalog: Catalog, name: str, role: Role) -> PropertyEntry:
    entry = catalog.property(name)
    if role not in entry.roles:
        raise ConfigError(
            f"{entry.key!r} is no {role} ('crossprop data list --role {role}' shows those that are)."
        )
    return entry


def _source_rows(entry: PropertyEntry) -> int:
    """Compositions of a source, roughly."""
    return _EMBEDDED_ROWS.get(entry.key) or entry.rows or 100_000


def _to_fetch(catalog: Catalog, params: Params, raw_root: Path) -> int:
    study = params.study
    files = catalog.pinned_files([*study.targets, *study.sources], study.edition)
    return sum(f.size or 0 for f in files if f.folder is None and not (raw_root / f.relative_path).is_file())


def _title(goals: Sequence[PropertyEntry]) -> str:
    names = ", ".join(entry.description.split(",")[0].strip() for entry in goals[:4])
    return names + (f" and {len(goals) - 4} more" if len(goals) > 4 else "")
