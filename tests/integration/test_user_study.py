"""User data through the stages: added, prepared beside a source, changed and noticed, to the registry."""

import os
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
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
