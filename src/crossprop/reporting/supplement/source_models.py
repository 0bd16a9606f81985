"""The networks that are transferred: Supplementary Table 6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crossprop.experiments.sources import load_provenance
from crossprop.paths import StudyPaths
from crossprop.reporting.paper.published import paper_sources
from crossprop.reporting.part import Part, Row
from crossprop.reporting.study_info import StudyInfo
from crossprop.reporting.wording import markdown_table, number, unit_name, words


def source_model_rows(study: StudyInfo, paths: StudyPaths) -> list[Row]:
    """One row per network and source property that it learnt: rows, edition, validation errors, seconds.

    Raises:
        ModelFormatError: A network has not been trained.
    """
    rows = [
        _row(source, source, study.units.get(source, ""), load_provenance(paths.source_model(source)))
        for source in study.elemnets
    ]
    for name, sources in study.joint.items():
        provenance = load_provenance(paths.joint_model(name))
        rows += [
            _row(name, source, study.units.get(source, ""), _of_source(provenance, source))
            for source in sources
        ]
    return rows


def source_models_part(rows: Sequence[Row]) -> Part:
    """The section; without a headline in a study that transfers nothing."""
    if not rows:
        return Part()
    header = [
        "network",
        "source",
        "unit",
        "edition",
        "learnt from",
        "validated on",
        "validation MAE",
        "of the median",
    ]
    stated = {source.source: source.validation_mae for source in paper_sources()}
    lines, told = [], []
    for row in rows:
        mae, median = (row[key] for key in ("validation_mae", "validation_mae_of_median"))
        lines.append(
            [
                "ElemNet"
                if row["network"] == row["source"]
                else f"residual, {words(str(row['network']))} (ours)",
                words(str(row["source"])),
                unit_name(str(row["unit"])),
                str(row["edition"] or "–"),
                _rows(row["n_train"]),
                _rows(row["n_validation"]),
                number(mae if isinstance(mae, float) else None),
                number(median if isinstance(median, float) else None),
            ]
        )
        if row["network"] == row["source"] and (theirs := stated.get(str(row["source"]))) is not None:
            told.append(f"{words(str(row['source']))}: {theirs:g} on 321,140 compositions")
    text = [
        "Networks pretrained on the sources, 90:10, none of whose rows has the composition of a target. The MAE "
        "of predicting the median of the training values stands beside. What training took: "
        "[costs.md](costs.md). `key` is the tag `crossprop.source_key` of the network's run in the experiment "
        "of the sources.",
        markdown_table(header, lines, left=(0, 1, 2, 3)),
    ]
    if told:
        text.append(f"The paper's ElemNet: {'; '.join(told)}.")
    kept = ("network", "source", "unit", "edition", "n_train", "n_validation", "validation_mae")
    columns = (*kept, "validation_mae_of_median", "key")
    table: list[Row] = [{column: row[column] for column in columns} for row in rows]
    return Part(title="Source networks (S6)", text="\n\n".join(text), tables={"tables/table_s6.csv": table})


def _row(network: str, source: str, unit: str, provenance: Mapping[str, Any]) -> Row:
    return {
        "network": network,
        "source": source,
        "unit": unit,
        "edition": provenance.get("edition"),
        "n_train": provenance.get("n_train"),
        "n_validation": provenance.get("n_validation"),
        "validation_mae": provenance.get("validation_mae"),
        "validation_mae_of_median": provenance.get("validation_mae_of_median"),
        "seconds": provenance.get("seconds"),
        "peak_memory": provenance.get("peak_memory"),
        "key": provenance.get("key"),
    }


def _of_source(provenance: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The facts about one of the properties that a joint network learnt."""

    def of(name: str) -> Any:
        return provenance.get(f"{name}_by_source", {}).get(source)

    return {
        **provenance,
        "n_train": of("n_train"),
        "n_validation": of("n_validation"),
        "validation_mae": of("validation_mae"),
        "validation_mae_of_median": of("validation_mae_of_median"),
    }


def _rows(count: Any) -> str:
    return f"{count:,}" if isinstance(count, int) else "–"
