"""Error by extraction layer: which layer's activations served feature extraction best."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossprop.methods import EXTRACTION_LAYERS, HIDDEN_UNITS, Method
from crossprop.report.part import Drawing, Part, Row, number
from crossprop.report.statistics import geometric_mean
from crossprop.report.study import TargetResults

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXTRACTORS = (Method.ML_FEATEXTR, Method.DL_FEATEXTR)
FIRST_LAYERS = 4
"""The paper found accurate models from the first four layers only."""


@dataclass(frozen=True, kw_only=True)
class LayerErrors:
    """What the trials of one method on one layer gave.

    Attributes:
        method: The feature-extracting method.
        layer: Name of the layer.
        ratios: Of every cell that tried the layer to the end, its lowest screening MAE there over its lowest anywhere.
        n_trials: Trials on the layer that ran to their end.
        n_pruned: Trials on the layer that were stopped early.
        chosen: Cells whose best trial was on the layer.
    """

    method: Method
    layer: str
    ratios: tuple[float, ...]
    n_trials: int
    n_pruned: int
    chosen: int


def layer_errors(results: Sequence[TargetResults]) -> list[LayerErrors]:
    """Every method and layer that any trial looked at, in order."""
    ratios: dict[tuple[Method, str], list[float]] = {}
    counts: dict[tuple[Method, str, bool], int] = {}
    chosen: dict[tuple[Method, str], int] = {}
    for target in results:
        for cell in target.cells:
            if cell.method not in EXTRACTORS or cell.failure is not None:
                continue
            trials = target.trials[target.trials["cell"] == cell.cell]
            layers = [json.loads(params).get("layer") for params in trials["params"]]
            lowest: dict[str, float] = {}
            for layer, state, value in zip(layers, trials["state"], trials["value"], strict=True):
                if layer in EXTRACTION_LAYERS:
                    complete = state == "COMPLETE" and bool(np.isfinite(value))
                    key = (cell.method, layer, complete)
                    counts[key] = counts.get(key, 0) + 1
                    if complete:
                        lowest[layer] = min(lowest.get(layer, np.inf), float(value))
            best = min(lowest.values(), default=0.0)
            if best > 0:
                for layer, value in lowest.items():
                    ratios.setdefault((cell.method, layer), []).append(value / best)
                winner = min(lowest, key=lambda layer: lowest[layer])
                chosen[(cell.method, winner)] = chosen.get((cell.method, winner), 0) + 1
    return [
        LayerErrors(
            method=method,
            layer=layer,
            ratios=tuple(ratios.get((method, layer), ())),
            n_trials=counts.get((method, layer, True), 0),
            n_pruned=counts.get((method, layer, False), 0),
            chosen=chosen.get((method, layer), 0),
        )
        for method in EXTRACTORS
        for layer in EXTRACTION_LAYERS
        if (method, layer, True) in counts or (method, layer, False) in counts
    ]


def layer_rows(errors: Sequence[LayerErrors]) -> list[Row]:
    """One row per method and layer."""
    return [
        {
            "method": of_layer.method.notation,
            "layer": of_layer.layer,
            "units": HIDDEN_UNITS[EXTRACTION_LAYERS.index(of_layer.layer)],
            "cells": len(of_layer.ratios),
            "trials": of_layer.n_trials,
            "trials_stopped_early": of_layer.n_pruned,
            "ratio_to_best_layer": geometric_mean(of_layer.ratios) if of_layer.ratios else None,
            "chosen": of_layer.chosen,
        }
        for of_layer in errors
    ]


def layers_part(results: Sequence[TargetResults]) -> Part:
    """The section; without a headline where no cell extracts features."""
    errors = layer_errors(results)
    if not any(of_layer.ratios for of_layer in errors):
        return Part()
    told = []
    for method in EXTRACTORS:
        mine = [of_layer for of_layer in errors if of_layer.method is method]
        early = [r for e in mine if EXTRACTION_LAYERS.index(e.layer) < FIRST_LAYERS for r in e.ratios]
        late = [r for e in mine if EXTRACTION_LAYERS.index(e.layer) >= FIRST_LAYERS for r in e.ratios]
        cells = sum(of_layer.chosen for of_layer in mine)
        if early and late:
            first = sum(e.chosen for e in mine if EXTRACTION_LAYERS.index(e.layer) < FIRST_LAYERS)
            told.append(
                f"{method.notation}: {number(geometric_mean(early), 3)} on the first {FIRST_LAYERS} layers, "
                f"{number(geometric_mean(late), 3)} on the later ones (geometric mean over {len(early)} and "
                f"{len(late)} pairs of cell and layer); the best layer was among the first {FIRST_LAYERS} in "
                f"{first} of {cells} cells"
            )
    text = (
        "Lowest screening MAE of a cell on a layer over its lowest on any layer (1 = the best layer of the cell). "
        f"{'; '.join(told) + '.' if told else ''} A cell has few trials, the first of them on the default layer, the "
        "others where the sampler went, each with other hyperparameters; most layers are tried once or twice a "
        "cell, or never, and trials that were stopped early do not count. So read the tendency, not single bars. "
        "The paper found accurate models from the first four layers only."
    )
    return Part(
        title="Which layer transfers",
        text=text,
        tables={"tables/extraction_layers.csv": layer_rows(errors)},
        drawings={
            "figures/layer_errors.png": Drawing(
                draw=lambda: _figure(errors),
                caption="Error by extraction layer relative to the best layer of the same cell: geometric mean with "
                "the middle half of the cells; below, how many cells tried the layer",
            ),
            "figures/extraction_layers.png": Drawing(
                draw=lambda: _chosen(results),
                caption="Extraction layers that tuning chose, over targets and sources",
            ),
        },
    )


def _chosen(results: Sequence[TargetResults]) -> Figure:
    from crossprop.report.figures import extraction_layers

    return extraction_layers(results)


def _figure(errors: Sequence[LayerErrors]) -> Figure:
    from matplotlib.ticker import MaxNLocator

    from crossprop.report.figures import QUALITATIVE, house_style, single_axes

    names = [f"{i}\n{units}" for i, units in enumerate(HIDDEN_UNITS, start=1)]
    with house_style():
        figure, axes = single_axes(7.6, 3.4)
        for shift, method, colour, shape in zip(
            (-0.15, 0.15), EXTRACTORS, QUALITATIVE[2:], "os", strict=False
        ):
            mine = [of_layer for of_layer in errors if of_layer.method is method and of_layer.ratios]
            places = np.array([EXTRACTION_LAYERS.index(of_layer.layer) for of_layer in mine]) + shift
            means = np.array([geometric_mean(of_layer.ratios) for of_layer in mine])
            quarters = np.array([np.quantile(of_layer.ratios, (0.25, 0.75)) for of_layer in mine]).reshape(
                -1, 2
            )
            spread = np.clip(np.stack([means - quarters[:, 0], quarters[:, 1] - means]), 0.0, None)
            axes.errorbar(
                places,
                means,
                yerr=spread,
                fmt=shape,
                color=colour,
                markersize=5,
                elinewidth=1.4,
                label=method.notation,
            )
            for place, of_layer in zip(places, mine, strict=True):
                height = -0.20 if shift < 0 else -0.27
                axes.text(
                    place - shift,
                    height,
                    str(len(of_layer.ratios)),
                    transform=axes.get_xaxis_transform(),
                    ha="center",
                    fontsize=7,
                    color=colour,
                )
        axes.axhline(1.0, color="#222222", linewidth=0.8)
        axes.set_xticks(range(len(EXTRACTION_LAYERS)), names, fontsize=8)
        axes.set_xlim(-0.6, len(EXTRACTION_LAYERS) - 0.4)
        axes.tick_params(axis="x", length=0)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
        axes.set_ylabel("screening MAE / best layer's")
        axes.set_xlabel(
            "hidden layer of the source network and its width; in colour: cells that tried it", labelpad=28
        )
        axes.set_title("Error by extraction layer")
        axes.grid(axis="y")
        axes.legend(loc="upper left")
    return figure
