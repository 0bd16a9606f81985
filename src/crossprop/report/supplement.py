"""Sections of ``supplement.md`` on methods: extension methods, validation, sources, tails, unfinished cells."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from crossprop.config import StudyConfig
from crossprop.data.catalog import load_catalog
from crossprop.experiments.pretrain import HISTORY_FILE, load_provenance
from crossprop.experiments.results import CellResult
from crossprop.methods import Architecture, Method, Side
from crossprop.models.networks import BLOCKS, WIDTH
from crossprop.paths import StudyPaths
from crossprop.report import figures as draw
from crossprop.report import network_figure
from crossprop.report.pages import Section
from crossprop.report.paper import TABLES, PublishedTable, paper_sources
from crossprop.report.statistics import extension_gains, geometric_mean, sign_test
from crossprop.report.study import TargetResults, best_validated
from crossprop.report.tables import cell_name, lower, number, relative_errors, table_of, words

EXTENSION_METHODS = {
    Method.PLAIN_BASELINE: "300 extra trees with scikit-learn's defaults on fractions beside attributes, not tuned",
    Method.PLAIN_MEDIAN: "the same trees, their median instead of their mean",
    Method.BOOST: "extra trees, boosted trees or a support vector machine on fractions beside attributes",
    Method.BOOST_SOURCES: "one of these three on fractions, attributes and the joint network's predicted properties",
    Method.RESNET: "a residual network on fractions beside attributes, from random weights",
    Method.RESNET_FINETUNE: "the joint residual network, pretrained on several sources at once, fine-tuned",
    Method.BLEND: "a convex mean of the target's cross-validated cells, its weights learnt on the other folds",
}
_SUPPLEMENTARY = {
    "table_s5.csv": ("elemental fractions, TL from Table 2's source", TABLES[2]),
    "table_s7.csv": ("elemental fractions, TL from all sources", TABLES[3]),
    "table_s9.csv": ("physical attributes for SC too", TABLES[4]),
    "table_s11.csv": ("the experimental sets", TABLES[5]),
}
"""What each supplementary table of validation errors holds, and the paper's table with the same cells."""


def by_rule(methods: Iterable[Method]) -> bool:
    """Whether the winner is the better of the blend and the plain median, whatever single cells have."""
    return {Method.BLEND, Method.PLAIN_MEDIAN} <= set(methods)


def extension_section(results: Sequence[TargetResults]) -> Section | None:
    """The best extension method (``ours``) of every target against the best of the paper's; None without any."""
    gains = extension_gains(results)
    present = {cell.method for target in results for cell in target.cells}
    if not any(method.extension for method in present):
        return None
    rows = [
        {
            **gain.target.described,
            "ours": cell_name(gain.first),
            "ours_cv_mae": gain.first.cv_mae_mean,
            "ours_mae": gain.first.test_mae,
            "papers": cell_name(gain.second),
            "papers_cv_mae": gain.second.cv_mae_mean,
            "papers_mae": gain.second.test_mae,
            "difference": gain.gap.mean,
            **gain.columns,
            "verdict": gain.verdict.replace("extension", "ours"),
            "blend_of": _blend_of(gain.first),
            "winner_is_ours": bool(gain.target.winner and gain.target.winner.method.extension),
            "ours_run_id": gain.target.run_id(gain.first),
            "papers_run_id": gain.target.run_id(gain.second),
        }
        for gain in gains
    ]
    ratios = [ratio for gain in gains if (ratio := gain.ratio)]
    context = {
        "methods": {method.notation: what for method, what in EXTENSION_METHODS.items() if method in present},
        "gains": gains,
        "won": None if by_rule(present) else sum(bool(t.winner and t.winner.method.extension) for t in results),
        "targets": len(results),
        "test": sign_test(ratios, [1.0] * len(ratios)),
        "mean_ratio": geometric_mean(ratios),
        "verdicts": Counter(gain.verdict for gain in gains),
    }
    return Section(context=context, tables={"tables/own_methods.csv": table_of(rows)} if gains else {})


