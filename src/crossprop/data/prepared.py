"""A property ready to be learnt from, and its two files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from crossprop.errors import StoreError

PREPARED_COLUMNS = ("formula", "composition", "value", "split")


@dataclass(frozen=True)
class PreparedData:
    """One prepared property.

    Attributes:
        frame: Columns ``formula``, ``composition`` (key), ``value`` (in the property's unit), ``split``:
            ``train`` or ``test`` for a target, ``train`` or ``validation`` for a source.
        cleaning: What was repaired, dropped and noted, columns as in
            :data:`crossprop.data.cleaning.REPORT_COLUMNS`.
    """

    frame: pd.DataFrame
    cleaning: pd.DataFrame

    def write(self, folder: Path, key: str) -> Path:
        """Write ``<key>.parquet`` and ``<key>.cleaning.csv``; a file is either there whole or not at all.

        Raises:
            StoreError: The folder cannot be written to.
        """
        target = folder / f"{key}.parquet"
        report = folder / f"{key}.cleaning.csv"
        suffix = f".{os.getpid()}.part"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.cleaning.to_csv(f"{report}{suffix}", index=False, lineterminator="\n")
            self.frame[list(PREPARED_COLUMNS)].to_parquet(f"{target}{suffix}", index=False)
            Path(f"{report}{suffix}").replace(report)
            Path(f"{target}{suffix}").replace(target)
        except OSError as error:
            raise StoreError(
                f"{target} could not be written: {error}. Free space or choose another folder."
            ) from error
        finally:
            for path in (target, report):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
        return target
