"""Numbers that the pages state, computed anew from the reports, the catalogue and the configuration."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import yaml
from tool_modules import load_script

from crossprop.methods import Method, Side
from crossprop.report.statistics import geometric_mean

ROOT = Path(__file__).resolve().parents[2]
REPORTS = ROOT / "reports"
TRANSFER, INTERVALS = "docs/transfer.md", "docs/intervals.md"


@cache
def page(name: str) -> str:
    """Text of a page, with single spaces in place of line breaks."""
    return " ".join((ROOT / name).read_text(encoding="utf-8").split())


@cache
def table(name: str) -> pd.DataFrame:
    return pd.read_csv(REPORTS / name, keep_default_na=True)


def lines_of(name: str, pattern: str) -> list[list[str]]:
    """Cells of the lines of a page's tables that match."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if re.match(pattern, line)]


def _against_paper(model: str, column: str) -> pd.Series:
    rows = table("jarvis/tables/against_paper.csv")
    (row,) = [row for _, row in rows.iterrows() if (row["ours"], row["paper"]) == (model, column)]
    return row


def _curve(label: str) -> pd.Series:
    """Transfer error over scratch error, by number of training rows."""
    rows = table("jarvis/tables/learning_curve.csv")
    errors = rows[rows["label"] == label].pivot(index="n_train", columns="side", values="test_mae")
    return errors["transfer"] / errors["scratch"]


@pytest.mark.parametrize(
    ("label", "stated"),
    [
        ("ExptDeltae", "the error of transfer is {1:.2f} times that of scratch, with {6:,} rows {7:.2f}"),
        ("BulkKV", "{1:.2f} times with {0:,} rows, {3:.2f} times with {2:,}, no gain with {6:,}"),
        ("Spillage", "{1:.2f} times with {0:,} rows, no gain with {6:,}"),
    ],
)  # fmt: skip
def test_learning_curves(label, stated):
    flat = [value for point in _curve(label).items() for value in point]
    assert stated.format(*flat) in page(TRANSFER)
    assert ("no gain" in stated) == (flat[7] >= 1)


def test_target_on_which_transfer_is_worse_at_every_size():
    ratios = 100 * (_curve("SLME") - 1)
    assert ratios.min() > 0
    assert f"by {ratios.min():.0f} to {ratios.max():.0f} %" in page(TRANSFER)


def test_wins_of_transfer_and_against_the_paper():
    signs = table("jarvis/tables/sign_tests.csv").set_index("question")
    row = signs.loc["best TL lower than best SC, MAE, all targets"].astype(float)
    n = row[["wins", "losses", "ties"]].sum()
    scratch, transfer = (
        _against_paper(side, side)["geometric_mean_ratio"] for side in ("best SC", "best TL")
    )
    winner, papers = _against_paper("winner", "lowest"), _against_paper("paper's methods", "lowest")
    stated = [
        f"{row['paper_wins']:.0f} of {n:.0f} targets", f"{row['wins']:.0f} of {n:.0f}", f"({scratch:.2f} times",
        f"({transfer:.2f}", f"on {winner['win']} targets",
    ]  # fmt: skip
    assert not [text for text in stated if text not in page(TRANSFER)]
    stated = [
        f"{winner['win']} of the {winner['targets']} hold-outs",
        f"{papers['win']} below, {papers['tie']} within, {papers['loss']} above",
    ]
    assert not [text for text in stated if text not in page("README.md")]
    assert (winner["loss"], winner["wins_beyond_noise"]) == (0, 0)  # both pages say none


@pytest.mark.parametrize(("transfer", "scratch"), [("resnet_finetune", "resnet"), ("boost_sources", "boost")])
def test_gain_of_transfer_within_extension_methods(transfer, scratch):
    errors = table("jarvis/cells.csv").pivot_table("cv_mae_mean", "target", "method")
    ratios = (errors[transfer] / errors[scratch]).dropna()
    (line,) = lines_of(TRANSFER, rf"\| `{transfer}`: [^|]*\| `{scratch}`: ")
    assert line[2:] == [f"{(ratios < 1).sum()} of {len(ratios)} targets", f"{geometric_mean(ratios):.2f}"]