def _blend_of(cell: CellResult) -> str | None:
    """The cells of a blend with their weights, the heaviest first; None for any other cell."""
    if cell.method is not Method.BLEND:
        return None
    weights = {name: float(w) for name, w in cell.hyperparameters.items() if isinstance(w, int | float)}
    return "; ".join(f"{name} {w:.2f}" for name, w in sorted(weights.items(), key=lambda pair: -pair[1]))


def validation_section(cells: pd.DataFrame, results: Sequence[TargetResults]) -> Section:
    """Errors, status and run of every cell, the supplementary tables among them, and the heat map."""
    columns = [
        "target", "label", "unit", "method", "cell", "ours", "source", "representation", "layer", "status",
        "screening_mae", "cv_mae_mean", "cv_mae_std", "folds", "mae_of_folds_before_stop", "chosen_as", "run_id",
    ]  # fmt: skip
    table = cells.assign(
        method=cells["notation"],
        cell=cells["name"],
        ours=cells["extension"],
        representation=cells["representation"].map(lambda taken: taken.short if taken else None),
        screening_mae=cells["val_mae"],
        folds=pd.Series([len(folds) if folds else None for folds in cells["cv_mae"]], dtype=object),
        mae_of_folds_before_stop=cells["finished_folds"],
    )[columns]
    tables, contents = {"tables/validation.csv": table}, {}
    for name, (content, published) in _SUPPLEMENTARY.items():
        keep = [published.holds(t.paper) and published.takes(cell) for t in results for cell in t.cells]
        if any(keep):
            tables[f"tables/{name}"] = table[keep]
            contents[name] = content
    ratios = relative_errors(cells, "cv_mae_mean")
    title = "Mean validation MAE of the cross-validation, relative to the base (framed: lowest)"
    figure = partial(draw.heatmap, ratios, cells, title=title)
    figures = {"figures/cross_validation.png": figure} if np.isfinite(ratios.to_numpy()).any() else {}
    return Section(context={"contents": contents}, tables=tables, figures=figures)


def winning_section(study: StudyConfig, results: Sequence[TargetResults], cells: pd.DataFrame) -> Section:
    """Which method and which source won, beside the paper's counts where the study has its targets (S8, S10)."""
    methods, sources = methods_won(results), sources_won(study, results)
    extension = methods["ours"].map({True: " (extension)", False: ""})
    chosen = cells.assign(
        cell=cells["name"],
        method=cells["notation"],
        role=cells["chosen_as"].str.split("; "),
        order=pd.factorize(cells["target"])[0],
    )
    chosen = chosen[cells["chosen_as"] != ""].explode("role").sort_values(["order", "role"])
    columns = ["target", "role", "cell", "method", "source", "layer", "cv_mae_mean", "test_mae", "run_id"]
    tables = {"chosen": chosen[columns], "methods_won": methods, "sources_won": sources}
    written = {f"tables/{name}.csv": table for name, table in tables.items() if len(table)}
    shown = methods.assign(method=methods["method"] + extension)
    return Section(context={"methods": shown, "sources": sources}, tables=written)


def lowest_transfer(table: PublishedTable, results: Sequence[TargetResults]) -> list[CellResult]:
    """The best TL cell of every target on which it has a lower hold-out MAE than the best SC, as the paper counts."""
    sides = (Side.TRANSFER, Side.SCRATCH)
    pairs = [[best_validated(table.cells(target, side)) for side in sides] for target in results]
    return [tl for tl, sc in pairs if tl is not None and lower(tl, sc, "test_mae")]


