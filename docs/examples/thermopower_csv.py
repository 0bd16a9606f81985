"""Writes the CSV of the tutorial: 300 thermopowers as somebody might have collected them, with four bad rows.

    python docs/examples/thermopower_csv.py thermopower.csv

The values are n-type Seebeck coefficients at 300 K (Ricci et al. 2017, doi:10.1038/sdata.2017.85), read from the copy
that matminer brings along, so that nothing is downloaded.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from crossprop.data.catalog import load_catalog
from crossprop.data.embedded import embedded_table

ROWS = 300
MISTAKES = (("Bi2Te3?", "-150"), ("PbTe", "n/a"), ("Qq3Sb", "12.5"), ("", "-80"))


def main() -> None:
    catalog = load_catalog()
    table = embedded_table(catalog, catalog.property("seebeck_n")).rows
    rows = table.drop_duplicates("composition").sample(ROWS, random_state=0)
    with Path(sys.argv[1]).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["sample", "compound", "thermopower"])
        values = [(formula, f"{value:.1f}") for formula, value in zip(rows["formula"], rows["value"], strict=True)]
        values[100:100] = MISTAKES
        writer.writerows((f"S{i:03d}", formula, value) for i, (formula, value) in enumerate(values))


if __name__ == "__main__":
    main()
