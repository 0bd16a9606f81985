"""The script that MLflow stores with a model and runs to load it: a model from code, nothing is pickled."""

from mlflow.models import set_model

from crossprop.inference.pyfunc import FormulaModel

set_model(FormulaModel())
