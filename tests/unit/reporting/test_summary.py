import csv
import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from made_study import SOURCES, Paper
from PIL import Image

from crossprop.errors import StoreError
from crossprop.report import summary
from crossprop.report.page import study_page
from crossprop.report.summary import summarize

FIGURES = {
    "scratch_against_transfer.png",
    "winner_parity.png",
    "method_heatmap.png",
    "ours_against_paper.png",
}
DETAILS = {f"figures/{name}.png" for name in (
    "correlations", "cross_validation", "extraction_layers", "layer_errors", "learning_curve", "networks",
    "strict_against_published",
)}  # fmt: skip
TABLES = {f"tables/{name}.csv" for name in (
    "against_paper", "against_paper_by_target", "base", "chosen", "correlations", "extraction_layers", "learning_curve",
    "methods_won", "repeats", "sign_tests", "sources_won", "table_2", "table_3", "table_4", "table_s12", "table_s5",
    "table_s6", "table_s7", "table_s9", "transfer_gains", "validation",
)}  # fmt: skip


def _summarize(study, folder, paper=None):
    summarize(study.info, study.paths, folder, study.paper if paper is None else paper)
    return folder


def _files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_report_is_the_same_byte_for_byte_when_written_twice(study, tmp_path):
    assert _files(_summarize(study, tmp_path / "one")) == _files(_summarize(study, tmp_path / "two"))


def test_only_costs_and_runs_differ_when_a_study_runs_twice(study, tmp_path):
    first = _files(_summarize(study, tmp_path / "one"))
    path = study.folder("slme") / "runs.json"
    runs = [{**r, "run_id": r["run_id"][::-1], "tune_seconds": 977.0} for r in json.loads(path.read_text())]
    path.write_text(json.dumps(runs), encoding="utf-8")
    second = _files(_summarize(study, tmp_path / "two"))
    differ = {name for name in first if first[name] != second[name]}
    assert differ - TABLES == {"runs.csv", "costs.md"}  # tables name runs
    assert not {name for name in differ if name.endswith(".png")}


def test_report_has_all_its_parts(report):
    assert set(_files(report)) == FIGURES | DETAILS | TABLES | {
        "README.md",
        "paper.md",
        "supplement.md",
        "costs.md",
        "cells.csv",
        "targets.csv",
        "runs.csv",
        "plots/methods.csv",
        "plots/parity.csv",
        "metrics/exfoliation_energy.json",
        "metrics/slme.json",
    }


def test_figures_are_small_and_large_enough_to_read(report):
    for name in FIGURES | DETAILS:
        assert (report / name).stat().st_size < 150 * 1024
        with Image.open(report / name) as image:
            assert min(image.size) > 150
            assert "Software" not in image.info


PAGES = ("README.md", "paper.md", "supplement.md", "costs.md")


def _pages(folder):
    return {name: (folder / name).read_text(encoding="utf-8") for name in PAGES}


@pytest.mark.parametrize("which", ["report", "own_report"])
def test_every_link_leads_somewhere_and_every_figure_and_table_is_linked(which, request):
    folder = request.getfixturevalue(which)
    linked = {target for text in _pages(folder).values() for target in re.findall(r"\]\(([^)]+)\)", text)}
    assert not {name for name in linked if not (folder / name).is_file()}
    made = {
        name for name in _files(folder) if name.startswith(("tables/", "figures/")) or name.endswith(".png")
    }
    assert made - linked == {"tables/transfer_gains.csv"} - linked


@pytest.mark.parametrize("which", ["report", "own_report"])
def test_no_page_or_table_shows_what_is_no_number(which, request):
    folder = request.getfixturevalue(which)
    texts = {name: data.decode() for name, data in _files(folder).items() if name.endswith((".md", ".csv"))}
    assert not [name for name, text in texts.items() if re.search(r"\b(nan|None|inf)\b", text)]
    assert not [name for name, text in texts.items() for line in text.splitlines() if line != line.rstrip()]


def test_no_run_id_makes_a_page_differ_from_run_to_run(report):
    runs = {row["run_id"] for row in csv.DictReader((report / "runs.csv").open())}
    pages = _pages(report)
    assert not [name for name in PAGES for run in runs if run in pages[name]]


@pytest.mark.parametrize("which", ["report", "own_report"])
def test_every_run_id_of_a_table_is_a_run_of_the_study(which, request):
    folder = request.getfixturevalue(which)
    runs = {row["run_id"] for row in csv.DictReader((folder / "runs.csv").open())}
    for path in (folder / "tables").glob("*.csv"):
        for row in csv.DictReader(path.open()):
            named = {value for key, value in row.items() if key.endswith("run_id") and value}
            assert named <= runs, path.name


def test_methods_of_ours_are_shown_apart_from_the_papers(own_report):
    page = (own_report / "README.md").read_text(encoding="utf-8")
    assert "winner of all methods, ours included" in page
    assert "Best SC and best TL are of the paper's methods" in page
    assert "tier `quick`" in page
    tables = (own_report / "paper.md").read_text(encoding="utf-8")
    assert "Boost" not in tables
    assert "Blend" not in tables
    supplement = (own_report / "supplement.md").read_text(encoding="utf-8")
    assert "## Our own methods against the paper's" in supplement
    assert "residual, all sources (ours)" in supplement