def methods_won(results: Sequence[TargetResults]) -> pd.DataFrame:
    """How often each method was chosen: as best SC or TL, as winner, and as the paper counts TL's wins."""
    chosen: dict[str, Sequence[CellResult | None]] = {
        "best_of_its_side": [cell for t in results for cell in (t.best_sc, t.best_tl)],
        "winner_of_all": [target.winner for target in results],
        "lower_tl_on_fractions": lowest_transfer(TABLES[3], results),
        "lower_tl": lowest_transfer(TABLES[4], results),
    }
    counts = {name: Counter(cell.method for cell in found if cell) for name, found in chosen.items()}
    present = {cell.method for target in results for cell in target.cells} - {Method.BASE}
    rows = []
    for method in (method for method in Method if method in present):
        won = {name: found[method] for name, found in counts.items()}
        rows.append({"method": method.notation, "ours": method.extension, **won})
    return table_of(rows)


def sources_won(study: StudyConfig, results: Sequence[TargetResults]) -> pd.DataFrame:
    """How often each source gave the best TL, and its mean rank over target × TL method with all sources screened."""
    best = Counter(t.best_tl.source for t in results if t.best_tl)
    won = Counter(cell.source for cell in lowest_transfer(TABLES[4], results))
    transferred = [cell for target in results for cell in TABLES[4].cells(target, Side.TRANSFER)]
    screened = [(c.target, c.method.value, c.source, c.val_mae) for c in transferred if c.val_mae]
    errors = pd.DataFrame(screened, columns=["target", "method", "source", "error"])
    errors = errors.pivot(index=["target", "method"], columns="source", values="error")
    errors = errors.reindex(columns=list(study.elemnet_sources)).dropna()
    if len(study.elemnet_sources) < 2:
        errors = errors.iloc[:0]
    ranks, ratios = errors.rank(axis=1).mean(), errors.div(errors.min(axis=1), axis=0)
    published = paper_sources()["table_4_wins"]
    rows = [
        {
            "source": source,
            "best_tl": best[source],
            "lower_tl": won[source],
            "paper_wins": int(published[source]) if source in published else None,
            "mean_rank": float(ranks[source]) if len(errors) else None,
            "screening_ratio_to_best_source": geometric_mean(ratios[source]) if len(errors) else None,
            "comparisons": len(errors),
        }
        for source in study.elemnet_sources
    ]
    return table_of(rows)


def source_model_table(study: StudyConfig, paths: StudyPaths) -> pd.DataFrame:
    """One row per network and source property that it learnt; ModelFormatError if one has not been trained."""
    catalog = load_catalog()
    learnt = {source: (source,) for source in study.elemnet_sources} | study.joint
    rows = []
    for network, sources in learnt.items():
        joint = network in study.joint
        provenance = load_provenance(paths.source_model(network))
        for source in sources:
            row: dict[str, Any] = {"network": network, "source": source}
            row |= {"unit": catalog.property(source).unit, "edition": provenance.get("edition")}
            for name in ("n_train", "n_validation", "validation_mae", "validation_mae_of_median"):
                by_source = provenance.get(f"{name}_by_source", {})
                row[name] = by_source.get(source) if joint else provenance.get(name)
            rows.append(row | {name: provenance.get(name) for name in ("seconds", "peak_memory", "key")})
    return table_of(rows)


def source_models_section(study: StudyConfig, paths: StudyPaths, table: pd.DataFrame) -> Section | None:
    """The pretrained networks and how they learnt; None in a study that transfers nothing (S6)."""
    if table.empty:
        return None
    elemnet = table["network"] == table["source"]
    joint = "residual, " + table["network"].map(words) + " (extension)"
    stated = paper_sources()["validation_mae"].dropna()
    context = {
        "rows": table.assign(network=joint.mask(elemnet, "ElemNet")),
        "known": known_holdout(study, paths),
        "stated": {source: stated[source] for source in table.loc[elemnet, "source"] if source in stated},
    }
    lasting = table.drop(columns=["seconds", "peak_memory"])  # these differ from run to run
    curves = {}
    for network in (*study.elemnet_sources, *study.joint):
        provenance = load_provenance(paths.source_model(network))
        history = pd.read_csv(paths.source_model(network) / HISTORY_FILE)
        history["seen"] = history["epoch"] * provenance["n_train"]
        history["relative"] = history["val_mae"] / provenance["validation_mae_of_median"]
        curves[words(network)] = history
    figures = {"figures/source_learning.png": partial(draw.source_learning, curves)}
    return Section(context=context, tables={"tables/table_s6.csv": lasting}, figures=figures)


