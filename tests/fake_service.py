"""A service with made-up models."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from waiting import PATIENCE, until

from crossprop.data.compositions import ELEMENTS, composition_keys, fraction_matrix
from crossprop.errors import ModelFormatError, TrackingError
from crossprop.inference.predictor import Neighbour, Predictions
from crossprop.service.server import build_server, open_socket
from crossprop.service.settings import Limits
from crossprop.service.sources import ModelSource
from crossprop.tracking.registry import ModelInfo, VersionInfo
from crossprop.uncertainty.evidence import write_evidence

PROPERTIES = {
    "bulkmoduluskv": ("Bulk modulus (Voigt average)", "GPa", 100.0, 60.0, 9.1),
    "deltae": ("Formation energy per atom (OptB88vdW)", "eV/atom", -1.0, 0.8, 0.09),
    "optb88vdw_bandgap": ("Band gap computed with the OptB88vdW functional", "eV", 1.5, 1.2, 0.35),
    "magmom_oszicar": ("Magnetic moment of the unit cell", "µB", 2.0, 3.0, 0.6),
    "spillage": ("Spin-orbit spillage", "1", 0.5, 0.3, 0.31),
}
"""Description, unit, mean, spread and error of made-up properties."""
SPARSE = [e for e in ELEMENTS if e not in ("Ac", "Pa", "Np", "Pu", "Kr", "Xe")]


def weights_of(content: Mapping[str, Any]) -> np.ndarray:
    return np.random.default_rng(content["seed"]).normal(size=len(ELEMENTS))


@dataclass
class FakeModel:
    """Looks like a ServedModel: a linear function of the composition."""

    info: Mapping[str, Any]
    evidence: pd.DataFrame
    predictor: Any = None

    def predict(self, fractions: np.ndarray, *, intervals: bool = True) -> Predictions:
        info = self.info
        time.sleep(info.get("seconds", 0.0))
        value = info["mean"] + info["spread"] * (fractions @ weights_of(info)) + info["shift"]
        half = 2.1 * info["error"]
        present = [[ELEMENTS[i] for i in np.flatnonzero(row)] for row in fractions]
        strange = [", ".join(e for e in symbols if e not in SPARSE) for symbols in present]
        note = [f"{symbols} never seen in training" if symbols else "" for symbols in strange]
        return Predictions(value, value - half, value + half, np.array([not n for n in note]), note)

    def nearest(self, fractions: np.ndarray, k: int = 3) -> list[list[Neighbour]]:
        rows = self.evidence[self.evidence["split"] == "train"].reset_index(drop=True)
        distances = np.abs(fraction_matrix(rows["formula"]) - fractions[:, None]).sum(axis=2) / 2
        near = [[(i, round(float(row[i]), 4)) for i in np.argsort(row)[:k]] for row in distances]
        return [[Neighbour(rows.formula[i], float(rows.y_true[i]), d) for i, d in row] for row in near]


@dataclass
class FakeSource(ModelSource):
    """A registry in memory; its models' folders lie under ``root``."""

    root: Path
    versions: dict[str, dict[str, VersionInfo]] = field(default_factory=dict)
    aliases: dict[str, dict[str, str]] = field(default_factory=dict)
    down: str | Exception = ""
    lock: threading.Lock = field(default_factory=threading.Lock)
    where = "a made-up registry"

    def add(self, target: str, version="1", study="jarvis", alias: Any = "champion", **more: Any) -> None:
        """Register a version, with the alias."""
        description, unit, mean, spread, error = PROPERTIES[target]
        name, folder = f"{study}.{target}", self.root / study / target / version
        content = {
            "format": 3, "study": study, "target": target, "unit": unit, "method": "blend",
            "elements": list(ELEMENTS), "seen_elements": SPARSE, "seed": len(target), "mean": mean,
            "spread": spread, "error": error, "shift": 1000.0 * (int(version) - 1), **more,
        }  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "model.json").write_text(json.dumps(content))
        write_evidence(folder, evidence_of(content))
        info = VersionInfo(
            name, study, target, version, (), datetime(2026, 11, int(version), tzinfo=UTC), unit, description,
            {"crossprop.method": "blend", "crossprop.test_mae_ensemble": str(error),
             "crossprop.git_commit": "0f1e" * 10, "crossprop.data_hash": "a1b2" * 8}, f"run{version}", str(folder),
        )  # fmt: skip
        with self.lock:
            self.versions.setdefault(name, {})[version] = info
            self.aliases.setdefault(name, {})
        if alias:
            self.move(name, version, alias)

    def move(self, name: str, version: str | None, alias: str = "champion") -> None:
        """Move an alias as a promotion does: the former champion is kept as ``previous``."""
        with self.lock:
            held = self.aliases[name]
            if alias == "champion" and "champion" in held:
                held["previous"] = held["champion"]
            held.pop(alias, None)
            if version is not None:
                held[alias] = version

    def wanted(self) -> dict[str, VersionInfo]:
        return {m.name: v for m in self.everything() if (v := m.holder("champion"))}

    def fallback(self, info: VersionInfo) -> VersionInfo | None:
        former = next(m for m in self.everything() if m.name == info.name).holder("previous")
        return None if former is None or former.version == info.version else former

    def folder(self, info: VersionInfo) -> Path:
        return Path(info.source)

    def everything(self) -> list[ModelInfo]:
        if self.down:
            raise self.down if isinstance(self.down, Exception) else TrackingError(self.down)
        with self.lock:
            return [self._model(name) for name in sorted(self.versions)]

    def _model(self, name: str) -> ModelInfo:
        held = self.aliases[name]
        versions = [
            replace(v, aliases=tuple(alias for alias, number in held.items() if number == v.version))
            for v in reversed(self.versions[name].values())
        ]
        v = versions[0]
        return ModelInfo(name, v.study, v.target, v.unit, v.description, dict(held), tuple(versions), {})


