"""The whole report: which files it has, that they fit together, and what its pages say."""

import json
import re

import pandas as pd
import pytest

from crossprop.errors import StoreError
from crossprop.methods import Method
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
DATA = {*("cells.csv", "targets.csv", "runs.csv", "plots/methods.csv", "plots/parity.csv"), "metrics.json"}


def _files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _page(folder, name="README.md"):
    """A page without the padding of its tables."""
    return re.sub(r" +", " ", (folder / name).read_text(encoding="utf-8"))


def test_report_has_all_its_parts(report):
    assert set(_files(report)) == PAGES | FIGURES | TABLES | DATA


def test_equal_results_give_an_equal_report_apart_from_the_costs(study, report, tmp_path):
    study.change_json("slme", "runs.json", lambda runs: [run | {"tune_seconds": 977.0} for run in runs])
    first, second = _files(report), _files(study.report(tmp_path / "two"))
    assert {name for name, _ in first.items() ^ second.items()} == {"runs.csv", "costs.md"}  # byte for byte


@pytest.mark.parametrize("name", ["report", "extended_report"])
def test_links_figures_tables_numbers_and_run_ids_fit_together(request, name):
    folder = request.getfixturevalue(name)
    files, pages = _files(folder), " ".join(path.read_text() for path in folder.glob("*.md"))
    linked = set(re.findall(r"\]\(([^)]+)\)", pages))
    assert not {name for name in linked if not (folder / name).is_file()}
    assert {name for name in files if name.startswith("tables/") or name.endswith(".png")} <= linked
    texts = {name: data.decode() for name, data in files.items() if name.endswith((".md", ".csv"))}
    assert not [name for name, text in texts.items() if re.search(r"\b(nan|None|inf|NaN)\b", text)]
    assert not [name for name, text in texts.items() for line in text.splitlines() if line != line.rstrip()]
    runs = set(pd.read_csv(folder / "runs.csv")["run_id"])
    assert not [run for run in runs if run in pages]
    for path in (folder / "tables").glob("*.csv"):
        for _, ids in pd.read_csv(path).filter(regex="run_id$").items():
            assert set(ids.dropna()) <= runs, path.name


def test_extension_methods_are_apart_and_the_winner_is_compared_with_the_better_plain_model(extended_report):
    assert "tier `quick`" in _page(extended_report)
    assert not re.search("Boost|Blend", _page(extended_report, "paper.md"))
    assert "residual, all sources (extension)" in _page(extended_report, "supplement.md")
    table = pd.read_csv(extended_report / "tables" / "plain.csv")
    better = table[["plain baseline", "plain median"]].min(axis=1)
    assert list(table["ratio"]) == pytest.approx(list(table["winner_mae"] / better), rel=1e-5)
    won = f"a lower error than the better of the two on {(table['ratio'] < 1).sum()} of {len(table)} targets"
    assert won in _page(extended_report)


def test_a_report_without_the_papers_methods_compares_no_sides(extended_study, tmp_path):
    methods = tuple(m for m in extended_study.config.methods if m.extension or m is Method.BASE)
    for target in extended_study.config.targets:
        extended_study.change_json(target, "cells.json", lambda cells: [c for c in cells if c["method"] in methods])
        kept = {cell["cell"] for cell in json.loads((extended_study.folder(target) / "cells.json").read_text())}
        extended_study.change_json(target, "runs.json", lambda runs, kept=kept: [r for r in runs if r["cell"] in kept])
        extended_study.change_json(target, "winners.json", lambda won: won | {"best_sc": None, "best_tl": None})
    report = extended_study.report(tmp_path / "report", methods=methods, elemnet_sources=())
    for name in ("README.md", "supplement.md", "paper.md", "costs.md"):
        text = _page(report, name)
        text = text.partition("## Learning curves")[0]
        said = re.search(r"best TL [^|]|0 of 0|nan\b|none finished|scratch \(SC\)|sign test|line by line", text)
        assert not said, f"{name}: {said}"
    assert "extension methods alone, for 2 target properties" in _page(report)
    assert not (report / "scratch_against_transfer.png").exists()


@pytest.mark.usefixtures("without_pictures")
def test_many_targets_send_the_panels_to_the_supplement(study, tmp_path, monkeypatch):
    monkeypatch.setattr(summary, "MOST_PANELS", 1)
    folder = study.report(tmp_path / "report")
    pages = [name for name in PAGES if "winner_parity.png" in _page(folder, name)]
    assert pages == ["supplement.md"]


def test_page_shows_both_sides_with_unit_interval_r2_and_winner(report, plain):
    (line,) = re.findall(r"^\| Exfoli \| meV/atom \| 1080 \| 120.*$", _page(report), flags=re.MULTILINE)
    assert (line.count("**"), line.count("[")) == (2, 2)
    assert f"R² {plain[0].best_sc.test_r2:.2f}, ens. " in line
    assert "SC:ML(PA)" in line


@pytest.mark.usefixtures("without_pictures")
def test_page_tells_of_a_failed_cell_and_why(study_with_failure, tmp_path):
    page = _page(study_with_failure.report(tmp_path / "report"))
    assert "\n| SLME | `slme/finetune/band_gap` | TL:FineTune from band gap | DivergedError: the loss" in page
    assert "networks SC 40, TL 56 to 64 per target: not equal" in page
    assert "Of 30 cells 29 cross-validated, 1 failed." in page


@pytest.mark.usefixtures("without_pictures")
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
    config, made = extended_study.config.model_copy(update={"targets": ("slme",)}), extended_study
    said = summary.summarize(config, made.paths, tmp_path / "report")
    page = _page(tmp_path / "report").split("## Beside the paper")[0]
    assert re.search(told, page)
    assert re.search(told.replace(r"\*\*", ""), said)  # in the terminal, without marks and links
    assert not re.search(r"\*\*|\]\(|##", said)
    assert not re.search(r"sign test|geometric mean|\d targets", page)


@pytest.mark.usefixtures("without_pictures")
def test_without_figures_of_the_paper_a_report_keeps_no_word_of_it(study, tmp_path, monkeypatch):
    folder = study.report(tmp_path / "report")
    assert (folder / "paper.md").exists()
    monkeypatch.setattr(TargetResults, "paper", None)
    study.report(folder)
    assert {path.name for path in folder.glob("*.md")} == PAGES - {"paper.md"}
    assert "Beside the paper" not in _page(folder)
    page = _page(folder, "supplement.md")
    assert "## Sign tests" in page
    assert not re.search(r"26 of 41|paper \(of 27\)", page)
    assert not list(folder.glob("tables/table_[2-5].csv"))
    assert not (folder / "ours_against_paper.png").exists()
    one = {"targets": ("exfoliation_energy",)}
    study.report(folder, **one)
    assert _files(folder).keys() == _files(study.report(tmp_path / "new", **one)).keys()
    assert json.loads((folder / "metrics.json").read_text()).keys() == {"exfoliation_energy"}


@pytest.mark.usefixtures("without_pictures")
def test_wrong_results_leave_the_old_report_alone(study, tmp_path):
    folder = study.report(tmp_path / "report")
    before = _files(folder)
    study.change_json("slme", "cells.json", lambda cells: cells[1:])
    with pytest.raises(StoreError):
        study.report(folder)
    assert _files(folder) == before
    assert json.loads((folder / "metrics.json").read_text())["slme"]["winner"]
