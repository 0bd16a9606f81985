"""User data through the stages: added, prepared beside a source, changed and noticed, to the registry."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
import yaml

from crossprop.data.catalog import load_catalog
from crossprop.data.user_rows import read_user_table
from crossprop.estimator.add import NewProperty, add_data, held_out_rows
from crossprop.estimator.study_file import plan_study
from crossprop.paths import RAW

ROOT = Path(__file__).resolve().parents[2]
NEW = NewProperty("hardness", "GPa", "Hardness of alloys")
METALS = ("Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zr", "Nb", "Mo", "W")


def write_alloys(path: Path, slope: float = 1.0) -> Path:
    """Some 130 alloys whose value is a smooth function of the composition; two rows are bad."""
    rows = [
        f"{a}{n}{b};{slope * (n * i + j) / (n + 1) + 0.1 * (i * j % 7):.3f}".replace(".", ",")
        for (i, a), (j, b) in combinations(enumerate(METALS), 2)
        for n in (1, 2)
    ]
    rows[5] += " GPa"
    path.write_text("Legierung;hardness\n" + "\n".join([*rows, "Foo;1"]) + "\n")
    return path


def add(path: Path, replace: bool = False) -> None:
    table = read_user_table(path, target="hardness")
    assert len(table.problems) == 2
    add_data(path, table, held_out_rows(path, table), NEW, replace=replace)


def script(name: str, cwd: Path) -> str:
    """A stage's script, as DVC calls it."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "pipelines" / f"{name}.py")], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_own_data_are_fetched_and_prepared_beside_a_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CROSSPROP_CATALOG", raising=False)
    add(write_alloys(tmp_path / "alloys.csv"))
    study = plan_study(load_catalog(), "alloys", ["hardness"], None, RAW, tier="trial")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(study.values))
    script("fetch", tmp_path)
    said = script("prepare", tmp_path)
    folder = tmp_path / "data" / "prepared" / "alloys"
    target, source = (pd.read_parquet(folder / f"{name}.parquet") for name in ("hardness", "seebeck_p"))
    assert len(target) == 131
    assert (target["split"] == "test").sum() == 20
    assert "hardness: 111 train, 20 test" in said
    assert len(source) > 1_000
    assert not set(source["composition"]) & set(target["composition"])

    add(write_alloys(tmp_path / "alloys.csv", slope=2.0), replace=True)
    script("fetch", tmp_path)
    script("prepare", tmp_path)
    after = pd.read_parquet(folder / "hardness.parquet")
    held = [set(frame.loc[frame["split"] == "test", "formula"]) for frame in (target, after)]
    assert held[0] == held[1]  # measured on the same alloys as before
    assert not after["value"].equals(target["value"])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_study_of_own_data_runs_to_the_registry_and_follows_a_change(tmp_path, monkeypatch):
    root = tmp_path / "project"
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    left_out = ("reports/", "dvc.lock", "tests/", "docs/", "own/")
    for name in listed:
        if (ROOT / name).is_file() and not name.startswith(left_out):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    private = ("MLFLOW_", "KERAS", "OMP_", "CROSSPROP_CAT")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(private)} | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(root / "src"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DVC_NO_ANALYTICS": "1",
        "MPLBACKEND": "Agg",
    }

    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    def crossprop(*arguments: object) -> str:
        return run(sys.executable, "-m", "crossprop.cli", *map(str, arguments))

    (root / "own").mkdir()
    (root / "own" / "catalog.yaml").write_text("origins: {}\nproperties: {}\n")
    run("git", "init", "--quiet")
    run("git", "add", "-A")
    run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "-m", "start")
    adding = ("data", "add", write_alloys(tmp_path / "alloys.csv"), "--target", "hardness", "--unit", "GPa")
    crossprop(*adding)
    crossprop("study", "new", "alloys", "--target", "hardness", "--tier", "trial")
    run("dvc", "exp", "run", "-S", "study=alloys")
    assert "1 targets" in crossprop("check")
    assert (root / "summary" / "alloys" / "README.md").is_file()
    registered = (root / "data" / "registered" / "alloys.json").read_text()
    assert "alloys.hardness" in registered
    assert "up to date" in run("dvc", "repro")

    write_alloys(tmp_path / "alloys.csv", slope=2.0)
    crossprop(*adding, "--replace")
    output = run("dvc", "repro")
    for stage in ("fetch", "prepare", "transfer@all", "summarize", "register"):
        assert f"Running stage '{stage}'" in output, stage
    assert (
        "Stage 'pretrain@seebeck_p' didn't change" in output
    )  # same alloys, so the source has the same rows
    assert (root / "data" / "registered" / "alloys.json").read_text() != registered
