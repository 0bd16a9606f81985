"""User data: a fit with pretrained networks that is killed in between, and a study through all stages."""

import json
import os
import signal
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from studies import Project
from waiting import until

from crossprop import CrossPropertyRegressor, prepare_sources
from crossprop.data.compositions import ELEMENTS, composition_keys, fraction_matrix
from crossprop.estimator.budget import EMBEDDED
from crossprop.estimator.pretrained import SourceRecipe, composition_codes

pytestmark = pytest.mark.slow

TINY = SourceRecipe("tiny", EMBEDDED, EMBEDDED, 1, 400, 0.1)
METALS = ("Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zr", "Nb", "Mo", "W")
KNOWN = ELEMENTS[:14]
FORMULAS = [f"{a}{p}{b}{4 - p}" for i, a in enumerate(KNOWN) for b in KNOWN[i + 1 :] for p in (1, 3)][:60]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def networks(cache):
    return prepare_sources(FORMULAS, TINY, cache=cache, workers=2, write=lambda line: None)


def test_the_networks_have_seen_none_of_the_rows_and_know_what_they_have_seen(networks, cache):
    keys = composition_keys(fraction_matrix(FORMULAS))
    assert not networks.overlap(keys).any()
    assert 300 < networks.n_seen <= 400
    assert (np.diff(networks.seen.astype(object)) > 0).all()
    assert {path.name for path in networks.folder.iterdir()} >= {"all_sources", *EMBEDDED, "networks.json"}
    from crossprop.data.catalog import load_catalog
    from crossprop.data.sources import prepare_source

    known = prepare_source(load_catalog(), EMBEDDED[0], cache, frozenset(keys)).frame["composition"]
    assert np.isin(composition_codes(known), networks.seen).sum() == networks.n_seen


def test_a_fit_that_is_killed_goes_on_from_the_command_line(networks, cache, tmp_path):
    path, out = tmp_path / "my.csv", tmp_path / "model"
    hardness = fraction_matrix(FORMULAS) @ np.linspace(0, 30, len(ELEMENTS))
    pd.DataFrame({"formula": FORMULAS, "hardness": hardness}).to_csv(path, index=False)
    command = [
        sys.executable, "-m", "crossprop.cli", "fit", str(path), "--target", "hardness", "--out", str(out),
        "--workers", "2", "--sources", str(networks.folder),
        "--methods", "ml,boost,boost_sources,resnet_finetune,blend", "--folds", "2",
    ]  # fmt: skip
    environment = {**os.environ, "CROSSPROP_CACHE": str(cache)}
    log = tmp_path / "log.txt"
    with log.open("w") as stream:
        child = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=environment)
        until(lambda: "[3/" in log.read_text() or child.poll() is not None)
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert "[3/" in log.read_text(), log.read_text()
    assert not out.exists()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "going on from there" in done.stdout
    assert "tasks are finished already" in done.stdout
    report = json.loads((out / "report.json").read_text())
    assert report["transfer"]["source"] == "all_sources"
    assert {p.name for p in tmp_path.iterdir()} == {"my.csv", "model", "log.txt"}
    predicted = subprocess.run(
        [sys.executable, "-m", "crossprop.cli", "predict", str(out), "LiNa"],
        capture_output=True, text=True, env=environment, check=True,
    )  # fmt: skip
    assert predicted.stdout.startswith("formula,value,lower,upper")
    assert Path(CrossPropertyRegressor.load(out).model_folder_).is_dir()


def write_alloys(path, slope=1.0):
    """Some 130 alloys whose value is a smooth function of the composition; two rows are bad."""
    rows = [
        f"{a}{n}{b};{slope * (n * i + j) / (n + 1) + 0.1 * (i * j % 7):.3f}".replace(".", ",")
        for (i, a), (j, b) in combinations(enumerate(METALS), 2)
        for n in (1, 2)
    ]
    rows[5] += " GPa"
    path.write_text("Legierung;hardness\n" + "\n".join([*rows, "Foo;1"]) + "\n")
    return path


@pytest.mark.timeout(1800)
def test_a_study_of_own_data_runs_to_the_registry_and_follows_a_change(tmp_path):
    project = Project(tmp_path / "project")
    project.copy("reports/", "dvc.lock", "tests/", "docs/", "own/")
    root, run = project.root, project.run

    def crossprop(*arguments):
        return run(sys.executable, "-m", "crossprop.cli", *map(str, arguments))

    (root / "own").mkdir()
    (root / "own" / "catalog.yaml").write_text("origins: {}\nproperties: {}\n")
    project.commit()
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
    # same alloys, so the source has the same rows
    assert "Stage 'pretrain@seebeck_p' didn't change" in output
    assert (root / "data" / "registered" / "alloys.json").read_text() != registered

    assert (root / "own" / "hardness.dvc").is_file()
    (root / "conf" / "study" / "alloys.yaml").unlink()
    crossprop("data", "remove", "hardness")
    assert not list((root / "own").glob("*hardness*"))
