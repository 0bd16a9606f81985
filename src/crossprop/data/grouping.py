"""Rows that belong together: those of one composition, and those of one group, such as a paper or a sample series."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from crossprop.errors import DataError


def linked_groups(
    compositions: Sequence[str] | np.ndarray, groups: Sequence[object] | np.ndarray
) -> np.ndarray:
    """A key for every row that all rows share which have to stay on one side of a split.

    Rows of one group stay together, and so do rows of one composition: groups that share a composition become one.

    Args:
        compositions: Composition key of each row, shape (n,).
        groups: Group of each row, shape (n,); neither order nor type matters.

    Returns:
        Object array, shape (n,): the first composition key, in alphabetical order, among the rows that are linked.

    Raises:
        DataError: The lengths differ, or a row names no group.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    keys = pd.Series(np.asarray(compositions, dtype=object))
    if len(keys) != len(groups):
        raise DataError(f"{len(groups)} groups for {len(keys)} rows. Give one for every row.")
    of_group, _ = pd.factorize(pd.Series(list(groups), dtype=object))
    if (of_group < 0).any():
        raise DataError(f"Row {int(np.flatnonzero(of_group < 0)[0])} names no group. Give every row one.")
    of_key, names = pd.factorize(keys, sort=True)
    n_keys, size = len(names), len(names) + int(of_group.max(initial=-1)) + 1
    links = coo_array((np.ones(len(keys)), (of_key, n_keys + of_group)), shape=(size, size))
    _, block = connected_components(links, directed=False)
    first = pd.Series(np.asarray(names, dtype=object)).groupby(block[:n_keys]).first()
    linked: np.ndarray = first.loc[block[of_key]].to_numpy(dtype=object)
    return linked


def groups_by_line(path: Path, column: str, lines: Iterable[int]) -> list[str]:
    """What stands in the column of groups on some lines of a CSV file (UTF-8, commas, a header).

    Raises:
        DataError: There is no such column, or a line names no group.
    """
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream)
        header = [name.strip() for name in next(reader, [])]
        if column not in header:
            raise DataError(f"{path} has no column {column!r}. Name the column of groups in the catalogue.")
        at = header.index(column)
        found: dict[int, str] = {}
        for row in reader:
            found[reader.line_num] = row[at].strip() if len(row) > at else ""
    groups = [found.get(line, "") for line in lines]
    if "" in groups:
        raise DataError(f"{path}: {groups.count('')} row(s) name no group in {column!r}. Give every row one.")
    return groups
