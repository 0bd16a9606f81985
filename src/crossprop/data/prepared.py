"""A property ready to be learnt from, and its two files."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from crossprop.data.splits import GROUP_COLUMN
from crossprop.io import atomic_file

PREPARED_COLUMNS = ("formula", "composition", "value", "split")


@dataclass(frozen=True)
class PreparedData:
    """One prepared property.

    ``frame`` has the columns ``formula``, ``composition`` (key), ``value`` (in the property's unit), ``split``
    (``train``, ``test`` or ``auxiliary`` for a target, ``train`` or ``validation`` for a source), and ``group`` where
    there are any.
    ``cleaning`` says what was repaired, dropped and noted, columns :data:`crossprop.data.cleaning.REPORT_COLUMNS`.
    """

    frame: pd.DataFrame
    cleaning: pd.DataFrame

    def write(self, folder: Path, key: str) -> Path:
        """Write ``<key>.parquet`` and ``<key>.cleaning.csv``; a file is either there whole or not at all.

        Where rows have groups, ``<key>.grouped.parquet`` holds the same rows with the group in the place of the
        composition: what splits by composition then splits by group.
        """
        target, grouped = folder / f"{key}.parquet", folder / f"{key}.grouped.parquet"
        columns = list(PREPARED_COLUMNS)
        tables = {target: self.frame[columns]}
        if GROUP_COLUMN in self.frame:
            by_group = self.frame.assign(composition=self.frame[GROUP_COLUMN])[columns]
            tables = {grouped: by_group, target: self.frame[[*columns, GROUP_COLUMN]]}
        report = folder / f"{key}.cleaning.csv"
        with ExitStack() as ending:  # in reverse: the table itself is renamed last
            drafts = {path: ending.enter_context(atomic_file(path)) for path in (*reversed(tables), report)}
            self.cleaning.to_csv(drafts[report], index=False, lineterminator="\n")
            for path, table in tables.items():
                table.to_parquet(drafts[path], index=False)
        if grouped not in tables:
            grouped.unlink(missing_ok=True)
        return target
