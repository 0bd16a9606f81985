"""A study that never ran: the files of its targets and source networks, as the stages would have written them."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest

from crossprop.config import StudyConfig
from crossprop.experiments.results import CellResult
from crossprop.io import write_digests
from crossprop.methods import EXTRACTION_LAYERS, Method, Representation, Side
from crossprop.paths import StudyPaths
from crossprop.report import figures
from crossprop.report.study import load_study_results
from crossprop.report.summary import summarize
from crossprop.training.metrics import mean_absolute_error, mean_absolute_error_q95, r2

SOURCES, JOINT = ("formation_energy", "band_gap"), "all_sources"
TARGETS = {"exfoliation_energy": (60.0, 1200), "slme": (9.4, 1500)}
"""Scale of the values, and rows."""
REPEATED = 5
"""Hold-out rows of every target whose composition is in the training rows."""

_ERROR = {
    Method.BASE: 0.80, Method.ML: 0.48, Method.DL: 0.60, Method.ML_FEATEXTR: 0.46, Method.DL_FEATEXTR: 0.49,
    Method.FINETUNE: 0.53, Method.MODFINETUNE: 0.51, Method.FREEZING: 0.80, Method.PLAIN_BASELINE: 0.47,
    Method.PLAIN_MEDIAN: 0.455, Method.BOOST: 0.44,
    Method.BOOST_SOURCES: 0.43, Method.RESNET: 0.45, Method.RESNET_FINETUNE: 0.42, Method.BLEND: 0.40,
}  # fmt: skip
_NOT_VALIDATED = dict.fromkeys((
    "cv_mae", "best_fold", "test_mae", "test_mae_low", "test_mae_high", "test_q95", "test_r2", "test_mae_ensemble",
    "strict_test_mae", "strict_n_train",
))  # fmt: skip
_PA, _EF = Representation.PHYSICAL_ATTRIBUTES, Representation.ELEMENTAL_FRACTIONS


@dataclass(frozen=True)
class MadeStudy:
    """A written study."""

    config: StudyConfig
    paths: StudyPaths

    def folder(self, target):
        return self.paths.results(target)

    def results(self):
        return load_study_results(self.config, self.paths)

    def report(self, folder, **config):
        """The folder with the report, of the study with some of its configuration changed."""
        summarize(self.config.model_copy(update=config), self.paths, folder)
        return folder

    def change_json(self, target, name, change):
        path = self.folder(target) / name
        path.write_text(json.dumps(change(json.loads(path.read_text()))), encoding="utf-8")

    def change_table(self, path, change):
        change(pd.read_parquet(path)).to_parquet(path)

    def edited(self, change, targets=tuple(TARGETS)):
        """The results after some values of every cell are changed."""
        for target in targets:
            self.change_json(target, "cells.json", lambda cells: [cell | change(cell) for cell in cells])
        return self.results()


def write_study(root, tiny_params, *, extended=False, failed=None):
    """Write a study of the paper's methods; ``failed`` is the id of the cell that fails.

    ``extended`` adds the extension methods and a shard, cross-validates one cell of a method, and stops networks on
    activations.
    """
    more = {"joint": {JOINT: SOURCES}, "joint_pretrain": {"epochs": 1, "batch_size": 1, "learning_rate": 1.0}}
    more |= {"tier": "quick", "shards": {"all": list(TARGETS)}}
    given = {"name": "small", "title": "Two small targets", "folds": 10}
    given |= {"targets": list(TARGETS), "sources": SOURCES}
    given["methods"] = [method for method in _ERROR if extended or not method.extension]
    given["representations"] = ["elemental_fractions", "physical_attributes"]
    given["budget"] = {"ml_trials": 40, "dl_trials": 40, "seconds": 600}
    config = tiny_params(**given, **(more if extended else {})).study
    paths = StudyPaths.of(config, root)
    paths.prepared_folder.mkdir(parents=True)
    for source in SOURCES:
        _write_network(paths.source_model(source), source)
        pd.DataFrame({"composition": ["Xe1"]}).to_parquet(paths.prepared(source))
    if extended:
        errors, rows = {SOURCES[0]: 0.07, SOURCES[1]: 0.08}, {SOURCES[0]: 9000, SOURCES[1]: 9001}
        of_sources = {"validation_mae_by_source": errors, "n_train_by_source": rows}
        _write_network(paths.source_model(JOINT), JOINT, **of_sources)
    for target in TARGETS:
        _write_target(config, target, paths, extended, failed)
    return MadeStudy(config, paths)


def _write_network(folder, name, **more):
    values = {
        "source": name, "edition": "open", "n_train": 9000, "n_validation": 1000, "validation_mae": 0.0812,
        "validation_mae_of_median": 0.522, "seconds": 430.9, "peak_memory": 2**30, "key": f"key of {name}",
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "provenance.json").write_text(json.dumps(values | more), encoding="utf-8")
    (folder / "history.csv").write_text("epoch,loss,val_mae\n1,0.5,0.2\n2,0.3,0.1\n", encoding="utf-8")
    write_digests(folder)


def _write_target(config, target, paths, extended, failed):
    (scale, n_rows), rng = TARGETS[target], np.random.default_rng(7 + list(TARGETS).index(target))
    n_test = n_rows // 10
    n_train = n_rows - n_test
    y, shared = scale * rng.gamma(2.0, 0.7, n_test), rng.normal(size=n_test)
    cells, tables = [], []
    for method in config.methods:
        for source, taken in config.points(method):
            error = scale * _ERROR[method] * (1.06 if source == "band_gap" else 0.92 if taken is _PA else 1.0)
            pred = y + error * (0.8 * shared + 0.6 * rng.normal(size=n_test))
            rows = {"y_true": y, "y_pred": np.full(n_test, 1.4 * scale) if method is Method.BASE else pred}
            rows = pd.DataFrame(rows | {"formula": [f"X{i}" for i in range(n_test)]})
            rows["y_pred_ensemble"] = 0.5 * (y + rows["y_pred"])
            cell = _cell(config, target, (method, source, taken), rows, error, n_train, rng)
            if cell.cell == failed:
                failure = "DivergedError: the loss became NaN | 3"
                cell = replace(cell, **_NOT_VALIDATED, n_trials=0, val_mae=None, failure=failure)
            elif extended and (source == "band_gap" or (source is None and taken is _EF)):
                cell = replace(cell, **_NOT_VALIDATED)
            elif extended and method is Method.FREEZING:
                stopped = "after screening: 61.0 % behind finetune(band_gap)"
                cell = replace(cell, **_NOT_VALIDATED, stopped=stopped)
            elif extended and method is Method.DL_FEATEXTR:
                stopped, folds = "after fold 1 of 10: 12.0 % behind ml(PA)", cell.cv_mae[:1]
                cell = replace(cell, **_NOT_VALIDATED, stopped=stopped, rung_mae=folds)
            cells.append(cell)
            rows = rows.assign(cell=cell.cell, fold=cell.best_fold)
            tables += [rows.assign(split=split) for split in ("test", "validation") if cell.cv_mae]
    folder = paths.results(target)
    folder.mkdir(parents=True)
    _write_cells(folder, cells, rng)
    pd.concat(tables, ignore_index=True).to_parquet(folder / "predictions.parquet")
    learnt = [(f"T{i}", f"c{i}" if i < REPEATED else f"d{i}", "train") for i in range(n_train)]
    held_out = [(f"X{i}", f"c{i}", "test") for i in range(n_test)]
    prepared = pd.DataFrame(learnt + held_out, columns=["formula", "composition", "split"])
    values = np.concatenate([scale * rng.gamma(2.0, 0.7, n_train), y])
    prepared.assign(value=values).to_parquet(paths.prepared(target))


def _cell(config, target, point, rows, error, n_train, rng):
    method, source, taken = point
    y, pred = rows["y_true"].to_numpy(), rows["y_pred"].to_numpy()
    folds, mae = tuple(0.8 * error * rng.uniform(0.99, 1.01, 10).round(6)), mean_absolute_error(y, pred)
    blend, single, layer = method is Method.BLEND, method in (Method.BASE, Method.BLEND), None
    if taken is Representation.ACTIVATIONS:
        layer = EXTRACTION_LAYERS[-1 if method is Method.FREEZING else min(15, rng.geometric(0.3))]
    name = "/".join(filter(None, (target, method, source or (taken and taken.short.lower()))))
    facts = {"cell": name, "study": config.name, "protocol": config.protocol}
    facts |= {"target": target, "unit": "unit"}
    facts |= {"source": source, "method": method, "representation": taken, "layer": layer}
    facts |= {"hyperparameters": {"ml(PA)": 0.4, "resnet(EF+PA)": 0.6} if blend else {}}
    counts = {"n_train": n_train, "n_test": len(y), "n_trials": 0 if single else 20 if source is None else 8}
    errors = {"val_mae": None if blend else 0.8 * error, "cv_mae": folds, "best_fold": int(np.argmin(folds))}
    errors |= {"test_mae": mae, "test_mae_low": 0.9 * mae, "test_mae_high": 1.1 * mae}
    errors |= {"test_mae_ensemble": 0.5 * mae}
    errors |= {"test_q95": mean_absolute_error_q95(y, pred), "test_r2": r2(y, pred)}
    errors |= {"test_mae_median": 0.95 * mae if method is Method.BASE else None}
    if not single:
        errors |= {"strict_test_mae": mae * rng.uniform(0.99, 1.06), "strict_n_train": n_train - REPEATED}
    return CellResult(**facts, **counts, **errors)


def _write_cells(folder, cells, rng):
    """Write cells in any order, runs, winners, four trials an extracting cell, and the learning curve of one target."""

    def best_of(*sides, extension=False):
        able = [c for c in cells if c.cv_mae and c.method.side in sides and c.method.extension <= extension]
        return min(able, key=lambda cell: cell.cv_mae_mean)

    best = {"best_sc": best_of(Side.SCRATCH), "best_tl": best_of(Side.TRANSFER)}
    winner = best_of(Side.SCRATCH, Side.TRANSFER, Side.BLEND, extension=True)
    chosen = {role: cell.cell for role, cell in (best | {"winner": winner}).items()}
    refitted = {"strict_test_mae", "strict_n_train"}
    dicts = [c.as_dict() | ({} if c.cell in chosen.values() else dict.fromkeys(refitted)) for c in cells]
    cost = {"tune_seconds": 20.0, "fit_seconds": 30.0, "peak_memory": 10**9}
    runs = [{"cell": cell.cell, "run_id": rng.bytes(16).hex(), **cost} for cell in cells]
    shuffled = [dicts[i] for i in rng.permutation(len(dicts))]
    for name, content in (("cells", shuffled), ("runs", runs), ("winners", chosen)):
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    trials = []
    for cell in (cell for cell in cells if cell.representation is Representation.ACTIVATIONS):
        for i, layer in enumerate([cell.layer, *rng.choice(EXTRACTION_LAYERS, 3, replace=False)]):
            value = cell.val_mae * (1.0 if i == 0 else rng.uniform(1.01, 1.6))
            state, params = "PRUNED" if i == 3 else "COMPLETE", json.dumps({"layer": str(layer)})
            trials.append({"cell": cell.cell, "number": i, "state": state, "value": value, "params": params})
    pd.DataFrame(trials).to_parquet(folder / "trials.parquet")
    curve = [
        (cell.cell, cell.method.side.value, share, int(share * cell.n_train), cell.test_mae * share**-0.3)
        for cell in (best.values() if folder.name == "exfoliation_energy" else ())
        for share in (0.1, 0.5, 1.0)
    ]
    columns = ["cell", "side", "share", "n_train", "test_mae"]
    pd.DataFrame(curve, columns=columns).to_parquet(folder / "learning_curve.parquet")


@pytest.fixture
def without_pictures(monkeypatch):
    """Figures are drawn, but not rendered, which takes most of a report's time."""
    monkeypatch.setattr(figures, "save_png", lambda figure, path: path.touch())


