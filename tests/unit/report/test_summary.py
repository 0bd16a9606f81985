"""The whole report: which files it has, that they fit together, and what its pages say."""

import csv
import json
import re

import pytest
from PIL import Image

from crossprop.errors import StoreError
from crossprop.report import summary
from crossprop.report.study import TargetResults

PAGES = {"README.md", "paper.md", "supplement.md", "costs.md"}
FIGURES = {f"{name}.png" for name in (
    "scratch_against_transfer", "winner_parity", "method_heatmap", "ours_against_paper", "figures/correlations",
    "figures/cross_validation", "figures/extraction_layers", "figures/layer_errors", "figures/learning_curve",
    "figures/networks", "figures/source_learning", "figures/strict_against_published",
)}  # fmt: skip
TABLES = {f"tables/{name}.csv" for name in (
    "against_paper", "against_paper_by_target", "base", "chosen", "correlations", "extraction_layers", "learning_curve",
    "methods_won", "repeats", "sign_tests", "sources_won", "table_2", "table_3", "table_4", "table_s12", "table_s5",
    "table_s6", "table_s7", "table_s9", "transfer_gains", "validation",
)}  # fmt: skip
DATA = {
    *("cells.csv", "targets.csv", "runs.csv", "plots/methods.csv", "plots/parity.csv"),
    "metrics.json",
}
BOTH = pytest.mark.parametrize("folder", ["report", "extended_report"], indirect=True)


@pytest.fixture
def folder(request):
    return request.getfixturevalue(request.param)


def _files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _page(folder, name="README.md"):
    """A page without the padding of its tables."""
    return re.sub(r" +", " ", (folder / name).read_text(encoding="utf-8"))


def test_report_has_all_its_parts(report):
    assert set(_files(report)) == PAGES | FIGURES | TABLES | DATA


def test_only_costs_and_runs_differ_when_a_study_runs_twice(study, report, tmp_path):
    assert _files(study.report(tmp_path / "one")) == _files(
        report
    )  # equal results, equal report, byte for byte
    study.change_json(
        "slme",
        "runs.json",
        lambda runs: [r | {"run_id": r["run_id"][::-1], "tune_seconds": 977.0} for r in runs],
    )
    first, second = _files(report), _files(study.report(tmp_path / "two"))
    assert {name for name in first if first[name] != second[name]} - TABLES == {"runs.csv", "costs.md"}


def test_figures_are_small_and_large_enough_to_read(report):
    for name in FIGURES:
        assert (report / name).stat().st_size < 150 * 1024
        with Image.open(report / name) as image:
            assert min(image.size) > 150
            assert "Software" not in image.info


@BOTH
def test_every_link_leads_somewhere_and_every_figure_and_table_is_linked(folder):
    linked = {
        target for path in folder.glob("*.md") for target in re.findall(r"\]\(([^)]+)\)", path.read_text())
    }
    assert not {name for name in linked if not (folder / name).is_file()}
    assert {name for name in _files(folder) if name.startswith("tables/") or name.endswith(".png")} <= linked


@BOTH
def test_no_page_or_table_shows_what_is_no_number(folder):
    texts = {name: data.decode() for name, data in _files(folder).items() if name.endswith((".md", ".csv"))}
    assert not [name for name, text in texts.items() if re.search(r"\b(nan|None|inf|NaN)\b", text)]
    assert not [name for name, text in texts.items() for line in text.splitlines() if line != line.rstrip()]


@BOTH
def test_every_run_id_of_a_table_is_a_run_of_the_study_and_none_is_on_a_page(folder):
    runs = {row["run_id"] for row in csv.DictReader((folder / "runs.csv").open())}
    assert not [run for path in folder.glob("*.md") for run in runs if run in path.read_text()]
    for path in (folder / "tables").glob("*.csv"):
        for row in csv.DictReader(path.open()):
            found = {value for key, value in row.items() if key.endswith("run_id") and value}
            assert found <= runs, path.name


def test_extension_methods_are_shown_apart_from_the_papers(extended_report):
    assert "tier `quick`" in _page(extended_report)
    assert not re.search("Boost|Blend", _page(extended_report, "paper.md"))
    page = _page(extended_report, "supplement.md")
    assert "## Extension methods against the paper's" in page
    assert "residual, all sources (extension)" in page
    assert "Of 44 cells 26 cross-validated, 14 screened only" in page


def test_many_targets_send_the_panels_to_the_supplement(study, tmp_path, monkeypatch):
    monkeypatch.setattr(summary, "MOST_PANELS", 1)
    folder = study.report(tmp_path / "report")
    pages = [name for name in PAGES if "winner_parity.png" in _page(folder, name)]
    assert pages == ["supplement.md"]


