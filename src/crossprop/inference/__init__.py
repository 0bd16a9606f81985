"""The registered model that takes formulas, and what serves it.

As in ``crossprop.tracking``, MLflow's usage reports are switched off before MLflow is imported.
"""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
