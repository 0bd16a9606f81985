"""A property ready to be learnt from, and its two files."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

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
        """Write ``<key>.cleaning.csv`` and, last, ``<key>.parquet``; a file is either there whole or not at all."""
        target = folder / f"{key}.parquet"
        with atomic_file(target) as table, atomic_file(folder / f"{key}.cleaning.csv") as report:
            self.cleaning.to_csv(report, index=False, lineterminator="\n")
            self.frame.to_parquet(table, index=False)
        return target
