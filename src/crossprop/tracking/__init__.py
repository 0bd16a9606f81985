"""MLflow: the embedded store, the runs of cells and sources, and the model registry.

Importing this package switches MLflow's usage reports off (unless the user has switched them on), because
MLflow reads that choice once, when it is imported itself; and its progress bars for files of a few kilobytes. A
request that a server does not answer is repeated for about ten seconds instead of four minutes: what can wait
longer says so first (``experiments.recording``). Artifacts pass through the tracking server: MLflow would otherwise
send clients to the server's object store, by a name that only the server knows. Values that are too long are refused
instead of cut. No connection to a database is kept, so that a SQLite file that was replaced is noticed. TensorFlow,
which MLflow loads with a model, does not report missing graphics cards.
"""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "false")
os.environ.setdefault("MLFLOW_TRUNCATE_LONG_VALUES", "false")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
