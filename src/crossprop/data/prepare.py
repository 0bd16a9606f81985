"""From fetched files to prepared properties: targets first, then sources that hold nothing of them."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from crossprop.data.catalog import Catalog, PropertyEntry, Role
from crossprop.data.cleaning import noted, read_table, refuse_unlearnable
from crossprop.data.embedded import embedded_table, shared_draw
from crossprop.data.prepared import PREPARED_COLUMNS, PreparedData
from crossprop.data.sources import merge_compositions, prepare_source
from crossprop.data.splits import GROUP_COLUMN, draw_holdout, linked_groups
from crossprop.errors import DataError
from crossprop.methods import DEFAULT_SEED


def prepare_study(
    catalog: Catalog,
    targets: Iterable[str],
    sources: Iterable[str],
    raw_root: Path,
    folder: Path,
    *,
    excluded: Iterable[str] = (),
    edition: str | None = None,
    seed: int = DEFAULT_SEED,
    report: Callable[[str], None] = lambda message: None,
) -> dict[str, Path]:
    """Prepare and write every property of a study, and ``report`` a line on each; the path of each table by key.

    The sources lose every composition of the properties ``excluded``: of all targets, if it is empty.
    """
    written: dict[str, Path] = {}

    def finish(key: str, data: PreparedData) -> None:
        written[key] = data.write(folder, key)
        counts = data.frame["split"].value_counts()
        actions = data.cleaning["action"].value_counts()
        parts = [f"{counts[name]:,} {name}" for name in ("train", "validation", "test") if name in counts]
        parts += [f"{actions[name]:,} {name}" for name in ("repaired", "dropped") if name in actions]
        report(f"{key}: {', '.join(parts)}")

    predicted, removed = catalog.keys(targets), catalog.keys(excluded or targets)
    compositions: set[str] = set()
    for key in dict.fromkeys(predicted + removed):
        data = prepare_target(catalog, key, raw_root, seed)
        if key in removed:
            compositions |= set(data.frame["composition"])
        if key in predicted:
            finish(key, data)
    for key in dict.fromkeys(catalog.keys(sources)):
        finish(key, prepare_source(catalog, key, raw_root, compositions, edition, seed))
    return written


def prepare_target(catalog: Catalog, key: str, raw_root: Path, seed: int = DEFAULT_SEED) -> PreparedData:
    """Rows of a target property with their split into ``train`` and ``test``, published or drawn.

    A published split keeps all repeated compositions: the protocol decides about them. An embedded property gets one
    row per composition and the draw that all targets of its package share.
    """
    entry = catalog.property(key)
    if Role.TARGET not in entry.roles:
        raise DataError(f"{entry.key!r} is a {' and '.join(entry.roles)} property, not a target.")
    embedded = entry.embedded is not None
    data = _embedded_target(catalog, entry, seed) if embedded else _file_target(entry, raw_root, seed)
    learning = data.frame.loc[data.frame["split"] == "train", "value"].to_numpy()
    refuse_unlearnable(learning, f"the training rows of target {entry.key!r}")
    if not (data.frame["split"] == "test").any():
        raise DataError(f"Target {entry.key!r} has no usable hold-out row. Check its files.")
    return data


def _file_target(entry: PropertyEntry, raw_root: Path, seed: int) -> PreparedData:
    names = entry.columns
    assert names is not None  # the catalogue guarantees columns beside files
    frames, reports = [], []
    for file in entry.files:
        table = read_table(raw_root / file.relative_path, names.formula, names.value, names.group)
        frames.append(table.rows.assign(split=file.split))
        reports.append(table.report)
    frame = pd.concat(frames, ignore_index=True)
    columns, together, what = list(PREPARED_COLUMNS), "composition", "composition"
    if names.group is not None:
        frame[GROUP_COLUMN] = linked_groups(frame["composition"].to_numpy(), frame[GROUP_COLUMN].to_numpy())
        columns, together, what = [*columns, GROUP_COLUMN], GROUP_COLUMN, "group"
    if (frame["split"] == "all").all():
        refuse_unlearnable(frame["value"].to_numpy(), f"target {entry.key!r}")
        frame["split"] = np.where(draw_holdout(frame[together].to_numpy(), seed), "test", "train")
    in_test = set(frame.loc[frame["split"] == "test", together])
    seen = int(frame.loc[frame["split"] == "train", together].isin(in_test).sum())
    if seen:
        text = f"{seen} training rows share their {what} with a hold-out row; protocol 'strict' drops them"
        reports.append(noted(entry.key, [text]))
    return PreparedData(frame=frame[columns], cleaning=pd.concat(reports, ignore_index=True))


def _embedded_target(catalog: Catalog, entry: PropertyEntry, seed: int) -> PreparedData:
    assert entry.embedded is not None
    table = embedded_table(catalog, entry)
    rows = merge_compositions(table.rows, entry.merge)
    train, test = shared_draw(catalog, entry.embedded.package, seed)
    rows = rows[rows["composition"].isin(train | test)]
    frame = rows.assign(split=np.where(rows["composition"].isin(train), "train", "test"))
    frame = frame.reset_index(drop=True)
    several = int((table.rows["composition"].value_counts() > 1).sum())
    text = (
        f"{several} compositions have several polymorphs: one row each, with their {entry.merge} value; "
        f"{len(train)} compositions drawn to learn from and {len(test)} held out (seed {seed})"
    )
    cleaning = pd.concat([table.report, noted(entry.key, [text])], ignore_index=True)
    return PreparedData(frame=frame, cleaning=cleaning)
