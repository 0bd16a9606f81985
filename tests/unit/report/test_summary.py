"""The whole report: which files it has, that they fit together, and what its pages say."""

import csv
import json
import re
from dataclasses import replace

import pytest
from made_study import SOURCES
from PIL import Image

from crossprop.data.catalog import PaperFigures
from crossprop.errors import StoreError
from crossprop.report import summary
from crossprop.report.summary import summarize

PAGES = {"README.md", "paper.md", "supplement.md", "costs.md"}
FIGURES = {f"{name}.png" for name in (
    "scratch_against_transfer", "winner_parity", "method_heatmap", "ours_against_paper", "figures/correlations",
    "figures/cross_validation", "figures/extraction_layers", "figures/layer_errors", "figures/learning_curve",
    "figures/networks", "figures/strict_against_published",
)}  # fmt: skip
TABLES = {f"tables/{name}.csv" for name in (
    "against_paper", "against_paper_by_target", "base", "chosen", "correlations", "extraction_layers", "learning_curve",
    "methods_won", "repeats", "sign_tests", "sources_won", "table_2", "table_3", "table_4", "table_s12", "table_s5",
    "table_s6", "table_s7", "table_s9", "transfer_gains", "validation",
)}  # fmt: skip
DATA = {
    *("cells.csv", "targets.csv", "runs.csv", "plots/methods.csv", "plots/parity.csv"),
    *("metrics/exfoliation_energy.json", "metrics/slme.json"),
}
BOTH = pytest.mark.parametrize("folder", ["report", "extended_report"], indirect=True)


@pytest.fixture
def folder(request):
    return request.getfixturevalue(request.param)


def _summarize(study, folder, paper=None, info=None):
    summarize(info or study.info, study.paths, folder, study.paper if paper is None else paper)
    return folder


def _files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _pages(folder):
    return {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}


def _plain_lines(text):
    """Lines of a page without the padding of its tables."""
    return [re.sub(r" +", " ", line) for line in text.splitlines()]


def test_report_has_all_its_parts(report):
    assert set(_files(report)) == PAGES | FIGURES | TABLES | DATA


def test_only_costs_and_runs_differ_when_a_study_runs_twice(study, report, tmp_path):
    path = study.folder("slme") / "runs.json"
    first = _files(_summarize(study, tmp_path / "one"))
    assert first == _files(report)  # equal results give an equal report, byte for byte
    runs = [{**r, "run_id": r["run_id"][::-1], "tune_seconds": 977.0} for r in json.loads(path.read_text())]
    path.write_text(json.dumps(runs), encoding="utf-8")
    second = _files(_summarize(study, tmp_path / "two"))
    assert {name for name in first if first[name] != second[name]} - TABLES == {"runs.csv", "costs.md"}


def test_figures_are_small_and_large_enough_to_read(report):
    for name in FIGURES:
        assert (report / name).stat().st_size < 150 * 1024
        with Image.open(report / name) as image:
            assert min(image.size) > 150
            assert "Software" not in image.info


@BOTH
def test_every_link_leads_somewhere_and_every_figure_and_table_is_linked(folder):
    linked = {target for text in _pages(folder).values() for target in re.findall(r"\]\(([^)]+)\)", text)}
    assert not {name for name in linked if not (folder / name).is_file()}
    made = {name for name in _files(folder) if name.startswith("tables/") or name.endswith(".png")}
    assert made <= linked


@BOTH
def test_no_page_or_table_shows_what_is_no_number(folder):
    texts = {name: data.decode() for name, data in _files(folder).items() if name.endswith((".md", ".csv"))}
    assert not [name for name, text in texts.items() if re.search(r"\b(nan|None|inf|NaN)\b", text)]
    assert not [name for name, text in texts.items() for line in text.splitlines() if line != line.rstrip()]


@BOTH
def test_every_run_id_of_a_table_is_a_run_of_the_study_and_none_is_on_a_page(folder):
    runs = {row["run_id"] for row in csv.DictReader((folder / "runs.csv").open())}
    assert not [run for text in _pages(folder).values() for run in runs if run in text]
    for path in (folder / "tables").glob("*.csv"):
        for row in csv.DictReader(path.open()):
            assert {value for key, value in row.items() if key.endswith("run_id") and value} <= runs, (
                path.name
            )


def test_extension_methods_are_shown_apart_from_the_papers(extended_report):
    pages = _pages(extended_report)
    assert "tier `quick`" in pages["README.md"]
    assert not re.search("Boost|Blend", pages["paper.md"])
    assert "## Extension methods against the paper's" in pages["supplement.md"]
    assert "residual, all sources (extension)" in pages["supplement.md"]
    assert "Of 40 cells 22 cross-validated, 14 screened only" in pages["supplement.md"]


def test_many_targets_send_the_panels_to_the_supplement(study, tmp_path, monkeypatch):
    monkeypatch.setattr(summary, "MOST_PANELS", 1)
    pages = _pages(_summarize(study, tmp_path / "report"))
    assert "winner_parity.png" not in pages["README.md"]
    assert "winner_parity.png" in pages["supplement.md"]


