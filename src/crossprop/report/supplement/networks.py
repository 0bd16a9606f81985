"""The networks drawn: Supplementary Figure 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

from crossprop.experiments.pretrain import load_provenance
from crossprop.methods import EXTRACTION_LAYERS, HIDDEN_UNITS
from crossprop.models.networks import BLOCKS, WIDTH
from crossprop.paths import StudyPaths
from crossprop.report.paper import paper_sources
from crossprop.report.part import Drawing, Part, Row, markdown_table, number, unit_name, words
from crossprop.report.study import StudyInfo

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FRACTIONS, ATTRIBUTES = 86, 145
"""Widths of the two representations of a composition."""


def elemnet_parameters(inputs: int = FRACTIONS) -> int:
    """Weights and biases of ElemNet with its head."""
    widths = (inputs, *HIDDEN_UNITS, 1)
    return sum((before + 1) * after for before, after in pairwise(widths))


def resnet_parameters(inputs: int = FRACTIONS + ATTRIBUTES, outputs: int = 1) -> int:
    """Weights, biases and normalisations of the residual network with its head."""
    block = 2 * (WIDTH + 1) * WIDTH + 2 * WIDTH
    return (inputs + 1) * WIDTH + BLOCKS * block + 2 * WIDTH + (WIDTH + 1) * outputs


def networks_part(*, residual: bool) -> Part:
    """The section; with the residual network where a study has cells of it."""
    text = (
        f"ElemNet (Jha et al. 2018, as in Gupta et al. 2021): {len(HIDDEN_UNITS)} dense hidden layers with ReLU and a "
        f"linear head, {elemnet_parameters():,} parameters on the {FRACTIONS} elemental fractions; dropout is off. The "
        "activations of each hidden layer can be extracted; fine-tuning starts from all weights, modified "
        "fine-tuning from all but the head's, freezing reads the last hidden layer."
    )
    if residual:
        text += (
            f"\n\nThe residual network is ours: an entrance of {WIDTH} units on the standardised {FRACTIONS} fractions "
            f"beside {ATTRIBUTES} physical attributes, {BLOCKS} blocks of layer normalisation, a dense layer with SiLU "
            "and a linear dense layer whose sum is added to what the block was given, a last normalisation and a "
            f"linear head: {resnet_parameters():,} parameters. Pretrained on several sources at once, it has one "
            "output for each."
        )
    return Part(
        title="The networks (Fig. S3)",
        text=text,
        drawings={
            "figures/networks.png": Drawing(
                draw=lambda: _figure(residual=residual),
                caption="ElemNet with the extraction layers"
                + (", and below it the residual network of ours" if residual else ""),
            )
        },
    )


def _figure(*, residual: bool) -> Figure:
    from crossprop.report.figures import house_style, single_axes

    with house_style():
        figure, axes = single_axes(8.6, 4.3 if residual else 2.5)
        axes.set_axis_off()
        _elemnet(axes, y=2.9 if residual else 0.0)
        if residual:
            _resnet(axes, y=0.0)
        axes.set(xlim=(-0.9, 18.2), ylim=(-1.15, 4.3) if residual else (-1.5, 1.4))
    return figure


def _elemnet(axes: Axes, y: float) -> None:
    below = y - 1.0
    axes.text(-0.8, y + 1.22, "ElemNet", weight="bold", fontsize=9)
    _box(axes, -0.4, y, _height(FRACTIONS), "#6e6e6e")
    _label(axes, -0.4, below, f"{FRACTIONS}\nfractions")
    shades = ("#08519c", "#2171b5", "#4292c6", "#6baed6", "#9ecae1", "#c6dbef")
    first = 0
    for shade, (units, layers) in zip(shades, groupby(HIDDEN_UNITS), strict=False):
        n = len(list(layers))
        for i in range(first, first + n):
            _box(axes, i + 1.0, y, _height(units), shade)
            axes.text(
                i + 1.0, y + _height(units) / 2 + 0.06, str(i + 1), ha="center", va="bottom", fontsize=7
            )
        _label(axes, first + 1.0 + (n - 1) / 2, below, f"{n} × {units}" if n > 1 else str(units))
        first += n
    _box(axes, first + 1.2, y, 0.16, "#d55e00")
    _label(axes, first + 1.2, below, "head\n1")
    axes.plot([-0.4, first + 1.2], [y, y], color="#444444", linewidth=0.8, zorder=1)
    told = f"extraction layers {EXTRACTION_LAYERS[0]} … {EXTRACTION_LAYERS[-1]}: dense, ReLU"
    _label(axes, first / 2 + 0.5, below - 0.24, told)


def _resnet(axes: Axes, y: float) -> None:
    below, inputs = y - 0.55, FRACTIONS + ATTRIBUTES
    axes.text(-0.8, y + 0.85, "Residual network (ours)", weight="bold", fontsize=9)
    _box(axes, -0.4, y, _height(inputs), "#6e6e6e")
    _label(axes, -0.4, below, f"{inputs}\nEF+PA")
    _box(axes, 1.3, y, _height(WIDTH), "#00664b")
    _label(axes, 1.3, below, f"entrance\n{WIDTH}")
    start, end = 2.3, 15.2
    step = (end - start) / BLOCKS
    for i in range(BLOCKS):
        left, width = start + i * step, step - 1.1
        axes.add_patch(_rectangle(left, y - 0.24, width, 0.48, "#009e73"))
        axes.text(
            left + width / 2,
            y,
            "norm, dense,\nSiLU, dense",
            ha="center",
            va="center",
            fontsize=7,
            color="white",
        )
        axes.plot(
            [left - 0.3, left - 0.3, left + width + 0.4], [y, y + 0.42, y + 0.42], color="#444444", lw=0.9
        )
        axes.annotate(
            "",
            (left + width + 0.4, y + 0.08),
            (left + width + 0.4, y + 0.44),
            arrowprops={"arrowstyle": "->", "color": "#444444", "lw": 0.9},
        )
        axes.plot(
            left + width + 0.4, y, "o", color="white", markeredgecolor="#444444", markersize=8, zorder=3
        )
        axes.text(left + width + 0.4, y - 0.01, "+", ha="center", va="center", fontsize=7, zorder=4)
    _label(
        axes,
        (start + end) / 2,
        below,
        f"{BLOCKS} blocks of {WIDTH} units; the sum of input and output goes on",
    )
    _box(axes, 15.8, y, _height(WIDTH), "#66c2a5")
    _label(axes, 15.8, below, "norm")
    _box(axes, 17.2, y, 0.16, "#d55e00")
    _label(axes, 17.2, below, "head: 1, or\none a source")
    axes.plot([-0.4, 17.2], [y, y], color="#444444", linewidth=0.8, zorder=1)


def _height(units: int) -> float:
    return 0.2 + 1.6 * units / max(HIDDEN_UNITS)


def _box(axes: Axes, x: float, y: float, height: float, colour: str) -> None:
    axes.add_patch(_rectangle(x - 0.28, y - height / 2, 0.56, height, colour))


def _rectangle(x: float, y: float, width: float, height: float, colour: str):  # type: ignore[no-untyped-def]
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), width, height, facecolor=colour, edgecolor="white", linewidth=0.8, zorder=2)


def _label(axes: Axes, x: float, y: float, text: str) -> None:
    axes.text(x, y, text, ha="center", va="top", fontsize=7)


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