def test_weights_of_the_blends():
    own = table("jarvis/tables/own_methods.csv")
    blends = own.loc[own["ours"] == "Blend", "blend_of"]
    weights = blends.str.split("; ").explode().str.extract(r"^(\w+).* (\S+)$")
    shares = weights[1].astype(float).groupby(weights[0]).sum() / len(blends)
    on_transfer = sum(share for name, share in shares.items() if Method(name).side is Side.TRANSFER)
    assert f"{len(blends)} of {len(own)} targets" in page(TRANSFER)
    assert f"{100 * on_transfer:.0f} % of its weight" in page(TRANSFER)
    assert f"{100 * shares['resnet_finetune']:.0f} % on `resnet_finetune` alone" in page(TRANSFER)


def test_errors_of_the_source_networks():
    networks = table("jarvis/tables/table_s6.csv")
    joint = networks["network"] != networks["source"]
    errors = networks.groupby([joint, "source"])["validation_mae"].first().map("{:.3f}".format)
    energy, gap = "formation_energy", "band_gap"
    n = networks.loc[~joint & (networks["source"] == energy), "n_train"].iloc[0]
    stated = [
        f"{errors[True, energy]} eV/atom for the formation energy", f"has {errors[False, energy]}",
        f"{errors[True, gap]} eV against {errors[False, gap]} eV for the band gap", f"on {n:,} compositions",
    ]  # fmt: skip
    assert not [text for text in stated if text not in page(TRANSFER)]


def test_errors_by_layer():
    layers = table("jarvis/tables/extraction_layers.csv")
    layers = layers[layers["method"] == "TL:DL(FeatExtr)"]
    offered = yaml.safe_load((ROOT / "conf" / "tier" / "quick.yaml").read_text())["search"]["layers"]
    assert list(layers["layer"]) == offered
    higher = 100 * (layers["ratio_to_best_layer"] - 1)
    later = higher[layers["layer"] > "hidden_08"]
    assert f"{later.min():.0f} to {later.max():.0f} % higher" in page(TRANSFER)
    assert later.min() > higher[:2].max()


def test_share_of_repeated_hold_out_rows():
    rows = table("jarvis/tables/repeats.csv").drop_duplicates("target")
    share = 100 * rows["n_test_repeated"].sum() / rows["n_test"].sum()
    for name in ("docs/how-to/study.md", "docs/protocol.md"):
        assert f"{share:.0f} % of those hold-out rows" in page(name)


@pytest.mark.parametrize("study", ["jarvis_small", "jarvis"])
def test_megabytes_that_a_study_fetches(study):
    catalogue = yaml.safe_load((ROOT / "src/crossprop/data/catalog.yaml").read_text(encoding="utf-8"))
    composed = yaml.safe_load((ROOT / "conf" / "study" / f"{study}.yaml").read_text())
    sizes = {}
    for name in (*composed["targets"], *composed["sources"]):
        entry = catalogue["properties"][name]
        edition = (entry.get("editions") or {}).get(composed.get("edition", "open"), {})
        more = [file for part in edition.get("supplements", []) for file in part["files"]]
        sizes |= {file["path"]: file["size"] for file in (*entry["files"], *edition.get("files", []), *more)}
    told = f"{sum(sizes.values()) / 1e6:.0f} MB"
    ((*_, cells),) = [[" ".join(line)] for line in lines_of("docs/how-to/study.md", rf"\| `{study}` ")]
    assert f"({told})" in cells
    command = re.findall(
        rf"dvc exp run -S study={study}\b[^`]*?downloads (\d+ MB)", (ROOT / "README.md").read_text()
    )
    assert command == [told]


