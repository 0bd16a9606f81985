"""Metrics for Prometheus: requests, predictions, loaded models, and the state of the registry."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_LONG_SECONDS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120)


class Metrics:
    """The metrics of one service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        own: Any = {"namespace": "crossprop", "registry": self.registry}
        self.requests = Counter("requests", "Answered requests.", ("method", "path", "status"), **own)
        self.seconds = Histogram("request_seconds", "Time to answer.", ["path"], buckets=_SECONDS, **own)
        self.in_flight = Gauge("requests_in_flight", "Requests being answered.", **own)
        self.waiting = Gauge("prediction_requests", "Requests for predictions.", ["size"], **own)
        self.predictions = Counter("predictions", "Formulas predicted.", ("property", "version"), **own)
        self.item_errors = Counter("item_errors", "Items of requests that are no formula.", ["type"], **own)
        self.loads = Counter("model_loads", "Models loaded.", ["model"], **own)
        self.load_failures = Counter("model_load_failures", "Failures to load a model.", ["model"], **own)
        self.load_seconds = Histogram("model_load_seconds", "Time to load.", buckets=_LONG_SECONDS, **own)
        self.swaps = Counter("model_swaps", "Versions that replaced another one.", ["model"], **own)
        answering = ("model", "version", "property")
        self.served = Gauge("served_version", "Versions that answer.", answering, **own)
        self.status = Gauge("property_status", "1 for the status.", ("property", "status"), **own)
        self.model_bytes = Gauge("model_bytes", "Approximate bytes of the loaded models.", **own)
        self.registry_up = Gauge("registry_up", "Whether the registry answered last time.", **own)
        polled = "registry_polled_timestamp_seconds"
        self.registry_polled = Gauge(polled, "Last answer of the registry.", **own)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
