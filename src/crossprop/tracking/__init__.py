"""MLflow: the embedded store, the runs of cells and sources, and the model registry.

Importing this package sets variables that MLflow reads once, unless the user has set them: no usage reports, no
progress bars, ten seconds of repeated requests instead of four minutes, long values refused instead of cut, and no
kept connection, so that a SQLite file that was replaced is noticed. Artifacts pass through the tracking server: MLflow
would otherwise send clients to the server's object store, by a name that only the server knows.
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