def test_page_shows_both_sides_with_unit_interval_r2_and_winner(report, plain):
    lines = _plain_lines((report / "README.md").read_text(encoding="utf-8"))
    line = next(line for line in lines if line.startswith("| Exfoli | meV/atom | 1080 | 120"))
    assert (line.count("**"), line.count("[")) == (2, 2)
    assert f"R² {plain[1][0].best_sc.test_r2:.2f}, ens. " in line
    assert "SC:ML(PA)" in line


@pytest.mark.parametrize(
    ("elemnets", "told"), [(("band_gap",), "band gap"), ((), "none of them"), (SOURCES, None)]
)
def test_page_says_which_sources_have_networks_of_their_own(study, tmp_path, elemnets, told):
    folder = _summarize(study, tmp_path / "report", info=replace(study.info, elemnets=elemnets))
    lines = [line for line in _pages(folder)["README.md"].splitlines() if line.startswith("- **ElemNets**")]
    assert lines == ([f"- **ElemNets** were pretrained on {told}."] if told else [])


def test_page_tells_of_a_failed_cell_and_why(study_with_failure, tmp_path):
    page = _pages(_summarize(study_with_failure, tmp_path / "report"))["README.md"]
    start = (
        "| SLME | `slme/finetune/band_gap` | TL:FineTune from band gap | DivergedError: the loss became NaN"
    )
    assert any(line.startswith(start) for line in _plain_lines(page))
    assert "networks SC 40, TL 56 to 64 per target: not equal" in page
    assert "Of 30 cells 29 cross-validated, 1 failed." in page


def test_a_few_targets_are_said_to_be_too_few_for_the_sign_test(report):
    page = (report / "README.md").read_text(encoding="utf-8")
    assert "of 2** targets; too few for a sign test, whose p cannot fall below 0.25 here" in page


@pytest.mark.parametrize(
    "paper", [{"slme": None}, {"slme": PaperFigures(), "exfoliation_energy": PaperFigures()}]
)
def test_without_figures_of_the_paper_the_report_does_not_mention_it(study, tmp_path, paper):
    folder = _summarize(study, tmp_path / "report", paper=paper)
    pages = _pages(folder)
    assert set(pages) == PAGES - {"paper.md"}
    assert "Beside the paper" not in pages["README.md"]
    assert "## Sign tests" in pages["supplement.md"]
    assert "26 of 41" not in pages["supplement.md"]
    assert "paper (of 27)" not in pages["supplement.md"]
    assert not list(folder.glob("tables/table_[2-5].csv"))
    assert not (folder / "ours_against_paper.png").exists()


def test_a_report_in_the_same_folder_leaves_nothing_of_the_last_one(study, tmp_path):
    folder = _summarize(study, tmp_path / "report")
    one = replace(study.info, targets=study.info.targets[:1])
    _summarize(study, folder, paper={}, info=one)
    assert _files(folder).keys() == _files(_summarize(study, tmp_path / "new", paper={}, info=one)).keys()
    assert not (folder / "paper.md").exists()
    assert [path.name for path in (folder / "metrics").iterdir()] == ["exfoliation_energy.json"]


def test_wrong_results_leave_the_old_report_alone(study, tmp_path, edited):
    folder = _summarize(study, tmp_path / "report")
    before = _files(folder)
    with pytest.raises(StoreError):
        edited(study, lambda cells: cells[1:], ["slme"])
    with pytest.raises(StoreError):
        _summarize(study, folder)
    assert _files(folder) == before


def test_plot_data_are_relative_to_the_base(report):
    points = list(csv.DictReader((report / "plots" / "parity.csv").open()))
    assert list(points[0]) == ["target", "y_true", "y_pred"]
    assert [sum(r["target"] == t for r in points) for t in ("Exfoli", "SLME")] == [120, 150]
    values = sorted(float(r["y_true"]) for r in points if r["target"] == "SLME")
    assert abs(values[74] + values[75]) < 1e-5  # the median is the origin
    methods = list(csv.DictReader((report / "plots" / "methods.csv").open()))
    assert len(methods) == 2 * 8
    assert {row["cv_mae_relative"] for row in methods if row["method"] == "Base"} == {"1"}
    assert all(0.0 < float(row["cv_mae_relative"]) < 2.0 for row in methods)


def test_metrics_hold_the_figures_of_the_target_table(report):
    metrics = json.loads((report / "metrics" / "slme.json").read_text())
    row = list(csv.DictReader((report / "targets.csv").open()))[1]
    assert metrics["best_tl_test_mae"] == float(row["best_tl_test_mae"])
    ratio = float(row["best_tl_test_mae"]) / float(row["best_sc_test_mae"])
    assert metrics["tl_over_sc"] == pytest.approx(ratio, rel=1e-5)
