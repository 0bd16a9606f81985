"""The HTTP service: predictions of the registry's champions for whoever asks.

What is trusted. The service loads files of a saved model and nothing else of a registered version: JSON,
``.keras`` (weights of networks, read without Keras), skops (only the types on the list in ``crossprop.models.fitted``),
``.npy`` and ``.npz`` (without pickled objects), and parquet. No pickle is ever read, and the Python code that MLflow stores beside a model is never imported: whoever can write to the
registry can change which numbers are served, not which code runs. Formulas, request bodies and headers are
untrusted throughout.
"""
