"""`crossprop fit` against ten lines of scikit-learn, on hold-outs of a prepared study.

    python benchmarks/fit_against_plain.py --params params.yaml --root . --smallest 12 --minutes 5 \
        --out fit_against_plain.csv

Every target's training and hold-out rows become a CSV with a column of the split, which `crossprop fit` learns from,
with the study's source networks. Its hold-out MAE is divided by the lower one of the plain baseline and the plain
median (300 extra trees of scikit-learn on attributes beside fractions, their mean and their median), all as means of
their fold models. Targets that --out holds already are not fitted again. The hold-out measures; it chooses nothing.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from crossprop.config import PARAMS_FILE, load_params
from crossprop.data.catalog import load_catalog
from crossprop.paths import StudyPaths


def main() -> None:
    """Fit the targets, smallest first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=Path, default=PARAMS_FILE)
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--smallest", type=int, default=12)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--out", type=Path, default=Path("fit_against_plain.csv"))
    args = parser.parse_args()
    study = load_params(args.params).study
    paths = StudyPaths(study.name, args.root)
    frames = {target: pd.read_parquet(paths.prepared(target)) for target in study.targets}
    networks = paths.source_model(study.sources[0]).parent
    chosen = sorted(frames, key=lambda target: len(frames[target]))[: args.smallest]
    rows = pd.read_csv(args.out).to_dict("records") if args.out.exists() else []
    for target in chosen:
        if any(row["target"] == target for row in rows):
            continue
        report = _fit(frames[target], target, networks, args.minutes)
        errors = {row["method"]: row["holdout"]["mae"] for row in report["methods"] if "holdout" in row}
        simple = min(errors["plain_baseline"], errors["plain_median"])
        mae = report["winner"]["holdout"]["mae"]
        rows.append(
            {
                "target": target, "label": load_catalog().property(target).label,
                "rows": report["rows"]["training"], "holdout": report["rows"]["holdout"],
                "winner": report["winner"]["label"], "mae": mae,
                "plain_baseline": errors["plain_baseline"], "plain_median": errors["plain_median"],
                "ratio": mae / simple, "minutes": report["budget"]["took_minutes"],
            }
        )  # fmt: skip
        pd.DataFrame(rows).to_csv(args.out, index=False, float_format="%.5g")
        print(f"{target}: {mae:.4g} against {simple:.4g}, ratio {mae / simple:.3f}", flush=True)
    ratios = np.array([row["ratio"] for row in rows], float)
    print(f"{len(ratios)} targets: geometric mean {np.exp(np.log(ratios).mean()):.3f}, worst {ratios.max():.3f}")


def _fit(frame: pd.DataFrame, target: str, networks: Path, minutes: float) -> dict:
    """The content of ``report.json`` of a fit of one target."""
    with TemporaryDirectory() as folder:
        file, out = Path(folder) / f"{target}.csv", Path(folder) / "model"
        split = frame["split"].where(frame["split"] == "test", "train")
        frame[["formula", "value"]].assign(split=split).to_csv(file, index=False)
        command = [
            sys.executable,
            "-m",
            "crossprop.cli",
            "fit",
            str(file),
            "--target",
            target,
            "--out",
            str(out),
        ]
        command += ["--formula-column", "formula", "--value-column", "value", "--split-column", "split"]
        command += ["--sources", str(networks.resolve()), "--minutes", str(minutes), "--drop-invalid"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{target}: {done.stderr or done.stdout}")
        return json.loads((out / "report.json").read_text())


if __name__ == "__main__":
    main()