def test_numbers_of_the_readme_are_those_of_the_report():
    """Committed, or about to be committed; a run on another machine may differ in last digits."""
    tool = load_script("tools/readme_table.py")
    (marked,) = tool.MARKED.finditer((ROOT / "README.md").read_text())
    assert marked["source"] == tool.TABLE
    show = ["git", "show", f"HEAD:{tool.TABLE}"]
    committed = subprocess.run(show, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    here = (ROOT / tool.TABLE).read_text() if (ROOT / tool.TABLE).is_file() else ""
    assert marked["table"] in [tool.render(report) for report in (committed, here) if report]


def test_table_of_numbers_follows_its_report():
    text = load_script("tools/readme_table.py").render(
        "target,unit,base_mae,best_sc,best_sc_test_mae,best_tl,best_tl_test_mae\n"
        'gap,eV,1.5,ml(PA),0.44251,"freezing(oqmd, hidden_16)",148.421\n'
    )
    assert "| `gap` | eV | 1.50 | `ml(PA)` | 0.443 | `freezing(oqmd, hidden_16)` | 148 |" in text


def test_tiers_in_the_protocol_are_those_of_the_configuration(compose):
    tiers = (ROOT / "docs" / "protocol.md").read_text().split("## Tiers")[1].split("\n## ")[0]
    rows = {
        name.strip(): (quick.strip(), full.strip())
        for name, quick, full in re.findall(r"^\|([^|]*)\|([^|]*)\|([^|]*)\|$", tiers, flags=re.MULTILINE)
    }
    for place, tier in enumerate(("quick", "full")):
        composed = compose("study=jarvis", f"tier={tier}")
        study, stated = composed["study"], {name: values[place] for name, values in rows.items()}
        budget, folds = study["budget"], [study["folds"], *study["folds_by_target"].values()]
        assert stated[""] == f"`{tier}`"
        assert stated["sources with an ElemNet"] == str(len(study["elemnet_sources"]))
        assert stated["sources of the joint network"] == str(len(study["joint"]["all_sources"]))
        assert (
            stated["trials a side: regressors, networks"] == f"{budget['ml_trials']}, {budget['dl_trials']}"
        )
        numbers = [int(number) for number in re.findall(r"\d+", stated["folds"])]
        assert (min(numbers), max(numbers)) == (min(folds), max(folds))
        assert stated["extraction layers to choose from"] == str(len(composed["search"]["layers"]))


# docs/intervals.md


def test_measured_coverage():
    rows = table("jarvis/tables/coverage.csv")
    total = rows["n_test"].sum()
    held, outside = (
        100 * (rows[name] * rows["n_test"]).sum() / total for name in ("measured", "outside_domain")
    )
    large = 100 * rows.loc[rows["n_test"] >= 500, "measured"]
    stated = [
        f"`jarvis`: {held:.1f} % of {total:,} values", f"{outside:.1f} % of the rows are flagged",
        f"on the {len(large)} targets with 500 rows or more between {large.min():.1f} and {large.max():.1f} %",
    ]  # fmt: skip
    assert not [text for text in stated if text not in page(INTERVALS)]


def _held_out() -> pd.DataFrame:
    """Runs of the benchmark of held-out chemistries, with the row of the page's table that tells of them."""
    runs = table("held_out_chemistry/study_chemistries.csv")
    kinds = runs["of_unseen_elements"].eq(1).map({True: "elements never seen", False: "known elements"})
    return runs.assign(kind=kinds.mask(runs["chemistry"].str.startswith("greatest"), "the greatest"))


@pytest.mark.parametrize("kind", ["known elements", "elements never seen", "the greatest"])
def test_held_out_chemistries(kind):
    runs = _held_out()
    mean = runs[runs["kind"] == kind].mean(numeric_only=True)
    shares = [100 * mean[name] for name in ("coverage", "coverage_before", "flagged", "flagged_before")]
    flagged = [f"{share:.1f} %" if share < 9.5 else f"{share:.0f} %" for share in shares[2:]]
    expected = [
        str((runs["kind"] == kind).sum()),
        f"{mean['mae_ratio']:.1f}",
        *(f"{s:.1f} %" for s in shares[:2]),
    ]
    (line,) = lines_of(INTERVALS, rf"\| {kind}")
    assert line[1:] == [*expected, *flagged]


def test_random_rows_beside_the_held_out_chemistries():
    runs = _held_out()
    mean = 100 * runs.mean(numeric_only=True)
    (line,) = lines_of(INTERVALS, r"\| at random")
    assert line[1] == str(len(runs))
    names = ("coverage_random", "coverage_random_before", "flagged_random")
    assert line[3:6] == [f"{mean[name]:.1f} %" for name in names]
    hard = runs[(runs["kind"] == "known elements") & (runs["mae_ratio"] > 1.5)].mean(numeric_only=True)
    now, before = (f"{100 * hard[name]:.0f} %" for name in ("flagged", "flagged_before"))
    assert f"flags {now} of the rows on average ({before} with the radius of 99 %)" in page(INTERVALS)
