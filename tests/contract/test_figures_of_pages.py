"""Figures that the pages state, computed anew from the reports, the catalogue and the configuration."""

from __future__ import annotations

import csv
import math
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml
from tool_modules import load_script

from crossprop.methods import Method, Side

ROOT = Path(__file__).resolve().parents[2]
JARVIS = ROOT / "reports" / "jarvis"


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


def _committed(path: str) -> str:
    shown = subprocess.run(
        ["git", "show", f"HEAD:{path}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return shown.stdout


def test_numbers_of_the_readme_are_those_of_the_committed_report():
    """Or of the report that lies here, about to be committed; a run on another machine may differ in last digits."""
    tool = load_script("tools/readme_table.py")
    marked = list(tool.MARKED.finditer((ROOT / "README.md").read_text()))
    assert len(marked) == 1
    assert marked[0]["source"] == tool.TABLE
    here = ROOT / tool.TABLE
    reports = [_committed(tool.TABLE), here.read_text() if here.is_file() else ""]
    assert marked[0]["table"] in [tool.render(report) for report in reports if report]


def test_table_of_numbers_follows_its_report():
    table = load_script("tools/readme_table.py").render(
        "target,unit,base_mae,best_sc,best_sc_test_mae,best_tl,best_tl_test_mae\n"
        'gap,eV,1.5,ml(PA),0.44251,"freezing(oqmd, hidden_16)",148.421\n'
    )
    assert "| `gap` | eV | 1.50 | `ml(PA)` | 0.443 | `freezing(oqmd, hidden_16)` | 148 |" in table


def test_tiers_in_the_protocol_are_those_of_the_configuration(compose):
    """The table of docs/protocol.md, number for number."""
    tiers = (ROOT / "docs" / "protocol.md").read_text().split("## Tiers")[1].split("\n## ")[0]
    rows = {
        name.strip(): (quick.strip(), full.strip())
        for name, quick, full in re.findall(r"^\|([^|]*)\|([^|]*)\|([^|]*)\|$", tiers, flags=re.MULTILINE)
    }
    for place, tier in enumerate(("quick", "full")):
        composed = compose("study=jarvis", f"tier={tier}")
        study = composed["study"]
        assert rows[""][place] == f"`{tier}`"
        assert rows["sources with an ElemNet"][place] == str(len(study["elemnet_sources"]))
        assert rows["sources of the joint network"][place] == str(len(study["joint"]["all_sources"]))
        budget = study["budget"]
        trials = rows["trials a side: regressors, networks"][place]
        assert trials == f"{budget['ml_trials']}, {budget['dl_trials']}"
        folds = [study["folds"], *study["folds_by_target"].values()]
        stated = [int(number) for number in re.findall(r"\d+", rows["folds"][place])]
        assert (min(stated), max(stated)) == (min(folds), max(folds))
        assert rows["extraction layers to choose from"][place] == str(len(composed["search"]["layers"]))
        ending = "end early" if study["fidelity"] else "computed in full"
        assert rows["hopeless cells"][place] == ending
