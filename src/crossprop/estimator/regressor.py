"""A fit as a scikit-learn estimator: formulas in, values with intervals out."""

import json
import math
import os
import shutil
import tempfile
import threading
import warnings
import weakref
from numbers import Integral
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, column_or_1d

from crossprop.data.compositions import composition_keys
from crossprop.errors import ConfigError, DataError, EstimatorInputError, ModelFormatError
from crossprop.estimator.fit import NOTE_FILE, commit_folder
from crossprop.estimator.inputs import formulas_in, fractions_of, learning_rows
from crossprop.estimator.learn import AUTO, NONE, Settings, run_fit
from crossprop.estimator.pretrained import SourceNetworks
from crossprop.estimator.report import cv_results
from crossprop.experiments.progress import show
from crossprop.experiments.ray_cluster import Files, packed, unpack
from crossprop.inference.predictor import ServedModel
from crossprop.io import read_json
from crossprop.methods import DEFAULT_SEED
from crossprop.models.saved import read_info

FITTED: Final = ("winner_", "cv_mae_", "cv_results_", "n_iter_", "notes_")
_PASSED_ON: Final = ("target", "unit", "minutes", "folds", "trials", "holdout", "workers")


class SourceOverlapWarning(UserWarning):
    """A predicted composition is among those that the source networks were trained on."""