@pytest.fixture
def study(tmp_path, tiny_params):
    """Two targets, the paper's eight methods, two sources; to be changed by the test."""
    return write_study(tmp_path / "project", tiny_params)


@pytest.fixture
def extended_study(tmp_path, tiny_params):
    """The same with extension methods, stopped cells, and a shard."""
    return write_study(tmp_path / "project", tiny_params, extended=True)


@pytest.fixture
def study_with_failure(tmp_path, tiny_params):
    """The plain study with one cell that diverged."""
    return write_study(tmp_path / "failed", tiny_params, failed="slme/finetune/band_gap")


@pytest.fixture(scope="session")
def plain_study(tmp_path_factory, tiny_params):
    return write_study(tmp_path_factory.mktemp("study"), tiny_params)


@pytest.fixture(scope="session")
def whole_study(tmp_path_factory, tiny_params):
    return write_study(tmp_path_factory.mktemp("study"), tiny_params, extended=True)


@pytest.fixture(scope="session")
def plain(plain_study):
    return plain_study.results()


@pytest.fixture(scope="session")
def extended(whole_study):
    return whole_study.results()


@pytest.fixture(scope="session")
def report(tmp_path_factory, plain_study):
    return plain_study.report(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def extended_report(tmp_path_factory, whole_study):
    return whole_study.report(tmp_path_factory.mktemp("report"))
