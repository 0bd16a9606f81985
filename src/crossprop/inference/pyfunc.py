"""The MLflow model that takes formulas."""

from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel

from crossprop.errors import CrosspropError
from crossprop.inference.predictor import ServedModel, formulas_of, predict_formulas

ARTIFACT = "predictor"
"""Name under which the saved ensemble lies in the model's artifacts."""


class FormulaModel(PythonModel):
    """A saved ensemble behind MLflow's ``predict``; see ``predict_formulas`` for what it returns."""

    def __init__(self) -> None:
        self._model: ServedModel | None = None

    def load_context(self, context: Any) -> None:
        """Load the ensemble and its evidence from the model's artifacts."""
        self._model = ServedModel.load(context.artifacts[ARTIFACT])

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Predict for a table with a column ``formula``; a row that holds none is an MlflowException (status 400)."""
        if self._model is None:
            self.load_context(context)
        assert self._model is not None
        try:
            return predict_formulas(self._model, formulas_of(model_input))
        except CrosspropError as error:
            raise MlflowException.invalid_parameter_value(f"{type(error).__name__}: {error}") from error
