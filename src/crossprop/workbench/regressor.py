"""The protocol as a scikit-learn estimator: formulas in, values with intervals out."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_y, check_is_fitted, column_or_1d

from crossprop.data.compositions import composition_keys
from crossprop.errors import ConfigError, DataError, EstimatorInputError, ModelFormatError
from crossprop.experiments.progress import Print, show
from crossprop.models.saved import read_info
from crossprop.vocabulary import DEFAULT_SEED
from crossprop.workbench.decision import AUTO, NONE, Settings
from crossprop.workbench.estimator_files import note_of, read_note, write_note
from crossprop.workbench.estimator_input import formulas_in, fractions_of, learning_rows
from crossprop.workbench.held_model import HeldModel
from crossprop.workbench.networks import SourceNetworks
from crossprop.workbench.out_folder import commit_folder
from crossprop.workbench.protocol import Outcome, run_protocol
from crossprop.workbench.tables import cv_results


class SourceOverlapWarning(UserWarning):
    """A composition that is predicted was among what the source networks learnt from."""


class CrossPropertyRegressor(RegressorMixin, BaseEstimator):
    """Predicts a property from formulas: methods are tuned, cross-validated, blended, and the best one is kept.

    Repeated compositions (also under another spelling) always stay together within the internal folds.

    Args:
        methods: "auto" for what the minutes allow, or a list such as ``["ml", "boost", "blend"]``.
        sources: "none" learns from these rows alone. "auto" transfers from networks that were pretrained on public data
            without the compositions that ``fit`` is given; they are kept in a cache. A path names networks made by
            ``crossprop.workbench.pretraining.prepare_sources``: what a cross-validation needs, since "auto" cannot know
            the rows that are held out of ``fit``, and would pretrain for every split.
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
        winner_: Label of the chosen method, such as ``"blend"`` or ``"boost(PA)"``.
        cv_mae_: Its cross-validated mean absolute error.
        cv_results_: Every method: dict of lists, ready for ``pandas.DataFrame``.
        notes_: What was left out for want of time, and why.
        n_iter_: Trials of all methods together.
        n_features_in_: 1, the formula.
        source_networks_: What was transferred from, or None.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "methods": [StrOptions({"auto"}), list, tuple],
        "sources": [str, Path, None],
        "minutes": [Interval(Real, 0, None, closed="neither"), None],
        "folds": [Interval(Integral, 2, None, closed="left"), None],
        "trials": [Interval(Integral, 1, None, closed="left"), None],
        "holdout": [Interval(Real, 0, 0.5, closed="both")],
        "coverage": [Interval(Real, 0, 1, closed="neither")],
        "workers": [Interval(Integral, 0, None, closed="left")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "target": [str],
        "unit": [str],
    }

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

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Tune, cross-validate and keep the best model.

        Args:
            X: Formulas: a list, series, array of shape (n,) or (n, 1), or a table with one column; or a table of atomic
                amounts whose columns are named by elements.
            y: Values, shape (n,).
            groups: What stays on one side of every internal split (a paper, a series of samples), shape (n,). Groups
                that share a composition count as one.

        Raises:
            EstimatorInputError: A row is no formula, a value no finite number, or there are too few (a ValueError).
        """
        formulas = formulas_in(X)
        if y is None:
            raise EstimatorInputError("requires y to be passed, but the target y is None")
        values = _check_y(column_or_1d(y, warn=True), y_numeric=True, estimator=self).astype(np.float64)
        rows = learning_rows(formulas, values, groups)
        given = self.random_state
        seed = int(given) if isinstance(given, Integral) else _drawn_seed(given)
        settings = Settings(
            target=self.target,
            unit=self.unit,
            sources=NONE if self.sources is None else self.sources,
            minutes=self.minutes,
            methods=None if isinstance(self.methods, str) else self.methods,
            folds=self.folds,
            trials=self.trials,
            holdout=self.holdout,
            workers=self.workers,
            seed=seed,
        )
        with tempfile.TemporaryDirectory(prefix="crossprop-fit-") as root:
            outcome = _run(rows, settings, Path(root), show if self.verbose else _silent)
            self.model_ = HeldModel(outcome.learnt.model)
        self.winner_ = outcome.learnt.winner.label
        self.cv_mae_ = outcome.learnt.winner.cv_mae_mean
        self.cv_results_ = cv_results(outcome.learnt.results)
        self.n_iter_ = max(1, sum(result.n_trials for result in outcome.learnt.results))
        self.notes_ = list(outcome.notes)
        self.source_networks_ = outcome.networks
        self.n_features_in_ = 1
        missed = [note for note in self.notes_ if note.startswith("no transfer")]
        if missed and self.sources == AUTO:
            warnings.warn(missed[0], UserWarning, stacklevel=3)  # past scikit-learn's decorator
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Values of formulas, shape (n,).

        Raises:
            NotFittedError: ``fit`` has not been called.
            EstimatorInputError: A row is no formula.
        """
        check_is_fitted(self)
        fractions = self._fractions(X)
        return self.model_.served().predict(fractions, intervals=False).value

    def predict_interval(self, X: Any, coverage: float | None = None) -> np.ndarray:
        """Lower and upper end of the interval around each prediction, shape (n, 2).

        Conformal: from the errors of the internal cross-validation, so that new materials like those of ``fit`` lie
        within it as often as the coverage says.

        Args:
            X: Formulas.
            coverage: Share of values to be held; the estimator's own unless given.
        """
        check_is_fitted(self)
        model = self.model_.served(self.coverage if coverage is None else coverage)
        judged = model.predict(self._fractions(X))
        return np.stack([np.asarray(judged.lower), np.asarray(judged.upper)], axis=1)

    @property
    def model_folder_(self) -> Path:
        """Folder of the saved model; gone with the estimator, so that ``save`` it is to be kept."""
        check_is_fitted(self)
        return self.model_.folder

    def save(self, folder: str | Path, *, replace: bool = False) -> Path:
        """Write the fitted model to a folder that ``load``, ``crossprop predict`` and ``ServedModel`` read.

        Args:
            folder: New or empty.
            replace: Replace what is there.

        Raises:
            StoreError: The folder is not empty, or cannot be written.
        """
        check_is_fitted(self)
        note = note_of(self)

        def write(draft: Path) -> None:
            shutil.copytree(self.model_.folder, draft, dirs_exist_ok=True)
            write_note(note, draft)

        return commit_folder(Path(folder), write, replace=replace)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """A fitted estimator from a folder that ``save`` or ``crossprop fit`` wrote.

        Raises:
            ModelFormatError: The folder holds no saved model.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise ModelFormatError(
                f"There is no folder {folder}. Give one that save() or 'crossprop fit' wrote."
            )
        note = read_note(folder, read_info(folder))
        known = cls().get_params()
        made = cls(**{name: value for name, value in note["parameters"].items() if name in known})
        for name, value in note["fitted"].items():
            setattr(made, name, value)
        made.model_, made.n_features_in_, made.source_networks_ = HeldModel(folder), 1, None
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


def _run(rows: pd.DataFrame, settings: Settings, root: Path, write: Print) -> Outcome:
    """The protocol, with what is wrong about the input as a ``ValueError``."""
    try:
        return run_protocol(rows, settings, root, write=write)
    except EstimatorInputError:
        raise
    except (DataError, ConfigError) as error:
        raise EstimatorInputError(str(error)) from error


def _drawn_seed(given: Any) -> int:
    return int(check_random_state(given).randint(2**31 - 1))


def _silent(line: str) -> None:
    """Say nothing."""
