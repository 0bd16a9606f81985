"""Figures that the pages state, computed anew from the reports, the catalogue and the configuration."""

from __future__ import annotations

import csv
import math
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from crossprop.vocabulary import Method, Side

ROOT = Path(__file__).resolve().parents[2]
JARVIS = ROOT / "reports" / "jarvis"
NOT_FEWER_THAN = 500
"""Rows from which on a hold-out is large enough to judge coverage, as in the report."""


@cache
def page(name: str) -> str:
    """Text of a page, with single spaces in place of line breaks."""
    return " ".join((ROOT / name).read_text(encoding="utf-8").split())


@cache
def table(name: str) -> list[dict[str, str]]:
    with (JARVIS / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _mean_ratio(ratios: list[float]) -> float:
    return math.exp(sum(math.log(ratio) for ratio in ratios) / len(ratios))


def _against_paper(ours: str, papers: str) -> dict[str, str]:
    (row,) = [r for r in table("tables/against_paper.csv") if (r["ours"], r["paper"]) == (ours, papers)]
    return row


def _curve(label: str) -> dict[int, float]:
    """Transfer error over scratch error, by number of training rows."""
    errors: dict[int, dict[str, float]] = {}
    for row in table("tables/learning_curve.csv"):
        if row["label"] == label:
            errors.setdefault(int(row["n_train"]), {})[row["side"]] = float(row["test_mae"])
    return {n: sides["transfer"] / sides["scratch"] for n, sides in sorted(errors.items())}


@pytest.mark.parametrize(
    ("label", "stated"),
    [
        ("ExptDeltae", "With {0:,} rows transfer has {1:.2f} times the error of scratch, with {6:,} rows {7:.2f}"),
        ("BulkKV", "{1:.2f} times with {0:,} rows, {3:.2f} times with {2:,}, no gain any more with {6:,}"),
        ("Spillage", "{1:.2f} times with {0:,} rows, no gain any more with {6:,}"),
    ],
)  # fmt: skip
def test_learning_curves_are_told_as_they_were_measured(label, stated):
    flat = [value for point in _curve(label).items() for value in point]
    assert stated.format(*flat) in page("docs/transfer.md")
    assert ("no gain" in stated) == (flat[7] >= 1)


def test_target_that_transfer_does_not_help_is_told_with_its_range():
    ratios = _curve("SLME").values()
    told = f"transfer is worse at every size, by {100 * (min(ratios) - 1):.0f} to {100 * (max(ratios) - 1):.0f} %"
    assert min(ratios) > 1
    assert told in page("docs/transfer.md")


def test_who_wins_how_often_is_told_as_in_the_report():
    (signs,) = [
        row
        for row in table("tables/sign_tests.csv")
        if row["question"] == "best TL lower than best SC, MAE, all targets"
    ]
    told = page("docs/transfer.md")
    targets = int(signs["wins"]) + int(signs["losses"]) + int(signs["ties"])
    assert f"best scratch model on {signs['paper_wins']} of {targets} targets" in told
    assert f"it has on {signs['wins']} of {targets}" in told
    scratch = float(_against_paper("best SC", "best SC")["geometric_mean_ratio"])
    transfer = float(_against_paper("best TL", "best TL")["geometric_mean_ratio"])
    assert (
        f"({scratch:.2f} times the error in the geometric mean), its transfer models are not ({transfer:.2f}"
        in told
    )


def test_wins_against_the_paper_are_told_as_in_the_report():
    winner, papers = _against_paper("winner", "lowest"), _against_paper("paper's methods", "lowest")
    assert winner["loss"] == "0"
    assert f"On {winner['win']} of the {winner['targets']} hold-outs" in page("README.md")
    told = f"{papers['win']} below, {papers['tie']} within, {papers['loss']} above"
    assert told in page("README.md")
    assert f"one standard error on {winner['win']} targets, higher by more than one on none" in page(
        "docs/transfer.md"
    )
    assert winner["wins_beyond_noise"] == "0"
    assert "comparisons no single one of them is beyond noise" in page("docs/transfer.md")


@pytest.mark.parametrize(("transfer", "scratch"), [("resnet_finetune", "resnet"), ("boost_sources", "boost")])
def test_what_transfer_adds_to_our_methods_is_told_as_it_was_validated(transfer, scratch):
    errors: dict[str, dict[str, float]] = {}
    for row in table("cells.csv"):
        if row["cv_mae_mean"] and row["method"] in (transfer, scratch):
            errors.setdefault(row["target"], {})[row["method"]] = float(row["cv_mae_mean"])
    ratios = [of[transfer] / of[scratch] for of in errors.values() if len(of) == 2]
    lower = sum(ratio < 1 for ratio in ratios)
    (line,) = re.findall(
        rf"\| `{transfer}`: [^|]*\| `{scratch}`: [^|]*\|([^|]*\|[^|]*)\|", page("docs/transfer.md")
    )
    assert line.strip() == f"{lower} of {len(ratios)} targets | {_mean_ratio(ratios):.2f}"


def test_weights_of_the_blends_are_told_as_they_are():
    blends = [row["blend_of"] for row in table("tables/own_methods.csv") if row["ours"] == "Blend"]
    weights: dict[str, float] = {}
    for blend in blends:
        for part in blend.split("; "):
            cell, weight = part.rsplit(" ", 1)
            name = cell.partition("(")[0]
            weights[name] = weights.get(name, 0.0) + float(weight) / len(blends)
    shared = sum(weight for name, weight in weights.items() if Method(name).side is Side.TRANSFER)
    told = page("docs/transfer.md")
    assert (
        f"won the cross-validation of {len(blends)} of {len(table('tables/own_methods.csv'))} targets" in told
    )
    assert f"{100 * shared:.0f} % of its weight lies on transfer methods" in told
    assert f"{100 * weights['resnet_finetune']:.0f} % on `resnet_finetune` alone" in told


def test_errors_of_the_source_networks_are_those_of_the_report():
    supplement = (JARVIS / "supplement.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in supplement.splitlines()
        if "| open |" in line
    ]
    errors = {(row[0].split(",")[0].split()[0], row[1]): f"{float(row[6]):.3f}" for row in rows}
    told = page("docs/transfer.md")
    energy, gap = "formation energy", "band gap"
    assert f"{errors['residual', energy]} eV/atom for the formation energy" in told
    assert f"ElemNet on the same rows has {errors['ElemNet', energy]}" in told
    assert f"{errors['residual', gap]} eV against {errors['ElemNet', gap]} eV for the band gap" in told
    (learnt_from,) = [row[4] for row in rows if row[:2] == ["ElemNet", energy]]
    assert f"on {learnt_from} compositions" in told


def test_errors_by_layer_are_those_of_the_report():
    layers = [row for row in table("tables/extraction_layers.csv") if row["method"] == "TL:DL(FeatExtr)"]
    offered = yaml.safe_load((ROOT / "conf" / "tier" / "quick.yaml").read_text())["search"]["layers"]
    assert [row["layer"] for row in layers] == offered
    later = [float(row["ratio_to_best_layer"]) - 1 for row in layers if row["layer"] > "hidden_08"]
    told = f"an error {100 * min(later):.0f} to {100 * max(later):.0f} % higher"
    assert told in page("docs/transfer.md")
    assert min(later) > max(float(row["ratio_to_best_layer"]) - 1 for row in layers[:2])


def test_coverage_is_told_as_it_was_measured():
    rows = table("tables/coverage.csv")
    total = sum(int(row["n_test"]) for row in rows)
    held = sum(float(row["measured"]) * int(row["n_test"]) for row in rows) / total
    outside = sum(float(row["outside_domain"]) * int(row["n_test"]) for row in rows) / total
    large = [float(row["measured"]) for row in rows if int(row["n_test"]) >= NOT_FEWER_THAN]
    told = page("docs/intervals.md")
    assert f"`jarvis`: {100 * held:.1f} % of {total:,} values for 90 % stated" in told
    between = f"between {100 * min(large):.1f} and {100 * max(large):.1f} %"
    assert f"on the {len(large)} targets with {NOT_FEWER_THAN} rows or more {between}" in told
    assert f"{100 * outside:.1f} % of the rows are flagged" in told


def _held_out() -> dict[str, list[dict[str, str]]]:
    """Runs of the benchmark of held-out chemistries, by the row of the table that tells of them."""
    runs: dict[str, list[dict[str, str]]] = {
        "known elements": [],
        "elements never seen": [],
        "the greatest": [],
    }
    path = ROOT / "reports" / "held_out_chemistry" / "study_chemistries.csv"
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            unseen = float(row["of_unseen_elements"]) == 1
            greatest = row["chemistry"].startswith("greatest")
            kind = "the greatest" if greatest else "elements never seen" if unseen else "known elements"
            runs[kind].append(row)
    return runs


def _mean(runs: list[dict[str, str]], column: str) -> float:
    return sum(float(row[column]) for row in runs) / len(runs)


def _rounded(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.095 else f"{100 * share:.0f} %"


@pytest.mark.parametrize("kind", _held_out())
def test_held_out_chemistries_are_told_as_they_were_measured(kind):
    runs = _held_out()[kind]
    (line,) = [
        row
        for row in (ROOT / "docs" / "intervals.md").read_text().splitlines()
        if row.startswith(f"| {kind}")
    ]
    cells = [cell.strip() for cell in line.split("|")[2:-1]]
    assert cells == [
        str(len(runs)),
        f"{_mean(runs, 'mae_ratio'):.1f}",
        f"{100 * _mean(runs, 'coverage'):.1f} %",
        f"{100 * _mean(runs, 'coverage_before'):.1f} %",
        _rounded(_mean(runs, "flagged")),
        _rounded(_mean(runs, "flagged_before")),
    ]


def test_random_rows_beside_the_held_out_chemistries_are_told_as_they_were_measured():
    runs = [row for of in _held_out().values() for row in of]
    (line,) = [
        row
        for row in (ROOT / "docs" / "intervals.md").read_text().splitlines()
        if row.startswith("| at random")
    ]
    cells = [cell.strip() for cell in line.split("|")[2:-1]]
    assert cells[0] == str(len(runs))
    assert cells[2] == f"{100 * _mean(runs, 'coverage_random'):.1f} %"
    assert cells[3] == f"{100 * _mean(runs, 'coverage_random_before'):.1f} %"
    assert cells[4] == f"{100 * _mean(runs, 'flagged_random'):.1f} %"


def test_what_the_flag_sees_is_told_as_it_was_measured():
    hard = [row for row in _held_out()["known elements"] if float(row["mae_ratio"]) > 1.5]
    now, before = (f"{100 * _mean(hard, column):.0f} %" for column in ("flagged", "flagged_before"))
    assert f"flags {now} of the rows on average ({before} with the radius of 99 %)" in page(
        "docs/intervals.md"
    )


def test_share_of_repeated_hold_out_rows_is_that_of_the_report():
    (share,) = re.findall(
        r"hold-out rows \((\d+\.\d) %\) repeat", (JARVIS / "README.md").read_text(encoding="utf-8")
    )
    for name in ("docs/how-to/study.md", "docs/protocol.md"):
        assert f"{float(share):.0f} % of those hold-out rows repeat a training composition" in page(name)


@pytest.mark.parametrize("study", ["jarvis_small", "jarvis"])
def test_megabytes_that_a_study_fetches_are_those_of_the_catalogue(study):
    catalogue = yaml.safe_load(
        (ROOT / "src" / "crossprop" / "data" / "catalog.yaml").read_text(encoding="utf-8")
    )
    composed = yaml.safe_load((ROOT / "conf" / "study" / f"{study}.yaml").read_text())
    sizes = {}
    for name in (*composed["targets"], *composed["sources"]):
        entry = catalogue["properties"][name]
        edition = (entry.get("editions") or {}).get(composed.get("edition", "open"), {})
        more = [file for part in edition.get("supplements", []) for file in part["files"]]
        sizes |= {file["path"]: file["size"] for file in (*entry["files"], *edition.get("files", []), *more)}
    told = f"{sum(sizes.values()) / 1e6:.0f} MB"
    (row,) = re.findall(
        rf"^\| `{study}` .*$", (ROOT / "docs/how-to/study.md").read_text(), flags=re.MULTILINE
    )
    assert f"({told})" in row
    (command,) = re.findall(
        rf"^dvc exp run -S study={study}\b.*fetches (\d+ MB)",
        (ROOT / "README.md").read_text(),
        flags=re.MULTILINE,
    )
    assert command == told
