"""Small saved ensembles of every kind, written as a target's stage writes them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossprop.data.compositions import ELEMENTS, fraction_matrix
from crossprop.features.magpie import physical_attributes
from crossprop.io import write_digests
from crossprop.models.fitted import FittedModel, save_network
from crossprop.models.networks import build_elemnet, build_resnet, initial_weights
from crossprop.models.target_transform import TargetTransform
from crossprop.training.trainer import fit_base, fit_regressor

PAIRS = [(a, b) for a in ELEMENTS[1:60:4] for b in ELEMENTS[5:80:9] if a != b]
FORMULAS = [f"{a}{p}{b}{q}" for a, b in PAIRS for p, q in ((1, 2), (3, 1))]
FRACTIONS = fraction_matrix(FORMULAS)
VALUES = 50 + 100 * FRACTIONS @ np.random.default_rng(3).random(86) ** 2
WIDTHS = {"elemental_fractions": 86, "physical_attributes": 145, "combined": 231, "combined_sources": 233}
LAYER = "hidden_15"
CALIBRATED: dict[str, Any] = {
    "interval": {"coverage": 0.9, "method": "constant", "scale": 1.0, "growth": 1.25, "floor": None},
    "domain": {"quantile": 0.98, "radius": None},
}
"""Sections of ``model.json`` that the evidence adds to it."""


def features_of(representation: str, rows: int = 120) -> np.ndarray:
    """Numbers of the right width to fit a member to: real ones where they are at hand, else drawn ones."""
    small, attributes = FRACTIONS[:rows].astype(np.float32), physical_attributes(FRACTIONS[:rows])
    if representation == "elemental_fractions":
        return small
    if representation == "physical_attributes":
        return attributes.astype(np.float32)
    if representation == "combined":
        return np.concatenate([small, attributes], axis=1).astype(np.float32)
    drawn = np.random.default_rng(0).normal(size=(rows, 64)).astype(np.float32)
    if representation == "combined_sources":
        return np.concatenate([small, attributes, drawn[:, :2]], axis=1).astype(np.float32)
    return np.maximum(drawn, 0)


def network(width: int, seed: int, kind: str = "elemnet", outputs: int = 1, dropout: float = 0.0) -> Any:
    """A network with drawn weights."""
    built = build_elemnet(width, dropout) if kind == "elemnet" else build_resnet(width, outputs, dropout)
    built.set_weights([w + 0.01 * (w.ndim == 1) for w in initial_weights(built, seed)])
    return built


def fitted(kind: str, representation: str, seed: int, **hyperparameters: Any) -> FittedModel:
    """A fitted model of any kind: base, elemnet, resnet, or an algorithm of the zoo."""
    features = features_of(representation)
    values = VALUES[: len(features)]
    if kind == "base":
        return fit_base(values + seed)
    if kind in ("elemnet", "resnet"):
        scaled = kind == "resnet" or representation != "elemental_fractions"
        scaling = np.stack([features.mean(axis=0), features.std(axis=0) + 0.1]).astype(np.float32)
        body = network(features.shape[1], seed, kind)
        return FittedModel("network", body, TargetTransform.fit(values), scaling if scaled else None)
    return fit_regressor(kind, hyperparameters, features, values, seed=seed)


def write_ensemble(folder: Path, members: Sequence[FittedModel], representation: str, **info: Any) -> Path:
    """Write an ensemble, with the source network that its representation needs."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"fold_{k:02d}" for k in range(len(members))]
    for name, member in zip(names, members, strict=True):
        member.save(folder / name)
    if representation == "activations":
        save_network(network(86, 5), folder / "source.keras")
    if representation == "combined_sources":
        save_network(network(231, 6, "resnet", outputs=2), folder / "source.keras")
        combined = features_of("combined")
        scaling = np.stack([combined.mean(axis=0), combined.std(axis=0) + 0.1]).astype(np.float32)
        np.save(folder / "scaling.npy", scaling, allow_pickle=False)
    layer = LAYER if representation == "activations" else None
    write_info(folder, representation=representation, layer=layer, members=names, **info)
    return folder


def write_blend(folder: Path, parts: Mapping[str, Sequence[float]]) -> Path:
    """Write the ``model.json`` of a blend of the ensembles in the folder."""
    return write_info(folder, method="blend", parts={name: list(given) for name, given in parts.items()})


def write_info(folder: Path, **info: Any) -> Path:
    """Write ``model.json`` and the digests."""
    folder.mkdir(parents=True, exist_ok=True)
    given = {"format": 3, "study": "tiny", "target": "slme", "unit": "%", "elements": list(ELEMENTS)}
    given |= {"method": "ml", "seen_elements": list(ELEMENTS), **CALIBRATED}
    (folder / "model.json").write_text(json.dumps(given | info), encoding="utf-8")
    write_digests(folder)
    return folder
