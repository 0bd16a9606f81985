"""The whole report of a study: pages, tables, figures and data files."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from crossprop.config import StudyConfig
from crossprop.methods import Family, Method, Side
from crossprop.paths import StudyPaths
from crossprop.report import analyses, paper, supplement
from crossprop.report import figures as draw
from crossprop.report import statistics as stats
from crossprop.report.pages import Section, render
from crossprop.report.study import TargetResults, load_study_results
from crossprop.report.tables import cell_name, cell_table, relative_errors, table_of, write_csv, write_data

MOST_PANELS = 16  # with more targets the panels of the winners are on the supplement's page
_SIDES = {side: how.name for side, how in draw.SIDES.items() if side is not Side.BASE}
_FAMILIES = {Family.REGRESSOR: "regressors", Family.NETWORK: "networks"}


def summarize(study: StudyConfig, paths: StudyPaths, out_dir: Path) -> str:
    """Write tables, figures and pages of a study into a folder, and return its main findings for a terminal.

    An error leaves the old report as it is.
    """
    results = load_study_results(study, paths)
    of_paper = any(target.paper for target in results)
    compared = any(target.best_sc or target.best_tl for target in results)
    cells, sources = cell_table(results), supplement.source_model_table(study, paths)
    gains = stats.transfer_gains(results)
    parity = Section(figures={"winner_parity.png": partial(draw.winner_parity, results)})
    many = len(results) > MOST_PANELS
    transfer = partial(draw.scratch_against_transfer, results)
    main: dict[str, Section | None] = {
        "against_paper": paper.against_paper_section(results),
        "scratch_against_transfer": Section(figures={"scratch_against_transfer.png": transfer}) if compared else None,
        "every_method": _every_method(cells),
        "targets": _targets_section(results, gains),
        "parity": None if many else parity,
        "plain": _plain_section(results),
    }
    reproduced = paper.reproduced_tables(results)
    base = paper.base_section(results)
    sign_tests = paper.sign_tests_section(paper.sign_test_table(results, reproduced))
    details: dict[str, Section | None] = {
        "sign_tests": None if of_paper else sign_tests,
        "extension": supplement.extension_section(results),
        "repeats": analyses.repeats_section(results),
        "validation": supplement.validation_section(cells, results),
        "winning": supplement.winning_section(study, results, cells),
        "sources": supplement.source_models_section(study, paths, sources),
        "tails": supplement.tails_section(results),
        "coverage": analyses.coverage_section(results, paths),
        "learning_curves": analyses.learning_curves_section(results, cells),
        "correlations": analyses.correlations_section(results),
        "layers": analyses.layers_section(results, cells),
        "networks": supplement.networks_section(results),
        "unfinished": supplement.unfinished_section(cells),
        "parity": parity if many else None,
    }
    facts = _facts(study, results, cells) | {"base": base.context, "compared": compared, "of_paper": of_paper}
    findings = _findings(results, gains)
    pages = {
        "README.md": render("README.md.j2", details | main, **facts, **findings, reproduced=reproduced),
        "supplement.md": render("supplement.md.j2", details, **facts),
        "costs.md": render("costs.md.j2", {}, **facts, **_costs(cells, sources)),
    }
    sections = [*main.values(), *details.values()]
    if of_paper:
        of_tables = {"base": base, "sign_tests": sign_tests}
        made = paper.paper_sections(reproduced)
        shown = [section.shown for section in made]
        pages["paper.md"] = render("paper.md.j2", of_tables, study=study, reproduced=shown)
        sections += [*made, *of_tables.values()]
    _write(out_dir, pages, [section for section in sections if section])
    write_data(out_dir, results, cells)
    in_short = pages["README.md"].partition("## In short\n")[2].partition("\n## ")[0]
    return re.sub(r"\[(.+?)\]\(.+?\)", r"\1", in_short).replace("**", "").strip()


def _write(out_dir: Path, pages: Mapping[str, str], sections: Sequence[Section]) -> None:
    """Write pages, tables and figures, and remove those of an earlier report that this one does not have."""
    drawn = {name: figure() for section in sections for name, figure in section.figures.items()}
    tables = {name: table for section in sections for name, table in section.tables.items()}
    for folder in ("tables", "figures"):
        (out_dir / folder).mkdir(parents=True, exist_ok=True)
    for pattern in ("*.md", "*.png", "figures/*.png", "tables/*.csv"):
        for stale in set(out_dir.glob(pattern)) - {out_dir / name for name in (*pages, *tables, *drawn)}:
            stale.unlink()
    for name, text in pages.items():
        (out_dir / name).write_text(text, encoding="utf-8")
    for name, table in tables.items():
        write_csv(out_dir / name, table)
    for name, figure in drawn.items():
        draw.save_png(figure, out_dir / name)


def _every_method(cells: pd.DataFrame) -> Section:
    """Screening errors of the paper's rows of Table 1 and the extension methods, relative to the base."""
    plain = (cells["side"] == Side.TRANSFER) | cells["extension"]
    named = cells.assign(row=cells["notation"].where(plain, cells["name"]))
    ratios = relative_errors(named, "val_mae", "row").dropna(how="all")  # a blend is not screened
    title = "Validation MAE of every method relative to the base (framed: lowest)"
    figure = partial(draw.heatmap, ratios, named, title=title, name="row")
    return Section(figures={"method_heatmap.png": figure})


