"""The protocol as a scikit-learn estimator: formulas in, values with intervals out."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import threading
import warnings
import weakref
from collections.abc import Iterable, Mapping, Set
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_y, check_is_fitted, column_or_1d

from crossprop.data.compositions import composition_keys, fraction_matrix, parse_formulas
from crossprop.data.prepared import GROUP_COLUMN
from crossprop.data.splits import linked_groups
from crossprop.data.user_columns import ElementColumns, element_columns, formulas_of, plain_formula
from crossprop.errors import ConfigError, DataError, EstimatorInputError, ModelFormatError
from crossprop.estimator.decision import AUTO, NONE, Settings
from crossprop.estimator.fit import commit_folder
from crossprop.estimator.learn import Outcome, run_protocol
from crossprop.estimator.pretrained import SourceNetworks
from crossprop.estimator.report import cv_results
from crossprop.experiments.progress import Print, show
from crossprop.inference.predictor import ServedModel
from crossprop.methods import DEFAULT_SEED
from crossprop.models.saved import read_info

NOTE_FILE: Final = "estimator.json"
FITTED: Final = ("winner_", "cv_mae_", "cv_results_", "n_iter_", "notes_")


def note_of(estimator: Any) -> dict[str, Any]:
    """Parameters and fitted figures of an estimator as plain values; objects such as a random state are left out."""
    parameters = {name: _plain(value) for name, value in estimator.get_params(deep=False).items()}
    if parameters["random_state"] is None and estimator.random_state is not None:
        del parameters["random_state"]
    return {"parameters": parameters, "fitted": {name: getattr(estimator, name) for name in FITTED}}


def write_note(note: Mapping[str, Any], folder: Path) -> None:
    """Write the note into a folder."""
    (folder / NOTE_FILE).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")


def read_note(folder: Path, info: Mapping[str, Any]) -> dict[str, Any]:
    """The note beside a model; of a model that ``crossprop fit`` or a study made, what its ``model.json`` says.

    Raises:
        ModelFormatError: The note is damaged.
    """
    fitted: dict[str, Any] = {
        "winner_": str(info["method"]), "cv_mae_": None, "cv_results_": {}, "n_iter_": 1, "notes_": [],
    }  # fmt: skip
    path = folder / NOTE_FILE
    if not path.is_file():
        return {"parameters": {"target": info["target"], "unit": info["unit"]}, "fitted": fitted}
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        known = {name: value for name, value in note["fitted"].items() if name in FITTED}
        return {"parameters": dict(note["parameters"]), "fitted": fitted | known}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFormatError(f"{path} cannot be read: {error}. Save the estimator again.") from error


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [str(item) for item in value]
    if isinstance(value, (bool, str)) or value is None:
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    return str(value) if isinstance(value, Path) else None


FORMULA_COLUMN = "formula"
_EXAMPLES = 3


def formulas_in(given: Any) -> list[Any]:
    """The formulas in a list, series, array of shape (n,) or (n, 1), or a table with one column or one named 'formula'.

    What maps elements to amounts (a dict, pymatgen's ``Composition``) becomes a formula, and so does a row of a table
    whose columns are all named by elements and hold atomic amounts.

    Raises:
        EstimatorInputError: It is something else, or empty.
    """
    if isinstance(given, pd.DataFrame):
        if FORMULA_COLUMN in given.columns:
            given = given[FORMULA_COLUMN]
        elif given.shape[1] == 1:
            given = given.iloc[:, 0]
        elif len(element_columns(list(map(str, given.columns)))) == given.shape[1]:
            return list(_composed(given))
        else:
            raise EstimatorInputError(
                f"The table has the columns {list(map(str, given.columns[:8]))}. Give the column of formulas alone, "
                f"name it {FORMULA_COLUMN!r}, or give columns of atomic amounts, each named by its element."
            )
    if isinstance(given, (str, bytes)) or not hasattr(given, "__iter__"):
        raise EstimatorInputError(
            f"Expected a list of formulas, got {type(given).__name__} {str(given)[:40]!r}. Reshape your data: for a "
            "single formula give ['NaCl']."
        )
    if hasattr(given, "toarray") or type(given).__module__.startswith("scipy.sparse"):
        raise EstimatorInputError("Sparse data hold no formulas. Give a list of texts such as ['NaCl'].")
    if isinstance(given, (Mapping, Set)):
        raise EstimatorInputError(
            f"Expected a list of formulas, got a {type(given).__name__}, whose items have no order. Give a list."
        )
    if not isinstance(given, (list, np.ndarray)) and not hasattr(given, "__len__"):
        given = list(given)  # a generator
    array = given if isinstance(given, list) else np.asarray(given, dtype=object)
    if isinstance(array, np.ndarray):
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim != 1:
            raise EstimatorInputError(
                f"Expected one column of formulas, got an array of shape {array.shape}. Give shape (n,) or (n, 1)."
            )
        array = array.tolist()
    rows = [_formula(row[0] if isinstance(row, (list, tuple)) and len(row) == 1 else row) for row in array]
    if not rows:
        raise EstimatorInputError("Found array with 0 sample(s) while a minimum of 1 is required.")
    return rows


def _formula(row: Any) -> Any:
    """A row as a formula, where it is a text or maps elements to amounts; anything else as it is."""
    if isinstance(row, str):
        return plain_formula(row)
    if not isinstance(row, Mapping):
        return row
    try:
        amounts = {str(element): float(amount) for element, amount in row.items()}
    except (TypeError, ValueError):
        return row
    formulas, _ = formulas_of(list(amounts), [list(amounts.values())], ElementColumns.ATOMIC)
    return formulas[0]


def _composed(table: pd.DataFrame) -> list[str]:
    """Formulas from a table of atomic amounts; an empty cell is none of the element."""
    symbols = list(element_columns(list(map(str, table.columns))).values())
    if len(set(symbols)) < len(symbols):
        raise EstimatorInputError(
            f"The table has several columns of one element: {symbols}. Leave one of each."
        )
    try:
        amounts = table.to_numpy(dtype=np.float64, na_value=0.0)
    except (TypeError, ValueError) as error:
        raise EstimatorInputError(f"The columns of elements hold more than numbers: {error}.") from None
    formulas, reasons = formulas_of(
        symbols, np.nan_to_num(amounts, posinf=np.inf).tolist(), ElementColumns.ATOMIC
    )
    if reasons:
        examples = "; ".join(f"row {row}: {reason}" for row, reason in list(reasons.items())[:_EXAMPLES])
        raise EstimatorInputError(f"{len(reasons)} of {len(formulas)} rows are no compositions: {examples}")
    return formulas


def fractions_of(formulas: list[Any]) -> np.ndarray:
    """Elemental fractions, shape (n, 86).

    Raises:
        EstimatorInputError: A row is no formula; the message names the first such rows, counted from 0.
    """
    fractions, _, refused = parse_formulas(formulas)
    if refused:
        examples = "; ".join(f"row {row}: {error}" for row, error in list(refused.items())[:_EXAMPLES])
        raise EstimatorInputError(f"{len(refused)} of {len(formulas)} rows are no formulas: {examples}")
    return fractions


def learning_rows(formulas: list[Any], values: np.ndarray, groups: Any = None) -> pd.DataFrame:
    """Columns ``formula``, ``composition`` (key) and ``value``, and ``group`` where rows have groups.

    Raises:
        EstimatorInputError: A row is no formula, or the lengths differ.
    """
    if len(formulas) != len(values):
        raise EstimatorInputError(
            f"Found input variables with inconsistent numbers of samples: {[len(formulas), len(values)]}"
        )
    if len(formulas) < 2:
        raise EstimatorInputError(f"n_samples={len(formulas)}: one sample is too few to learn from.")
    keys = composition_keys(fractions_of(formulas))
    rows = pd.DataFrame({"formula": [str(f) for f in formulas], "composition": keys, "value": values})
    if groups is not None:
        try:
            rows[GROUP_COLUMN] = linked_groups(keys, column_or_1d(np.asarray(groups, dtype=object)))
        except (DataError, ValueError) as error:
            raise EstimatorInputError(f"groups: {error}") from error
    return rows


def composition_groups(formulas: Iterable[str]) -> np.ndarray:
    """A number for every composition, shape (n,), for ``GroupKFold``: spellings and multiples share one.

    ``cross_val_score(model, formulas, y, cv=GroupKFold(5), groups=composition_groups(formulas))`` keeps the rows of a
    composition together, as crossprop does within a fit.

    Raises:
        FormulaError: A row is no formula.
    """
    codes, _ = pd.factorize(composition_keys(fraction_matrix(formulas)))
    return np.asarray(codes)


class HeldModel:
    """A saved model in a temporary folder that lasts as long as this object; loaded when it is first asked.

    A copy is the same object, since nothing about it changes. When it is sent to another process, the files go along.

    Args:
        folder: Saved model; copied.
    """

    _served: ServedModel | None

    def __init__(self, folder: Path) -> None:
        self._settle()
        shutil.copytree(folder, self.folder, dirs_exist_ok=True)

    @property
    def folder(self) -> Path:
        """Where the files lie; gone with the object."""
        return self._folder

    def served(self, coverage: float | None = None) -> ServedModel:
        """The loaded model, with intervals of this coverage instead of the stored one.

        Raises:
            EstimatorInputError: The coverage is no share, or the model has no evidence to find another one from.
        """
        if coverage is not None and not (isinstance(coverage, Real) and 0 < coverage < 1):
            raise EstimatorInputError(f"coverage={coverage!r}: give a share between 0 and 1, such as 0.9.")
        with self._lock:
            if self._served is None:
                self._served = ServedModel.load(self.folder)
        model = self._served
        stated = float(model.info["interval"]["coverage"])
        if coverage is None or coverage == stated:
            return model
        _warn_of_few(model, coverage)
        try:
            return model.with_coverage(coverage)
        except ModelFormatError as error:
            raise EstimatorInputError(str(error)) from error

    def __getstate__(self) -> dict[str, bytes]:
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in files}

    def __setstate__(self, state: dict[str, bytes]) -> None:
        self._settle()
        for name, content in state.items():
            path = (self.folder / name).resolve()
            if not path.is_relative_to(self.folder.resolve()):
                raise ModelFormatError(f"{name!r} would lie outside of the model's folder. Do not load it.")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __repr__(self) -> str:
        return f"HeldModel({str(self.folder)!r})"

    def _settle(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="crossprop-model-"))
        self._lock = threading.Lock()
        self._served = None
        weakref.finalize(self, _remove, self._folder, os.getpid())


def _warn_of_few(model: ServedModel, coverage: float) -> None:
    """Of n errors the largest tells the interval of n / (n + 1) of new values, and none tells a wider one."""
    known = 0 if model.evidence is None else int((model.evidence["split"] == "train").sum())
    if known and math.ceil((known + 1) * coverage) > known:
        warnings.warn(
            f"{known} errors are known from cross-validation, too few for a coverage of {coverage:g}: the intervals "
            f"are those of {known / (known + 1):.4f} and may hold less.",
            UserWarning,
            stacklevel=4,
        )


def _remove(folder: Path, owner: int) -> None:
    """A process that was forked from the owner's must not take its files away."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


class SourceOverlapWarning(UserWarning):
    """A composition that is predicted was among what the source networks learnt from."""


class CrossPropertyRegressor(RegressorMixin, BaseEstimator):
    """Predicts a property from formulas: methods are tuned, cross-validated, blended, and the best one is kept.

    Repeated compositions (also under another spelling) always stay together within the internal folds.

    Args:
        methods: "auto" for what the minutes allow, or a list such as ``["ml", "boost", "blend"]``.
        sources: "none" learns from these rows alone. "auto" transfers from networks that were pretrained on public data
            without the compositions that ``fit`` is given; they are kept in a cache. A path names networks made by
            ``crossprop.estimator.pretrained.prepare_sources``: what a cross-validation needs, since "auto" cannot know
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
