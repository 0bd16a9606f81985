"""Creates what the servers expect to find: `python prepare_stores.py BUCKET [BUCKET ...]`.

The named buckets, and the tables of the database that OPTUNA_STORAGE names: the Optuna dashboard does not
start on an empty one. Both are left alone where they exist. Address and key of the object storage come from
AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
"""

from __future__ import annotations

import os
import sys

import boto3
from optuna.storages import RDBStorage


def main() -> None:
    """Create each named bucket unless it exists, and Optuna's tables."""
    object_storage = boto3.client("s3")
    existing = {bucket["Name"] for bucket in object_storage.list_buckets()["Buckets"]}
    for name in sys.argv[1:]:
        if name not in existing:
            object_storage.create_bucket(Bucket=name)
        print(f"bucket {name}: {'exists' if name in existing else 'created'}")
    RDBStorage(os.environ["OPTUNA_STORAGE"])
    print("Optuna's tables: ready")


if __name__ == "__main__":
    main()
