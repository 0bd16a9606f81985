"""MLflow: the embedded store, the runs of cells and sources, and the model registry.

Importing this package switches MLflow's usage reports off (unless the user has switched them on), because
MLflow reads that choice once, when it is imported itself; and its progress bars for files of a few kilobytes.
"""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
