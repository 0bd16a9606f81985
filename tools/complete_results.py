"""Add evidence, intervals and domain to models of finished results that were saved without; nothing is fitted again.

    python tools/complete_results.py results/jarvis

Takes folders of a study, a shard or a target. What is there already is written anew and comes out the same.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from crossprop.errors import StoreError, run_command
from crossprop.uncertainty.evidence import complete_results, folder_coverage


def main() -> None:
    """Complete the models below some folders and say how their intervals do on the hold-out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="results of a study, a shard or a target")
    for folder in parser.parse_args().folders:
        targets = sorted(path.parent for path in folder.rglob("winners.json"))
        if not targets:
            raise StoreError(
                f"{folder} holds no finished target (no winners.json). Give a folder of results."
            )
        for target in targets:
            model = complete_results(target)
            coverage = folder_coverage(model) if model else None
            told = "no winner, no model"
            if coverage:
                share = 100 * (coverage.share or 0.0)
                told = f"{100 * coverage.stated:.0f} % intervals hold {share:.1f} % of {coverage.n} hold-out values"
            print(f"{target.name}: {told}")


if __name__ == "__main__":
    run_command(main)
