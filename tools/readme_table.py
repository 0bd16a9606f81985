"""Copies the report of a finished study to reports/, and writes the README's table anew from that of the default study.

python tools/readme_table.py [STUDY]

Pipelines write summary/, which git ignores; reports/ holds the copies that are committed. Without a study only the
table is written. Run it whenever reports/transport has changed; a test holds the two together.
"""

from __future__ import annotations

import csv
import io
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README, TABLE = "README.md", "reports/transport/targets.csv"
MARKED = re.compile(r"(<!-- numbers: (?P<source>\S+), .*? -->\n)(?P<table>.*?)(<!-- end of numbers -->)", re.DOTALL)


def render(text: str) -> str:
    """The Markdown table of a ``targets.csv``, with an empty line above and below."""
    lines = [
        "",
        "| target | unit | base MAE | best SC | MAE | best TL | MAE | winner of all | MAE | R² |",
        "| :-- | :-- | --: | :-- | --: | :-- | --: | :-- | --: | --: |",
    ]
    for row in csv.DictReader(io.StringIO(text)):
        base, scratch, transfer, winner = (
            f"{float(row[name]):#.3g}".rstrip(".")
            for name in ("base_mae", "best_sc_test_mae", "best_tl_test_mae", "winner_test_mae")
        )
        lines.append(
            f"| `{row['target']}` | {row['unit']} | {base} | `{row['best_sc']}` | {scratch} "
            f"| `{row['best_tl']}` | {transfer} | `{row['winner']}` | {winner} | {float(row['r2']):.2f} |"
        )
    return "\n".join([*lines, "", ""])


def main() -> None:
    """Copy a study's report if one is named, and replace the table between the marks."""
    for study in sys.argv[1:]:
        source = ROOT / "summary" / study
        if not source.is_dir():
            raise SystemExit(f"tools/readme_table.py: {source} does not exist. Run the study first (make repro).")
        shutil.rmtree(ROOT / "reports" / study, ignore_errors=True)
        shutil.copytree(source, ROOT / "reports" / study)
    readme = ROOT / README
    table = render((ROOT / TABLE).read_text(encoding="utf-8"))
    text, n = MARKED.subn(lambda match: match[1] + table + match[4], readme.read_text(encoding="utf-8"))
    if n != 1:
        raise SystemExit(f"tools/readme_table.py: {README} has {n} marked tables, not one.")
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
