"""The registered model that takes formulas, and what serves it; MLflow's usage reports are off, as in tracking."""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
