"""The MLflow model that takes formulas."""

from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel

from crossprop.errors import CrosspropError
from crossprop.inference.predictor import ServedModel, predict_formulas

ARTIFACT = "predictor"
"""Name under which the saved ensemble lies in the model's artifacts."""


class FormulaModel(PythonModel):
    """A saved ensemble behind MLflow's ``predict``; see ``predict_formulas`` for what it returns.

    The signature with which it is registered lets only tables with a column ``formula`` reach ``predict``.
    """

    def load_context(self, context: Any) -> None:
        """Load the ensemble and its evidence from the model's artifacts."""
        self._model = ServedModel.load(context.artifacts[ARTIFACT])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Predict for every row of a table; one that holds no formula is an MlflowException (status 400)."""
        try:
            return predict_formulas(self._model, model_input["formula"])
        except CrosspropError as error:
            raise MlflowException.invalid_parameter_value(f"{type(error).__name__}: {error}") from error