class CrossPropertyRegressor(RegressorMixin, BaseEstimator):
    """Predicts a property from formulas: methods are tuned, cross-validated, blended, and the best one is kept.

    Repeated compositions (also under another spelling) always stay together within the internal folds.

    Args:
        methods: "auto" for those that fit into the minutes, or a list such as ``["ml", "boost", "blend"]``.
        sources: "none" learns from these rows alone. "auto" transfers from networks that were pretrained on public data
            without the compositions that ``fit`` is given. A path names networks made by ``prepare_sources``: what a
            cross-validation needs, since "auto" cannot know the rows that are held out of ``fit``.
        minutes: Wall time to aim at; None computes every method in full.
        folds: Folds of the internal cross-validation; None for what the minutes allow.
        trials: Optuna trials of every method; None for what the minutes allow.
        holdout: Share of the rows that is held out to measure the result; 0 learns from all.
        coverage: Share of new values that intervals shall hold.
        workers: Processes; 1 stays in this one, 0 takes every core. More than 1 needs a main guard in scripts.
        random_state: Seed of every draw; None draws one from NumPy's global state.
        verbose: 1 prints progress.
        target: Name of the property, for the saved model.
        unit: Its unit.

    Attributes:
        winner_: Label of the chosen method, such as ``"blend"`` or ``"boost(EF+PA)"``.
        cv_mae_: Its cross-validated mean absolute error.
        cv_results_: Every method: dict of lists, ready for ``pandas.DataFrame``.
        notes_: What was left out because of the time limit, and why.
        n_iter_: Trials of all methods together.
        source_networks_: What was transferred from, or None.
    """

    def __init__(
        self,
        methods: Any = "auto",
        *,
        sources: Any = NONE,
        minutes: float | None = 1.0,
        folds: int | None = None,
        trials: int | None = None,
        holdout: float = 0.0,
        coverage: float = 0.9,
        workers: int = 1,
        random_state: Any = DEFAULT_SEED,
        verbose: int = 0,
        target: str = "value",
        unit: str = "",
    ) -> None:
        self.methods = methods
        self.sources = sources
        self.minutes = minutes
        self.folds = folds
        self.trials = trials
        self.holdout = holdout
        self.coverage = coverage
        self.workers = workers
        self.random_state = random_state
        self.verbose = verbose
        self.target = target
        self.unit = unit

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Tune, cross-validate and keep the best model.

        Args:
            X: Formulas: a list, series, array of shape (n,) or (n, 1), or a table with one column; or a table of atomic
                amounts whose columns are named by elements. What cannot be used is an EstimatorInputError.
            y: Values, shape (n,).
            groups: What stays on one side of every internal split (a paper, a series of samples), shape (n,). Groups
                that share a composition count as one.
        """
        formulas = formulas_in(X)
        if y is None:
            raise EstimatorInputError("requires y to be passed, but the target y is None")
        y = column_or_1d(y, warn=True)
        values = check_array(y, ensure_2d=False, input_name="y", estimator=self).astype(np.float64)
        rows = learning_rows(formulas, values, groups)
        _check_coverage(self.coverage)
        seed = self.random_state
        if not isinstance(seed, Integral):
            seed = check_random_state(seed).randint(2**31 - 1)
        try:
            settings = Settings(
                sources=self.sources or NONE,
                methods=None if self.methods == "auto" else self.methods,
                seed=int(seed),
                **{name: getattr(self, name) for name in _PASSED_ON},
            )
            write = show if self.verbose else lambda line: None
            with tempfile.TemporaryDirectory(prefix="crossprop-fit-") as root:
                outcome = run_fit(rows, settings, Path(root), write=write)
                self.model_ = HeldModel(outcome.model)
        except (DataError, ConfigError) as error:
            raise EstimatorInputError(str(error)) from error
        self.winner_ = outcome.winner.label
        self.cv_mae_ = outcome.winner.cv_mae_mean
        self.cv_results_ = cv_results(outcome.results)
        self.n_iter_ = max(1, sum(self.cv_results_["n_trials"]))
        self.notes_ = list(outcome.plan.notes)
        self.source_networks_ = outcome.plan.networks
        self.n_features_in_ = 1
        missed = [note for note in self.notes_ if note.startswith("no transfer")]
        if missed and self.sources == AUTO:
            warnings.warn(missed[0], UserWarning, stacklevel=2)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Values of formulas, shape (n,); a row that is no formula is an EstimatorInputError."""
        check_is_fitted(self)
        fractions = self._fractions(X)
        return self.model_.served().predict(fractions, intervals=False).value

    def predict_interval(self, X: Any, coverage: float | None = None) -> np.ndarray:
        """Lower and upper end of the interval around each prediction, shape (n, 2).

        Conformal: from the errors of the internal cross-validation, so that the share ``coverage`` (the estimator's
        own unless given) of new values of similar materials lies within it.
        """
        check_is_fitted(self)
        coverage = self.coverage if coverage is None else coverage
        _check_coverage(coverage)
        model = self.model_.served()
        if coverage != float(model.info["interval"]["coverage"]):
            # The largest of n errors gives the interval of n / (n + 1) of new values; a wider one is unknown.
            known = int((model.evidence["split"] == "train").sum())
            if math.ceil((known + 1) * coverage) > known:
                warnings.warn(
                    f"{known} errors are known from cross-validation, too few for a coverage of {coverage:g}: the "
                    f"intervals are those of {known / (known + 1):.4f} and may hold less.",
                    UserWarning,
                    stacklevel=2,
                )
            model = model.with_coverage(coverage)
        judged = model.predict(self._fractions(X))
        return np.stack([np.asarray(judged.lower), np.asarray(judged.upper)], axis=1)

    @property
    def model_folder_(self) -> Path:
        """Folder of the saved model; it is deleted with the estimator, ``save`` keeps it."""
        check_is_fitted(self)
        return self.model_.folder

    def save(self, folder: str | Path, *, replace: bool = False) -> Path:
        """Write the model to a new or empty folder that ``load``, ``crossprop predict`` and ``ServedModel`` read.

        ``replace`` replaces a saved model; otherwise a folder that is not empty is a StoreError.
        """
        check_is_fitted(self)
        parameters = self.get_params(deep=False)
        if not (self.random_state is None or isinstance(self.random_state, Integral)):
            del parameters["random_state"]  # a generator is no plain value
        note = {"parameters": parameters, "fitted": {name: getattr(self, name) for name in FITTED}}
        text = json.dumps(note, indent=1, default=lambda v: v.item() if hasattr(v, "item") else str(v))

        def write(draft: Path) -> None:
            shutil.copytree(self.model_.folder, draft, dirs_exist_ok=True)
            (draft / NOTE_FILE).write_text(text + "\n", encoding="utf-8")

        return commit_folder(Path(folder), write, replace=replace)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """A fitted estimator from a folder that ``save`` or ``crossprop fit`` wrote (else a ModelFormatError)."""
        folder = Path(folder)
        info, path = read_info(folder), folder / NOTE_FILE
        parameters: dict[str, Any] = {"target": info["target"], "unit": info["unit"]}
        fitted: dict[str, Any] = {"winner_": str(info["method"]), "cv_mae_": None, "cv_results_": {}}
        fitted |= {"n_iter_": 1, "notes_": []}
        if path.is_file():  # missing in a model of 'crossprop fit' or of a study
            try:
                note = read_json(path)
                parameters = dict(note["parameters"])
                fitted |= {name: value for name, value in note["fitted"].items() if name in fitted}
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                message = f"{path} cannot be read: {error}. Save the estimator again."
                raise ModelFormatError(message) from error
        known = cls().get_params()
        made = cls(**{name: value for name, value in parameters.items() if name in known})
        made.__dict__.update(fitted, model_=HeldModel(folder), n_features_in_=1, source_networks_=None)
        return made

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.target_tags.required = True
        return tags

    def _fractions(self, X: Any) -> np.ndarray:
        fractions = fractions_of(formulas_in(X))
        networks: SourceNetworks | None = self.source_networks_
        if networks is not None and str(self.sources) == AUTO:
            met = int(networks.overlap(composition_keys(fractions)).sum())
            if met:
                warnings.warn(
                    f"{met} of {len(fractions)} compositions were among what the source networks learnt other "
                    "properties of: an error measured on them is too good. For a cross-validation make "
                    "networks that know none of all rows: sources=prepare_sources(all_formulas).folder.",
                    SourceOverlapWarning,
                    stacklevel=3,
                )
        return fractions


class HeldModel:
    """A copy of a saved model in a temporary folder that is deleted with this object; pickling includes the files."""

    _served: ServedModel | None

    def __init__(self, folder: Path) -> None:
        self._make_folder()
        shutil.copytree(folder, self.folder, dirs_exist_ok=True)

    def served(self) -> ServedModel:
        """The loaded model."""
        with self._lock:
            if self._served is None:
                self._served = ServedModel.load(self.folder)
            return self._served

    def __getstate__(self) -> Files:
        return packed(self.folder)

    def __setstate__(self, state: Files) -> None:
        self._make_folder()
        unpack(state, self.folder)

    def _make_folder(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="crossprop-model-"))
        self._lock = threading.Lock()
        self._served = None
        weakref.finalize(self, _remove, self.folder, os.getpid())


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a process that was forked
        shutil.rmtree(folder, ignore_errors=True)


def _check_coverage(coverage: Any) -> None:
    if not (isinstance(coverage, (float, int, np.floating)) and 0 < coverage < 1):
        raise EstimatorInputError(f"coverage={coverage!r}: give a share between 0 and 1, such as 0.9.")