def test_many_targets_send_the_panels_to_the_supplement(study, tmp_path, monkeypatch):
    monkeypatch.setattr(summary, "_MOST_PANELS", 1)
    folder = _summarize(study, tmp_path / "report")
    assert "winner_parity.png" not in (folder / "README.md").read_text(encoding="utf-8")
    assert "winner_parity.png" in (folder / "supplement.md").read_text(encoding="utf-8")


def test_page_shows_both_sides_with_unit_interval_and_winner(report):
    page = (report / "README.md").read_text(encoding="utf-8")
    line = next(line for line in page.splitlines() if line.startswith("| Exfoli | meV/atom | 1080 | 120"))
    assert line.count("**") == 2
    assert line.count("[") == 2
    assert "SC:ML(PA)" in line


@pytest.mark.parametrize(
    ("elemnets", "told"), [(("band_gap",), "band gap"), ((), "none of them"), (SOURCES, None)]
)
def test_page_says_which_sources_have_networks_of_their_own(study, elemnets, told):
    page = study_page(replace(study.info, elemnets=elemnets), [], [], [], "paper.md")
    lines = [line for line in page.splitlines() if line.startswith("- **ElemNets**")]
    assert lines == ([f"- **ElemNets** were pretrained on {told}."] if told else [])


def test_page_tells_of_a_failed_cell_and_why(study_with_failure, tmp_path):
    page = (_summarize(study_with_failure, tmp_path / "report") / "README.md").read_text(encoding="utf-8")
    assert (
        "| SLME | `slme/finetune/band_gap` | TL:FineTune from band gap | DivergedError: the loss became NaN"
        in page
    )
    assert "networks SC 40, TL 56 to 64 per target: not equal" in page


def test_a_few_targets_are_said_to_be_too_few_for_the_sign_test(report):
    page = (report / "README.md").read_text(encoding="utf-8")
    assert "of 2** targets; too few for a sign test, whose p cannot fall below 0.25 here" in page


def test_without_figures_of_the_paper_the_report_does_not_mention_it(study, tmp_path):
    folder = _summarize(study, tmp_path / "report", paper={"slme": None})
    assert not (folder / "ours_against_paper.png").exists()
    pages = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    assert set(pages) == {"README.md", "supplement.md", "costs.md"}
    assert "Beside the paper" not in pages["README.md"]
    assert "## Sign tests" in pages["supplement.md"]
    assert not list((folder / "tables").glob("table_[2-5].csv"))


def test_empty_figures_of_the_paper_are_none(study, tmp_path):
    folder = _summarize(study, tmp_path / "report", paper={"slme": Paper(), "exfoliation_energy": Paper()})
    assert not (folder / "paper.md").exists()


def test_a_report_in_the_same_folder_leaves_nothing_of_the_last_one(study, tmp_path, with_targets):
    folder = _summarize(study, tmp_path / "report")
    _summarize(with_targets(study, study.info.targets[:1]), folder, paper={})
    assert not (folder / "ours_against_paper.png").exists()
    assert not (folder / "paper.md").exists()
    assert not list((folder / "tables").glob("table_2.csv"))
    assert [path.name for path in (folder / "metrics").iterdir()] == ["exfoliation_energy.json"]


def test_wrong_results_leave_the_old_report_alone(study, tmp_path, edit_cells):
    folder = _summarize(study, tmp_path / "report")
    before = _files(folder)
    edit_cells(study, "slme", lambda cells: cells[1:])
    with pytest.raises(StoreError):
        _summarize(study, folder)
    assert _files(folder) == before


def test_parity_data_are_few_and_in_units_of_the_base(report):
    rows = list(csv.DictReader((report / "plots" / "parity.csv").open()))
    assert list(rows[0]) == ["target", "y_true", "y_pred"]
    assert {t: sum(r["target"] == t for r in rows) for t in ("Exfoli", "SLME")} == {
        "Exfoli": 120,
        "SLME": 150,
    }
    values = sorted(float(r["y_true"]) for r in rows if r["target"] == "SLME")
    assert abs(values[74] + values[75]) < 1e-5  # the median is the origin


def test_method_data_are_relative_to_the_base(report):
    rows = list(csv.DictReader((report / "plots" / "methods.csv").open()))
    assert len(rows) == 2 * 8
    assert {row["cv_mae_relative"] for row in rows if row["method"] == "Base"} == {"1"}
    assert all(0.0 < float(row["cv_mae_relative"]) < 2.0 for row in rows)


def test_metrics_hold_the_figures_of_the_target_table(report):
    metrics = json.loads((report / "metrics" / "slme.json").read_text())
    row = list(csv.DictReader((report / "targets.csv").open()))[1]
    assert metrics["best_tl_test_mae"] == float(row["best_tl_test_mae"])
    assert metrics["tl_over_sc"] == pytest.approx(
        metrics["best_tl_test_mae"] / metrics["best_sc_test_mae"], rel=1e-5
    )


def test_reading_the_tables_does_not_import_matplotlib():
    code = "import sys, crossprop.report.summary; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
