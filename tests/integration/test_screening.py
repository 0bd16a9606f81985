"""``crossprop screen`` as a person uses it: to the end, stopped and continued, refused, ranked again."""

import json
import re
import signal
import subprocess
import sys
from itertools import product
from math import gcd
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from registries import save_ridge
from saved_shares import save_share
from waiting import PATIENCE, until

from crossprop.data.compositions import ELEMENTS, composition_keys, fraction_matrix
from crossprop.errors import ScreeningError
from crossprop.io import exclusive
from crossprop.screening import screen
from crossprop.screening.request import ScreenRequest
from crossprop.screening.result import PARTS, write_part
from crossprop.screening.run import prepare

BASIC = ("--elements", "Fe,Co,Al,O,Pu", "--property", "iron,oxygen", "--max-elements", 3)
SLOW = (
    *("--elements", "3d-metals,4d-metals,O,S", "--property", "iron,oxygen", "--max-elements", "3"),
    *("--where", "iron > 20 and oxygen.lower < 30", "--batch", "512", "--workers", "2"),
)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two saved ridges: about 100 times the share of iron, and of oxygen."""
    folder = tmp_path_factory.mktemp("models")
    return {name: save_share(folder / name, symbol) for name, symbol in (("iron", "Fe"), ("oxygen", "O"))}


@pytest.fixture
def request_of(models, tmp_path):
    """Makes a request for 31 compositions of iron and cobalt."""

    def make(**changes):
        values = {"properties": ("iron",), "elements": ("Fe", "Co"), "out": tmp_path / "o"}
        return ScreenRequest(**values | {"models": {"iron": str(models["iron"])}} | changes)

    return make


@pytest.fixture
def run(models, crossprop, monkeypatch, tmp_path):
    """Runs ``crossprop screen`` with both models."""
    monkeypatch.chdir(tmp_path)
    named = [f"--model={name}={folder}" for name, folder in models.items()]
    return lambda *arguments: crossprop("screen", *arguments, *named)


def test_a_screening_that_another_process_has_finished_is_only_ranked(request_of):
    first, second = prepare(request_of()), prepare(request_of())
    counts = first.run(progress=False).note["counts"]
    again = second.run(progress=False)
    assert again.note["counts"] == counts
    assert counts["predicted"] == len(again.top) == 31


def test_from_elements_to_a_ranked_table(run, tmp_path):
    out = run(*BASIC, "--where", "iron > 30 and oxygen < 40", "--top", 25, "--out", "o").printed
    frame = pd.read_parquet(tmp_path / "o/results.parquet")
    top = pd.read_csv(tmp_path / "o/top.csv")
    note = json.loads((tmp_path / "o/screen.json").read_text())
    assert note["status"] == "finished"
    assert note["counts"]["kept"] == len(frame)
    ratios = range(1, 9)  # of three elements with at most ten atoms and no common divisor
    triples = sum(gcd(*r) == 1 and sum(r) <= 10 for r in product(ratios, repeat=3))
    assert note["counts"]["predicted"] == note["counts"]["positions"] == 10 * 31 + 10 * triples
    share = fraction_matrix(frame["formula"])[:, ELEMENTS.index("Fe")]
    assert (frame["iron"] > 30).all()
    assert np.corrcoef(share, frame["iron"])[0, 1] > 0.9
    assert len(set(composition_keys(fraction_matrix(frame["formula"])))) == len(frame)
    # ranked by the property that the condition bounds, best first
    assert top["iron"].to_numpy() == pytest.approx(np.sort(frame["iron"])[::-1][:25], rel=1e-4)
    assert "ranked by iron (more is better)" in out
    assert not (tmp_path / "o/parts").exists()
    plutonium = top["formula"].str.contains("Pu")
    assert (top["iron_in_domain"] == ~plutonium).all()
    assert ("lie outside the training domain" in out) == bool(plutonium.any())


def test_finished_screening_is_ranked_again_without_predictions(run, tmp_path, monkeypatch):
    assert run(*BASIC, "--out", "o", "--top", 5).printed
    written = (tmp_path / "o/results.parquet").stat().st_mtime_ns
    from crossprop.inference.predictor import ServedModel

    monkeypatch.setattr(ServedModel, "load", lambda *a, **k: pytest.fail("a model was loaded"))
    told = run(*BASIC, "--out", "o", "--maximize", "iron", "--minimize", "oxygen", "--top", 7)
    assert "Pareto front of iron (more is better), oxygen (less is better)" in told.printed
    assert "only the ranking is done again" in told.err
    assert (tmp_path / "o/results.parquet").stat().st_mtime_ns == written
    assert run(*BASIC, "--out", "o", "--maximize", "iron", "--rank", "ei", "--best", 90).printed
    top = pd.read_csv(tmp_path / "o/top.csv")
    assert (np.diff(top["expected_improvement"]) <= 0).all()


def test_another_request_does_not_touch_the_folder_and_tables_without_rows_have_headers(run, tmp_path):
    assert "nothing met the condition" in run(*BASIC, "--where", "iron > 1000", "--out", "o").printed
    assert {"rank", "formula", "iron", "oxygen_upper"} <= set(pd.read_csv(tmp_path / "o/top.csv").columns)
    assert not len(pd.read_parquet(tmp_path / "o/results.parquet"))
    before = (tmp_path / "o/screen.json").read_bytes()
    told = run(*BASIC, "--where", "iron > 3", "--out", "o").refusal
    assert "iron > 1000 there, iron > 3 now" in told
    assert (tmp_path / "o/screen.json").read_bytes() == before


def test_refusals_say_what_to_do_and_a_dry_run_writes_nothing(run, tmp_path):
    for arguments, part in (
        (("--where", "iron > 30 and steel < 4"), "column 15: unknown name 'steel'"),
        (("--rank", "ei", "--maximize", "Fe"), "only a property"),
        (("--model", "iron"), "not of the form NAME=FOLDER"),
        (("--max-elements", "9"), None),
    ):
        status, _, err = run(*BASIC, *arguments, "--out", "o", "--dry-run")
        assert status == (part is not None)
        assert (part or "; order: ") in err
        assert not (tmp_path / "o").exists()


def test_a_vast_screening_asks_first(run, tmp_path):
    told = run("-e", "all", "-p", "iron,oxygen", "--max-elements", 4, "--out", "o").refusal
    assert re.search("446,597,140 compositions.*Add --yes", told, re.DOTALL)
    assert not (tmp_path / "o").exists()


def test_formulas_from_a_file(run, tmp_path):
    (tmp_path / "list.csv").write_text("formula\nFe2O3\nFe4O6\nFeAl\nwater\n", encoding="utf-8")
    _, _, err = run("--input", "list.csv", "-p", "iron,oxygen", "--charge-balanced", "--out", "o")
    assert pd.read_parquet(tmp_path / "o/results.parquet")["formula"].tolist() == ["Fe2O3"]
    assert "line 5" in err


def test_killed_behind_the_last_batch_it_only_ranks(request_of, tmp_path, monkeypatch):
    from crossprop.screening import run as module

    with monkeypatch.context() as patch:
        patch.setattr(module.Ranker, "rank", lambda *a: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            screen(request_of())
    assert (tmp_path / "o/results.parquet").is_file()
    with monkeypatch.context() as patch:
        patch.setattr(module.result, "write_results", lambda *a: pytest.fail("predicted again"))
        result = screen(request_of())
    assert result.note["counts"] == {"positions": 31, "predicted": 31, "kept": 31}
    rows = list(result)
    assert len(rows) == len(result) == len(result.frame()) == 31
    assert result.top["iron"].tolist() == sorted((row["iron"] for row in rows), reverse=True)
    assert {path.name for path in (tmp_path / "o").iterdir()} >= {"results.parquet", "screen.json", "top.csv"}
    assert not (tmp_path / "o" / PARTS).exists()


def test_model_with_data_gives_the_value_to_beat_and_the_error(tmp_path):
    folder = save_ridge(tmp_path / "hardness")
    options = {"properties": ("hardness",), "elements": ("Fe", "Co", "O"), "novel": True, "rank": "ei"}
    request = ScreenRequest(**options, models={"hardness": str(folder)}, out=tmp_path / "o")
    result = screen(request)
    known = result.note["models"]["hardness"]
    assert result.note["ranking"]["best"] == known["most"]
    assert known["mae"] == pytest.approx(1.0)
    assert not {"FeO", "Fe2O", "CoO"} & set(result.frame()["formula"])
    again = screen(request)  # without the model
    pd.testing.assert_frame_equal(result.top, again.top)


def test_memory_that_does_not_suffice_is_an_error_and_what_is_done_is_kept(request_of, monkeypatch):
    from crossprop.screening import run as module

    monkeypatch.setattr(module, "resident", lambda: 1 << 32)
    with pytest.raises(ScreeningError, match="more than --memory 2 allows"):
        screen(request_of(memory=2.0, batch=8))
    monkeypatch.undo()
    result = screen(request_of(batch=8))
    assert result.note["sessions"] == 2
    assert result.frame()["position"].tolist() == list(range(31))


@pytest.mark.slow
def test_on_a_cluster_that_loses_a_node_it_goes_on_to_the_same_bytes(
    request_of, tmp_path, cluster, further_node, monkeypatch
):
    wide, parts = {"elements": ("3d-metals", "O"), "batch": 256, "where": "iron > 5"}, []
    screen(request_of(out=tmp_path / "local", **wide))
    doomed = further_node()
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)

    def troubled(*part):
        write_part(*part)
        parts.append(part)
        if len(parts) == 5:
            cluster.remove_node(doomed, allow_graceful=False)
        if len(parts) == 15:
            raise KeyboardInterrupt

    monkeypatch.setattr("crossprop.screening.result.write_part", troubled)
    with pytest.raises(KeyboardInterrupt):
        screen(request_of(executor="ray", out=tmp_path / "ray", **wide))
    done = screen(request_of(executor="ray", out=tmp_path / "ray", **wide))
    monkeypatch.setattr("crossprop.screening.run.check_memory", lambda *a: pytest.fail("the worker did not refuse"))
    with pytest.raises(ScreeningError, match=r"more than --memory 0\.01 allows"):
        screen(request_of(executor="ray", out=tmp_path / "small", memory=0.01))
    assert done.note["sessions"] == 2
    assert len(done) > 1000
    for name in ("results.parquet", "top.csv"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()


def test_two_processes_do_not_share_a_folder_and_one_that_cannot_be_written_is_named(request_of, tmp_path):
    with exclusive(tmp_path / "o/.lock", "is"), pytest.raises(ScreeningError, match="Another process"):
        screen(request_of())
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    with pytest.raises(ScreeningError, match="cannot be written"):
        screen(request_of(out=tmp_path / "file/o"))


def start(models, folder, arguments=SLOW):
    named = [f"--model={name}={path}" for name, path in models.items()]
    command = [sys.executable, "-m", "crossprop.cli", "screen", *arguments, *named, "--out", str(folder)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **pipes, text=True, cwd=folder.parent)


def test_stopped_by_kill_and_by_ctrl_c_it_goes_on_to_the_same_results(models, run, tmp_path):
    once, pieces = tmp_path / "once", tmp_path / "pieces"
    assert run(*SLOW, "--out", once).printed
    order = json.loads((once / "screen.json").read_text())["plan"]["order"]

    for stop, parts in ((signal.SIGKILL, 15), (signal.SIGINT, 35)):
        process = start(models, pieces)
        until(lambda: len(list((pieces / PARTS).glob("*.parquet"))) >= parts or process.poll() is not None)  # noqa: B023
        assert process.poll() is None, process.communicate()
        process.send_signal(stop)
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode != 0
        # As if the clock had spoken for the other order: what was begun keeps its own.
        note = json.loads((pieces / "screen.json").read_text())
        note["plan"]["order"] = order[::-1]
        (pieces / "screen.json").write_text(json.dumps(note))
    assert "stopped after" in err
    assert "run the same command to go on" in err

    process = start(models, pieces)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "going on after" in err
    one, other = (pd.read_parquet(folder / "results.parquet") for folder in (once, pieces))
    assert len(one) > 1000
    assert one["position"].is_unique
    # Percentages in float32; which rows are multiplied together decides how they are rounded.
    pd.testing.assert_frame_equal(one, other, rtol=1e-5, atol=1e-4)
    tops = [pd.read_csv(folder / "top.csv") for folder in (once, pieces)]
    pd.testing.assert_frame_equal(*tops, rtol=1e-5, atol=1e-4)
    notes = [json.loads((folder / "screen.json").read_text()) for folder in (once, pieces)]
    assert notes[0]["counts"] == notes[1]["counts"]
    assert notes[1]["sessions"] == 3
    assert notes[1]["order"] == order[::-1]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_compositions(models, tmp_path):
    """The first 100,000 of two million and of hundreds of millions take the same memory, within a few dozen MiB."""
    peaks = []
    for elements in ("3", "5"):
        folder, space = tmp_path / elements, ("--elements", "all", "--max-elements", elements, "--yes")
        options = ("--property", "iron,oxygen", "--batch", "512", "--workers", "2", "--max-atoms", "6")
        process = start(models, folder, (*space, *options))
        until(lambda: len(list((folder / PARTS).glob("*.parquet"))) >= 200 or process.poll() is not None)  # noqa: B023
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.kill()
        process.communicate()
        peaks.append(int(re.search(r"VmHWM:\s+(\d+)", status)[1]) // 1024)
    assert peaks[1] < peaks[0] + 150