def known_holdout(study: StudyConfig, paths: StudyPaths) -> list[tuple[str, int, int]]:
    """Label of each target of which the sources hold compositions of the hold-out; how many, and of how many."""
    tables = [pd.read_parquet(paths.prepared(name), columns=["composition"]) for name in study.sources]
    known = {key for table in tables for key in table["composition"]}
    found = []
    for target in study.targets:
        frame = pd.read_parquet(paths.prepared(target), columns=["composition", "split"])
        held_out = set(frame.loc[frame["split"] == "test", "composition"])
        if held_out & known:
            found.append((load_catalog().property(target).label, len(held_out & known), len(held_out)))
    return found


def tails_section(results: Sequence[TargetResults]) -> Section:
    """The error that 95 % of the hold-out stay below, of the chosen cells (S12)."""
    rows = []
    for target in results:
        row: dict[str, Any] = {**target.described}
        chosen = {"base": target.base, "sc": target.best_sc, "tl": target.best_tl, "winner": target.winner}
        for role, cell in chosen.items():
            row[f"{role}_cell"] = cell_name(cell) if cell else None
            row[f"{role}_q95"] = cell.test_q95 if cell else None
            row[f"{role}_run_id"] = target.run_id(cell)
        rows.append(row | {"tl_lower_than_sc": lower(target.best_tl, target.best_sc, "test_q95")})
    table = table_of(rows)
    context = {"lower": table["tl_lower_than_sc"].dropna().tolist()}
    return Section(context=context, tables={"tables/table_s12.csv": table})


def networks_section(results: Sequence[TargetResults]) -> Section | None:
    """The networks that a study has cells of; None without any (Fig. S3)."""
    used = {cell.method for target in results for cell in target.cells}
    residual = any(m.architecture is Architecture.RESNET or m.uses_joint for m in used)
    elemnet = any(m.architecture is Architecture.ELEMNET or m is Method.ML_FEATEXTR for m in used)
    if not (residual or elemnet):
        return None
    drawn = ["ElemNet with the extraction layers"] * elemnet + ["the residual network"] * residual
    context = {
        "elemnet": elemnet,
        "residual": residual,
        "drawn": ", and below it ".join(drawn),
        "width": WIDTH,
        "blocks": BLOCKS,
        "fractions": network_figure.FRACTIONS,
        "attributes": network_figure.ATTRIBUTES,
        "elemnet_parameters": network_figure.elemnet_parameters(),
        "resnet_parameters": network_figure.resnet_parameters(),
    }
    figure = partial(network_figure.networks, elemnet=elemnet, residual=residual)
    return Section(context=context, figures={"figures/networks.png": figure})


def unfinished_section(cells: pd.DataFrame) -> Section | None:
    """Failed and stopped cells with their reasons, the failed ones first; None where every cell finished."""
    failed = cells["failure"].notna()
    reason = cells["failure"].where(failed, cells["stopped"])
    cells = cells.assign(state=np.where(failed, "failed", "stopped"), reason=reason)
    both = cells[cells["reason"].notna()].sort_values("state", kind="stable")
    if both.empty:
        return None
    folds = both["rung_mae"].map(lambda errors: ", ".join(number(mae, 3) for mae in errors or ()) or "–")
    context = {state: both.assign(folds=folds)[both["state"] == state] for state in ("failed", "stopped")}
    names = {"cell": "cell_id", "name": "cell", "state": "status", "val_mae": "screening_mae"}
    table = both.drop(columns="status").rename(columns=names | {"finished_folds": "mae_of_folds_before_stop"})
    columns = [
        "target", "cell_id", "cell", "status", "reason", "screening_mae", "mae_of_folds_before_stop", "run_id",
    ]  # fmt: skip
    return Section(context=context, tables={"tables/unfinished.csv": table[columns]})