def _targets_section(results: Sequence[TargetResults], gains: Sequence[stats.Gain]) -> Section:
    """Every target: base, best SC, best TL, and the winner where extension methods take part."""
    context = {
        "results": results,
        "verdicts": {gain.target.info.key: gain.verdict for gain in gains},
        "extended": any(cell.method.extension for target in results for cell in target.cells),
    }
    rows = [
        {
            "target": gain.target.info.key,
            "unit": gain.target.info.unit,
            "tl_minus_sc": gain.gap.mean,
            **gain.columns,
            "sc_run_id": gain.target.run_id(gain.second),
            "tl_run_id": gain.target.run_id(gain.first),
        }
        for gain in gains
    ]
    return Section(context=context, tables={"tables/transfer_gains.csv": table_of(rows)} if gains else {})


def _facts(study: StudyConfig, results: Sequence[TargetResults], cells: pd.DataFrame) -> dict[str, Any]:
    """What several pages say of the study: its folds (the most common first), statuses of cells, and trials."""
    folds: dict[int, list[str]] = {}
    for target in results:
        folds.setdefault(target.folds, []).append(target.info.label)
    common = max(folds, key=lambda count: len(folds[count]))
    trials = []
    for family, name in _FAMILIES.items():
        of_family = cells[cells["family"] == family]
        counts, of_paper = (
            rows.pivot_table("n_trials", "target", "side", aggfunc="sum")
            .reindex(index=cells["target"].unique(), columns=[Side.SCRATCH, Side.TRANSFER])
            .fillna(0).astype(int).set_axis(["SC", "TL"], axis=1)
            for rows in (of_family, of_family[~of_family["extension"]])
        )  # fmt: skip
        if counts.to_numpy().any():
            both = bool(counts.any().all())  # a side without cells is not compared
            equal = bool((counts["SC"] == counts["TL"]).all()) if both else None
            row = {"family": name, **_ranges(counts), "equal": equal}
            shown = of_paper.to_numpy().any() and not counts.equals(of_paper)
            trials.append(row | {"paper": _ranges(of_paper) if shown else None})
    return {
        "study": study,
        "n_targets": len(results),
        "n_cells": len(cells),
        "folds": sorted(folds.items(), key=lambda item: (item[0] != common, item[0])),
        "reached": Counter(cells["status"].str.split(r"[: ]", regex=True).str[0]),
        "trials": trials,
        "by_rule": supplement.by_rule(study.methods),
    }


def _ranges(counts: pd.DataFrame) -> dict[str, str]:
    """Least and greatest number of every column, as text."""
    return {str(side): " to ".join(map(str, sorted({n.min(), n.max()}))) for side, n in counts.items()}


