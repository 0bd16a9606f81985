"""Metrics for Prometheus: requests, predictions, loaded models, and the state of the registry."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_REQUEST_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_LOAD_SECONDS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120)


class Metrics:
    """The metrics of one service, in a registry of its own, so that several services may live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"crossprop_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"crossprop_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"crossprop_{name}", text, labels, buckets=buckets, registry=self.registry)

        self.requests = counter("requests", "Answered requests.", "method", "path", "status")
        self.seconds = histogram(
            "request_seconds", "Time from the headers to the end of the answer.", _REQUEST_SECONDS, "path"
        )
        self.in_flight = gauge("requests_in_flight", "Requests being answered.")
        self.waiting = gauge("prediction_requests", "Requests for predictions, waiting ones too.", "size")
        self.predictions = counter("predictions", "Formulas predicted.", "property", "version")
        self.item_errors = counter("item_errors", "Items of requests that are no formula.", "type")
        self.loads = counter("model_loads", "Models loaded.", "model")
        self.load_failures = counter("model_load_failures", "Models that could not be loaded.", "model")
        self.load_seconds = histogram("model_load_seconds", "Time to load a model.", _LOAD_SECONDS)
        self.swaps = counter("model_swaps", "Versions that replaced another one.", "model")
        self.served = gauge("served_version", "Versions that answer.", "model", "version", "property")
        self.status = gauge("property_status", "1 for the status of a property.", "property", "status")
        self.model_bytes = gauge("model_bytes", "Approximate bytes of the loaded models.")
        self.registry_up = gauge("registry_up", "Whether the registry answered last time.")
        self.registry_polled = gauge("registry_polled_timestamp_seconds", "When the registry answered last.")

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