def load_fake(folder: Path) -> FakeModel:
    """Loads what ``FakeSource.add`` wrote; ``damaged`` models are refused."""
    content = json.loads((folder / "model.json").read_text())
    if content.get("damaged"):
        raise ModelFormatError(f"{folder.name}/fold_00/network.keras is damaged. Register the model again.")
    return FakeModel(content, pd.read_parquet(folder / "evidence.parquet"))


def held_back(gate: threading.Event, part: str) -> Callable[[Path], FakeModel]:
    """Loads fake models, those with this in their path only once the gate is open."""

    def load(folder: Path) -> FakeModel:
        if part in folder.parts:
            gate.wait(PATIENCE)
        return load_fake(folder)

    return load


def evidence_of(content: Mapping[str, Any]) -> pd.DataFrame:
    rng = np.random.default_rng(content["seed"])
    pairs = [pair for pair in rng.choice(SPARSE, size=(600, 2)) if pair[0] != pair[1]]
    formulas = [f"{a}{rng.integers(1, 4)}{b}{rng.integers(1, 4)}" for a, b in pairs]
    fractions = fraction_matrix(formulas)
    y_pred = content["mean"] + content["spread"] * (fractions @ weights_of(content))
    split = np.where(np.arange(len(formulas)) % 10 < 7, "train", "test")
    rows = pd.DataFrame({"formula": formulas, "composition": composition_keys(fractions), "split": split})
    y_true = y_pred + rng.laplace(scale=content["error"], size=len(y_pred))
    return rows.assign(y_true=y_true, y_pred=y_pred, y_pred_single=y_pred)


@contextmanager
def serving(app: Any, limits: Any = None, proxies: Any = (), host: str = "127.0.0.1") -> Iterator[str]:
    """Address of an application on a free port of this machine, for as long as the block runs."""
    listening = open_socket(host, 0)
    server = build_server(app, limits or Limits(), proxies)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until(lambda: server.started or not thread.is_alive())
    assert server.started, "the server ended before it had started"
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the service did not end"