def test_page_shows_both_sides_with_unit_interval_r2_and_winner(report, plain):
    line = next(
        line for line in _page(report).splitlines() if line.startswith("| Exfoli | meV/atom | 1080 | 120")
    )
    assert (line.count("**"), line.count("[")) == (2, 2)
    assert f"R² {plain[0].best_sc.test_r2:.2f}, ens. " in line
    assert "SC:ML(PA)" in line


def test_page_says_what_was_configured(report):
    page = _page(report)
    assert "- **Sources**: formation energy, band gap (edition `open`)." in page
    assert "10 folds" in page
    assert (
        "Scratch: 40 trials on regressors shared by 2 cells, 40 trials on networks shared by 2 cells" in page
    )
    assert not re.search(r"Multi-fidelity|\*\*ElemNets", page)
    assert "of 2** targets; too few for a sign test, whose p cannot fall below 0.25 here" in page


def test_page_says_what_multi_fidelity_stops_and_which_targets_have_other_folds(study, tmp_path, tiny_params):
    rules = {"rows": 5000, "steps": 50, "after_screening": 2, "after_first_fold": 1, "margin": 0.1}
    fidelity = tiny_params(fidelity=rules).study.fidelity
    config = {"fidelity": fidelity, "folds_by_target": {"slme": 20}, "elemnet_sources": ("band_gap",)}
    page = _page(study.report(tmp_path / "report", **config))
    assert "- **ElemNets** were pretrained on band gap." in page
    assert "screening learns from at most 5,000 rows" in page
    assert "more than 10 % behind" in page
    assert "- **Folds**: 10; 20 for SLME." in page
    assert "10 folds on 1 target, 20 folds on 1 target." in page


def test_page_tells_of_a_failed_cell_and_why(study_with_failure, tmp_path):
    page = _page(study_with_failure.report(tmp_path / "report"))
    assert "\n| SLME | `slme/finetune/band_gap` | TL:FineTune from band gap | DivergedError: the loss" in page
    assert "networks SC 40, TL 56 to 64 per target: not equal" in page
    assert "Of 30 cells 29 cross-validated, 1 failed." in page


@pytest.mark.parametrize(
    ("factor", "told"),
    [
        (1.0, r"\*\*Transfer did not help\*\*: hold-out MAE [\d.]+ with transfer \(TL:.* % from scratch"),
        (0.1, r"\*\*Transfer helped\*\*: .* the difference is beyond the noise of 150 hold-out rows"),
    ],
)  # fmt: skip
def test_a_report_on_one_target_speaks_of_it_in_plain_words(extended_study, tmp_path, factor, told):
    def nearer(rows):
        of_transfer = rows["cell"].str.contains("featextr|finetune|freezing")
        nearer = rows["y_true"] + factor * (rows["y_pred"] - rows["y_true"])
        return rows.assign(y_pred=rows["y_pred"].where(~of_transfer, nearer))

    extended_study.change_table(extended_study.folder("slme") / "predictions.parquet", nearer)
    folder = extended_study.report(tmp_path / "report", targets=("slme",))
    page = _page(folder).split("## Beside the paper")[0]
    assert re.search(told, page)
    assert not re.search(r"sign test|geometric mean|\d targets", page)


def test_without_figures_of_the_paper_the_report_does_not_mention_it(study, tmp_path, monkeypatch):
    monkeypatch.setattr(TargetResults, "paper", None)
    folder = study.report(tmp_path / "report")
    assert {path.name for path in folder.glob("*.md")} == PAGES - {"paper.md"}
    assert "Beside the paper" not in _page(folder)
    page = _page(folder, "supplement.md")
    assert "## Sign tests" in page
    assert "26 of 41" not in page
    assert "paper (of 27)" not in page
    assert not list(folder.glob("tables/table_[2-5].csv"))
    assert not (folder / "ours_against_paper.png").exists()


def test_a_report_in_the_same_folder_leaves_nothing_of_the_last_one(study, tmp_path, monkeypatch):
    folder = study.report(tmp_path / "report")
    monkeypatch.setattr(TargetResults, "paper", None)
    one = {"targets": ("exfoliation_energy",)}
    study.report(folder, **one)
    assert _files(folder).keys() == _files(study.report(tmp_path / "new", **one)).keys()
    assert not (folder / "paper.md").exists()
    assert json.loads((folder / "metrics.json").read_text()).keys() == {"exfoliation_energy"}


def test_wrong_results_leave_the_old_report_alone(study, tmp_path):
    folder = study.report(tmp_path / "report")
    before = _files(folder)
    study.change_json("slme", "cells.json", lambda cells: cells[1:])
    with pytest.raises(StoreError):
        study.report(folder)
    assert _files(folder) == before
    assert json.loads((folder / "metrics.json").read_text())["slme"]["winner"]
