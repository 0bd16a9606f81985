"""Numbers that the pages state, computed anew from the committed reports, the catalogue and the configuration."""

import re
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from tool_modules import load_script

from crossprop.methods import Method, Side
from crossprop.report.statistics import geometric_mean

ROOT = Path(__file__).resolve().parents[2]
README, TRANSFER, INTERVALS = "README.md", "docs/transfer.md", "docs/intervals.md"
STUDY = "docs/how-to/study.md"


@cache
def table(name):
    return pd.read_csv(ROOT / "reports" / name)


def says(page, *numbers):
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    assert not [number for number in numbers if number not in text]


def row_of(page, pattern):
    """Cells of the one line of a page's tables that matches."""
    (line,) = re.findall(rf"^\| ?{pattern}.*$", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [cell.strip() for cell in line.split("|")[1:-1]]


@pytest.mark.parametrize(
    ("label", "stated"),
    [
        ("ExptDeltae", "the error of transfer is {1:.2f} times that of scratch, with {6:,} rows {7:.2f}"),
        ("BulkKV", "{1:.2f} times with {0:,} rows, {3:.2f} times with {2:,}, no gain with {6:,}"),
        ("Spillage", "{1:.2f} times with {0:,} rows, no gain with {6:,}"),
        ("SLME", "worse at every size, by {8:.0f} to {9:.0f} %"),
    ],
)  # fmt: skip
def test_learning_curves(label, stated):
    rows = table("jarvis/tables/learning_curve.csv").query("label == @label")
    errors = rows.pivot(index="n_train", columns="side", values="test_mae")
    ratios = errors["transfer"] / errors["scratch"]
    flat = [value for point in ratios.items() for value in point]
    says(TRANSFER, stated.format(*flat, 100 * (ratios.min() - 1), 100 * (ratios.max() - 1)))
    assert ("no gain" in stated or "worse" in stated) == (flat[7] >= 1)


def test_wins_of_transfer_and_against_the_paper():
    tests = table("jarvis/tables/sign_tests.csv").set_index("question")
    row = tests.loc["best TL lower than best SC, MAE, all targets"]
    n = row[["wins", "losses", "ties"]].sum()
    of = table("jarvis/tables/against_paper.csv").set_index(["ours", "paper"]).to_dict("index")
    scratch, transfer = (of[side, side]["geometric_mean_ratio"] for side in ("best SC", "best TL"))
    winner, papers = of["winner", "lowest"], of["paper's methods", "lowest"]
    says(TRANSFER, f"{row['paper_wins']:.0f} of {n:.0f} targets", f"{row['wins']:.0f} of {n:.0f}")
    says(TRANSFER, f"({scratch:.2f} times", f"({transfer:.2f}", f"on {winner['win']} targets")
    says(README, f"{winner['win']} of the {winner['targets']} hold-outs")
    says(README, f"{papers['win']} below, {papers['tie']} within, {papers['loss']} above")
    assert (winner["loss"], winner["wins_beyond_noise"]) == (0, 0)  # both pages say none


def test_tables_on_the_full_sources():
    against = table("jarvis_tables/tables/against_paper.csv").set_index(["ours", "paper"])
    transfer, scratch = against.loc[("best TL", "best TL")], against.loc[("best SC", "best SC")]
    best = against.loc[("paper's methods", "lowest")]
    mean = transfer["geometric_mean_ratio_of_mean_of_folds"]
    won, tied, lost = (transfer[f"{outcome}_of_mean_of_folds"] for outcome in ("win", "tie", "loss"))
    wins = table("jarvis_tables/tables/sign_tests.csv")["wins"]
    n = table("jarvis_tables/tables/sign_tests.csv")[["wins", "losses", "ties"]].sum(axis=1)
    says(
        TRANSFER,
        f"for the {transfer['targets']:.0f} targets",
        f"have {mean:.3f} times the error",
        f"{won:.0f} lower, {tied:.0f} within one standard error, {lost:.0f} higher",
        f"has {transfer['geometric_mean_ratio']:.2f} times the error",
        f"on {wins[0]} of {n[0]} targets from the formation energy alone (Table 2), on {wins[1]} of {n[1]}",
        f"lower error on {wins[3]} of {n[3]} only",
        f"({scratch['geometric_mean_ratio_of_mean_of_folds']:.3f} times the error of its best ones",
        f"has {best['geometric_mean_ratio_of_mean_of_folds']:.3f} times the lowest error",
    )
    assert best["loss_of_mean_of_folds"] == 0
    says(
        README,
        f"for {transfer['targets']:.0f} of the 41 targets so far",
        f"have {mean:.2f} times the error of the paper's",
    )


def test_models_of_the_tier_models():
    targets, plain = table("jarvis_models/targets.csv"), table("jarvis_models/tables/plain.csv")
    ratios, n = targets["winner_test_mae_ensemble"] / targets["paper_lowest_mae"], len(targets)
    below, mean, beside = (ratios < 1).sum(), geometric_mean(ratios), geometric_mean(plain["ratio"])
    lowest = table("jarvis_models/tables/against_paper.csv").query("paper == 'lowest'").iloc[0]
    clearly, papers = lowest["win_of_mean_of_folds"], targets.set_index("target")["paper_lowest_mae"]
    simple = plain.set_index("target")["plain median"] < papers
    runs = table("jarvis_models/runs.csv").query("name == 'plain median'").set_index("target")["fit_seconds"]
    seconds = runs[simple[simple].index]
    says(README, f"on {below} of {n} hold-outs, {mean:.2f} times", f"have {beside:.2f} times the error")
    says(README, f"on {clearly} by more than one standard error")
    says(TRANSFER, f"on {clearly} it is more than one", f"lowest error of the paper on {simple.sum()} targets")
    says(TRANSFER, f"after {seconds.min():.0f} to {seconds.max():.0f} seconds")
    says(
        TRANSFER,
        f"on {below} of the {n}, {mean:.3f} times",
        f"is beaten on {(plain['ratio'] < 1).sum()}; ",
        f"is {beside:.3f}.",
    )
    says(TRANSFER, *(f"{plain['label'][i]} {ratio:.2f}" for i, ratio in ratios[ratios >= 1].items()))


def test_experimental_targets_with_every_method():
    targets = table("jarvis_experimental/targets.csv").set_index("target")
    ratios = targets["winner_test_mae_ensemble"] / targets["paper_lowest_mae"]
    models = table("jarvis_models/targets.csv").set_index("target")
    below = models["winner_test_mae_ensemble"] < models["paper_lowest_mae"]
    below[ratios.index] |= ratios < 1
    assert below[~below].index.tolist() == ["piezo_max_dij"]
    row = table("jarvis_models/tables/against_paper_by_target.csv").query("target == 'piezo_max_dij'").iloc[-1]
    says(
        TRANSFER,
        f"{ratios['expt_deltae']:.3f} times the lowest error of the paper, that of ExptBg {ratios['expt_bandgap']:.3f}",
        f"paper on {below.sum()} of {len(below)} targets",
        f"{row['mae_of_mean_of_folds']:.1f} against {row['paper_mae']:.1f} pC/N",
        f"{row['standard_error']:.1f} pC/N",
    )
    lowest = table("jarvis_experimental/tables/against_paper_by_target.csv").query(
        "ours == 'winner' & paper == 'lowest'"
    )
    assert dict(zip(lowest["target"], lowest["outcome_of_mean_of_folds"], strict=True)) == {
        "expt_deltae": "tie",
        "expt_bandgap": "win",
    }
    says(README, f"by less than one standard error: {below.sum()} of {len(below)}")


def test_exclusion_of_the_paper():
    loose, strict = (table(f"jarvis_{name}/targets.csv").set_index("target") for name in ("paper_exclusion", "tables"))
    errors = table("jarvis_paper_exclusion/tables/against_paper_by_target.csv").query("ours == 'best TL'")
    stated = []
    for target, digits in (("expt_deltae", 4), ("expt_bandgap", 3)):
        one, other = loose["best_tl_test_mae"][target], strict["best_tl_test_mae"][target]
        assert abs(one - other) < errors.query("target == @target")["standard_error"].min()
        stated.append(f"{one:.{digits}f} instead of {other:.{digits}f}")
    says(TRANSFER, *stated)
    says("reports/jarvis_paper_exclusion/supplement.md", "26 of 164 of ExptDeltae, 96 of 492 of ExptBg")


def test_fits_against_the_plain_models():
    fits = table("fit_against_plain/targets.csv").set_index("label")
    ratios, minutes = fits["ratio"], fits["minutes"]
    simple = fits[["plain_baseline", "plain_median"]].min(axis=1)
    assert np.allclose(ratios, fits["mae"] / simple, rtol=1e-4)
    says(
        TRANSFER,
        f"took {minutes.min():.1f} to {minutes.max():.1f} minutes",
        f"is {geometric_mean(ratios):.3f} in the geometric mean",
        f"from {ratios.min():.2f} ({ratios.idxmin()}) to {ratios.max():.2f} ({ratios.idxmax()})",
        f"below 1 on {(ratios < 1).sum()} of the {len(ratios)}",
    )


@pytest.mark.parametrize(("transfer", "scratch"), [("resnet_finetune", "resnet"), ("boost_sources", "boost")])
def test_gain_of_transfer_within_extension_methods(transfer, scratch):
    errors = table("jarvis/cells.csv").pivot_table("cv_mae_mean", "target", "method")
    ratios = (errors[transfer] / errors[scratch]).dropna()
    stated = [f"{(ratios < 1).sum()} of {len(ratios)} targets", f"{geometric_mean(ratios):.2f}"]
    assert row_of(TRANSFER, rf"`{transfer}`: [^|]*\| `{scratch}`: ")[2:] == stated


def test_weights_of_the_blends():
    own = table("jarvis/tables/own_methods.csv")
    blends = own.loc[own["ours"] == "Blend", "blend_of"]
    weights = blends.str.split("; ").explode().str.extract(r"^(\w+).* (\S+)$")
    shares = 100 * weights[1].astype(float).groupby(weights[0]).sum() / len(blends)
    on_transfer = sum(share for name, share in shares.items() if Method(name).side is Side.TRANSFER)
    says(TRANSFER, f"{len(blends)} of {len(own)} targets", f"{on_transfer:.0f} % of its weight")
    says(TRANSFER, f"{shares['resnet_finetune']:.0f} % on `resnet_finetune` alone")


def test_errors_of_the_source_networks_and_by_layer():
    networks = table("jarvis/tables/table_s6.csv")
    elemnet = networks.query("network == source == 'formation_energy'").iloc[0]
    says(TRANSFER, f"{elemnet['validation_mae']:.3f} eV/atom", f"on {elemnet['n_train']:,} compositions")
    layers = table("jarvis/tables/extraction_layers.csv").query("method == 'TL:DL(FeatExtr)'")
    higher = 100 * (layers["ratio_to_best_layer"] - 1)
    later = higher[layers["layer"] > "hidden_08"]
    says(TRANSFER, f"{later.min():.0f} to {later.max():.0f} % higher")
    offered = yaml.safe_load((ROOT / "conf" / "tier" / "quick.yaml").read_text())["search"]["layers"]
    assert list(layers["layer"]) == offered
    assert later.min() > higher[:2].max()


def test_share_of_repeated_hold_out_rows():
    rows = table("jarvis/tables/repeats.csv").drop_duplicates("target")
    share = 100 * rows["n_test_repeated"].sum() / rows["n_test"].sum()
    for page in (STUDY, "docs/protocol.md"):
        says(page, f"{share:.0f} % of those hold-out rows")


def test_table_of_the_readme_is_that_of_the_report():
    """Committed, or about to be committed; a run on another machine may differ in last digits."""
    tool = load_script("tools/readme_table.py")
    (marked,) = tool.MARKED.finditer((ROOT / README).read_text())
    assert marked["source"] == tool.TABLE
    show = ["git", "show", f"HEAD:{tool.TABLE}"]
    committed = subprocess.run(show, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    here = (ROOT / tool.TABLE).read_text() if (ROOT / tool.TABLE).is_file() else ""
    assert marked["table"] in [tool.render(report) for report in (committed, here) if report]


def test_measured_coverage():
    rows = table("jarvis/tables/coverage.csv")
    total = rows["n_test"].sum()
    held, outside = (100 * (rows[of] * rows["n_test"]).sum() / total for of in ("measured", "outside_domain"))
    large = 100 * rows.loc[rows["n_test"] >= 500, "measured"]
    says(INTERVALS, f"`jarvis`: {held:.1f} % of {total:,} values", f"{outside:.1f} % of the rows are flagged")
    share = f"between {large.min():.1f} and {large.max():.1f} %"
    says(INTERVALS, f"{len(large)} targets with 500 rows or more {share}")


def test_held_out_chemistries():
    runs = table("held_out_chemistry/study_chemistries.csv")
    kinds = runs["of_unseen_elements"].eq(1).map({True: "elements never seen", False: "known elements"})
    kinds = kinds.mask(runs["chemistry"].str.startswith("greatest"), "the greatest")
    for kind, mean in runs.groupby(kinds).mean(numeric_only=True).iterrows():
        held, before, *shares = 100 * mean[["coverage", "coverage_before", "flagged", "flagged_before"]]
        flagged = [f"{share:.1f} %" if share < 9.5 else f"{share:.0f} %" for share in shares]
        ratio, n = f"{mean['mae_ratio']:.1f}", str((kinds == kind).sum())
        expected = [n, ratio, f"{held:.1f} %", f"{before:.1f} %"]
        assert row_of(INTERVALS, str(kind))[1:] == [*expected, *flagged]
    means = 100 * runs[["coverage_random", "coverage_random_before", "flagged_random"]].mean()
    at_random = row_of(INTERVALS, "at random")
    assert [at_random[1], *at_random[3:6]] == [str(len(runs)), *(f"{mean:.1f} %" for mean in means)]
    hard = 100 * runs[(kinds == "known elements") & (runs["mae_ratio"] > 1.5)].mean(numeric_only=True)
    flagged = f"flags {hard['flagged']:.0f} % of the rows on average ({hard['flagged_before']:.0f} % with"
    says(INTERVALS, flagged)
