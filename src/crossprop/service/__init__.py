"""The HTTP service: predictions of the registry's champions.

What is trusted. The service loads the files of a saved model and nothing else of a registered version: JSON, the
arrays in ``.keras`` files, skops files with a fixed list of types, ``.npz`` without pickled objects, and parquet. No
pickle is read, and the Python code that MLflow stores beside a model is never imported: write access to the registry
changes which numbers are served, not which code runs. Formulas, request bodies and headers are untrusted.
"""
