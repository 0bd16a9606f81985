"""Which rows are learnt from and which are measured on; every split keeps the rows of one composition together."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from crossprop.errors import DataError, UserFileError
from crossprop.methods import DEFAULT_SEED, Protocol

GROUP_COLUMN = "group"  # key of the rows that stay together, where rows have groups
AUXILIARY = "auxiliary"  # split of rows that are learnt from in every fold and never validated on
VALIDATION_SHARE = 0.1  # share of the learning rows that validates: 81:9:10 of a target, 90:10 of a source


def together_in(frame: pd.DataFrame) -> str:
    """The column that says which rows stay on one side of every split: the group's, or the composition's."""
    return GROUP_COLUMN if GROUP_COLUMN in frame else "composition"


def without_repeats(frame: pd.DataFrame) -> pd.DataFrame:
    """Without the training rows whose composition (or group) is in the hold-out that the column ``split`` states."""
    together, training = together_in(frame), frame["split"] == "train"
    if training.all() or not training.any():
        raise UserFileError("The split column leaves one side empty. Mark some rows 'train' and some 'test'.")
    return frame[~(training & frame[together].isin(frame.loc[~training, together]))]


def training_rows(frame: pd.DataFrame, protocol: Protocol | str = Protocol.PUBLISHED) -> np.ndarray:
    """Positions of the rows to learn from in a prepared table, ascending; fewer than two are refused (DataError).

    Protocol ``published`` keeps all rows of split ``train`` or ``auxiliary``; ``strict`` drops those whose composition
    (or group) is held out.
    """
    keep = frame["split"].isin(["train", AUXILIARY]).to_numpy()
    if Protocol(protocol) is Protocol.STRICT:
        together = frame[together_in(frame)]
        keep &= ~together.isin(set(together[frame["split"] == "test"])).to_numpy()
    rows = np.flatnonzero(keep)
    if len(rows) < 2:
        raise DataError(f"{len(rows)} of {len(frame)} rows are left to learn from ({protocol}). Give at least two.")
    return rows


def screening_split(keys: np.ndarray, seed: int = DEFAULT_SEED) -> tuple[np.ndarray, np.ndarray]:
    """Split 90:10 by composition key: positions to train on and to validate on, ascending, together all rows.

    A key whose rows would make the validation part half as large again is passed over.
    """
    groups, sizes = _groups(keys)
    if len(sizes) < 2:
        raise DataError(f"{len(groups)} rows hold {len(sizes)} composition(s); a split needs at least two.")
    order = np.random.default_rng(seed).permutation(len(sizes))
    wanted, total = round(VALIDATION_SHARE * len(groups)), 0
    validating = np.zeros(len(sizes), dtype=bool)
    for group in order:
        if total < wanted and total + sizes[group] <= max(1.5 * wanted, wanted + 1):
            validating[group] = True
            total += sizes[group]
    if not total:
        validating[order[np.argmin(sizes[order])]] = True
    in_validation = validating[groups]
    return np.flatnonzero(~in_validation), np.flatnonzero(in_validation)


def source_validation(keys: np.ndarray, seed: int = DEFAULT_SEED) -> np.ndarray:
    """Which rows of a source validate, shape (n,), bool: about a tenth, neither all nor none.

    A hash of composition key and seed decides, so that a composition has the same role in every source: a network of
    several sources is measured on compositions of which it has learnt no property at all.
    """
    if len(set(keys)) < 2:
        raise DataError(f"{len(keys)} rows hold {len(set(keys))} composition(s); a split needs at least two.")
    digests = [hashlib.sha256(f"{seed} {key}".encode()).digest() for key in keys]
    places = np.array([int.from_bytes(value[:8], "big") for value in digests], dtype=np.uint64)
    return np.asarray(places <= max(int(VALIDATION_SHARE * 2**64), int(places.min())))


def cross_validation_folds(
    keys: np.ndarray, n_folds: int = 10, seed: int = DEFAULT_SEED
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Folds of near-equal size that keep the rows of one composition key together: train and validation positions."""
    groups, sizes = _groups(keys)
    if not 2 <= n_folds <= len(sizes):
        raise DataError(
            f"{n_folds} folds are impossible with {len(sizes)} compositions in {len(groups)} rows. "
            f"Choose between 2 and {len(sizes)} folds."
        )
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]  # large groups first: the folds come out even
    fold_of_group = np.empty(len(sizes), dtype=np.int64)
    filled = np.zeros(n_folds, dtype=np.int64)
    for group in order:
        fold = int(np.argmin(filled))
        fold_of_group[group] = fold
        filled[fold] += sizes[group]
    fold_of_row = fold_of_group[groups]
    return [(np.flatnonzero(fold_of_row != fold), np.flatnonzero(fold_of_row == fold)) for fold in range(n_folds)]


def _groups(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Group number of each row, independent of the row order, and the size of each group."""
    codes, names = pd.factorize(np.asarray(keys, dtype=object), sort=True)
    return codes, np.bincount(codes, minlength=len(names))


def holdout_size(rows: int) -> int:
    """Rows that are held out of so many: a tenth, at least 20, but at most a quarter."""
    return max(round(0.1 * rows), min(20, round(0.25 * rows)), 1)


def draw_holdout(compositions: np.ndarray, seed: int = DEFAULT_SEED, share: float | None = None) -> np.ndarray:
    """Which rows are held out, shape (n,), neither all nor none; all rows of a key stand on one side.

    Keys (two different ones at least) are taken in the order of a hash of their name and the seed: neither the order
    of the rows matters nor, for most keys, which others there are. One whose rows would make the hold-out half as large
    again is passed over. ``share`` is that of the rows; without one :func:`holdout_size` decides.
    """
    sizes = pd.Series(compositions).value_counts()
    wanted = holdout_size(len(compositions)) if share is None else share * len(compositions)
    ranked = sorted(sizes.index, key=lambda key: hashlib.sha256(f"{seed} {key}".encode()).digest())
    held: list[str] = []
    total = 0
    for key in ranked[:-1]:
        if total < wanted and total + sizes[key] <= max(1.5 * wanted, wanted + 1):
            held.append(key)
            total += int(sizes[key])
    return np.asarray(pd.Series(compositions).isin(held or [min(ranked, key=lambda key: int(sizes[key]))]))


def linked_groups(compositions: Sequence[str] | np.ndarray, groups: Sequence[object] | np.ndarray) -> np.ndarray:
    """A key for every row, shape (n,), that all rows share which have to stay on one side of a split.

    Groups that share a composition become one; the key is the first of its composition keys in alphabetical order.
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