def _plain_section(results: Sequence[TargetResults]) -> Section | None:
    """The winners beside the two models that need no tuning; ``None`` in a study without them."""
    rows = []
    for target in results:
        errors: dict[str, float | None] = dict.fromkeys(m.notation for m in Method if m.side is Side.PLAIN)
        errors |= {c.method.notation: c.test_mae_ensemble for c in target.cells if c.method.notation in errors}
        better = min((error for error in errors.values() if error is not None), default=None)
        error = target.winner.test_mae_ensemble if target.winner else None
        if better is not None and error is not None:
            row = {"winner": cell_name(target.winner), "winner_mae": error}
            row |= {"run_id": target.run_id(target.winner)}
            rows.append({**target.described, **errors, **row, "ratio": error / better if better else None})
    if not rows:
        return None
    table = table_of(rows)
    ratios = table["ratio"].dropna()
    counts = {"n": len(ratios), "lower": int((ratios < 1).sum()), "mean_ratio": stats.geometric_mean(ratios)}
    context = {"rows": table, **counts}
    return Section(context=context, tables={"tables/plain.csv": table})


def _findings(results: Sequence[TargetResults], gains: Sequence[stats.Gain]) -> dict[str, Any]:
    """What the main page says in short about SC and TL."""
    ratios = [target.transfer_ratio for target in results if target.transfer_ratio]
    verdicts: dict[str, list[str]] = {"TL better": [], "SC better": [], "within noise": []}
    for gain in gains:
        verdicts[gain.verdict].append(gain.target.info.label)
    return {
        "gains": gains,
        "mae_test": stats.transfer_against_scratch(results, "test_mae"),
        "q95_test": stats.transfer_against_scratch(results, "test_q95"),
        "ensemble_test": stats.transfer_against_scratch(results, "test_mae_ensemble"),
        "tuning_test": stats.modified_against_plain(results),
        "ratios": ratios,
        "mean_ratio": stats.geometric_mean(ratios),
        "verdicts": verdicts,
        "sides": Counter(target.paper_winner.method.side for target in results if target.paper_winner),
        "winners": Counter(t.winner.method.notation for t in results if t.winner).most_common(),
        "extension_won": any(target.winner and target.winner.method.extension for target in results),
    }


def _costs(cells: pd.DataFrame, sources: pd.DataFrame) -> dict[str, Any]:
    """Worker time and memory: totals and tables by side, target and method, and of the pretraining."""
    methods = cells["notation"] + cells["extension"].map({True: " (extension)", False: ""})
    in_order = methods[cells["method"].map(list(Method).index).argsort()].unique()
    owners = cells["extension"].map({True: "extension", False: "the paper's"})
    cells = cells.assign(
        side=pd.Categorical(cells["side"].map(_SIDES), list(_SIDES.values())),
        family=pd.Categorical(cells["family"].map(_FAMILIES).fillna("–"), [*_FAMILIES.values(), "–"]),
        methods=pd.Categorical(owners, ["the paper's", "extension"]),
        method=pd.Categorical(methods, in_order),
    )
    spent = _spent(cells, ["side", "label"]).set_index("label")
    counted = ["trials", "tuning", "fitting"]
    by_target = [spent.loc[spent["side"] == side, counted].add_prefix(f"{side} ") for side in ("SC", "TL")]
    targets = pd.concat(by_target, axis=1).reindex(cells["label"].unique()).astype(object)
    return {
        "tuning": cells["tune_seconds"].sum(),
        "fitting": cells["fit_seconds"].sum(),
        "memory": cells["peak_memory"].max(),
        "by_side": _spent(cells, ["side", "family", "methods"]),
        "by_target": targets.where(targets.notna(), None).reset_index(names="target"),
        "by_method": _spent(cells, ["method"]),
        "pretraining": sources if sources.empty else sources.drop_duplicates("network"),
    }


def _spent(cells: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Cells, trials and seconds of groups of cells."""
    groups = cells.groupby(keys, observed=True)
    summed = {"n_trials": "trials", "tune_seconds": "tuning", "fit_seconds": "fitting"}
    table = groups[list(summed)].sum().rename(columns=summed)
    return table.assign(cells=groups.size()).reset_index()
