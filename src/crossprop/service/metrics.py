"""What Prometheus reads: requests, predictions, loads, and whether the registry answers."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Metrics:
    """The metrics of one service; each has a registry of its own, so that several may live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "crossprop_requests", "Answered requests.", ["method", "path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "crossprop_request_seconds",
            "Time from a request's headers to the end of its answer.",
            ["path"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "crossprop_requests_in_flight", "Requests being answered.", registry=self.registry
        )
        self.waiting = Gauge(
            "crossprop_lane_requests",
            "Requests for predictions, waiting ones included.",
            ["lane"],
            registry=self.registry,
        )
        self.predictions = Counter(
            "crossprop_predictions", "Formulas predicted.", ["property", "version"], registry=self.registry
        )
        self.item_errors = Counter(
            "crossprop_item_errors",
            "Items of requests that are no formula.",
            ["type"],
            registry=self.registry,
        )
        self.loads = Counter("crossprop_model_loads", "Models loaded.", ["model"], registry=self.registry)
        self.load_failures = Counter(
            "crossprop_model_load_failures",
            "Models that could not be loaded.",
            ["model"],
            registry=self.registry,
        )
        self.load_seconds = Histogram(
            "crossprop_model_load_seconds",
            "Time to load a model.",
            buckets=(0.1, 0.5, 1, 2, 5, 10, 30, 60, 120),
            registry=self.registry,
        )
        self.swaps = Counter(
            "crossprop_model_swaps", "Versions that took another's place.", ["model"], registry=self.registry
        )
        self.served = Gauge(
            "crossprop_served_version",
            "Versions that answer.",
            ["model", "version", "property"],
            registry=self.registry,
        )
        self.status = Gauge(
            "crossprop_property_status",
            "1 for the status that a property has.",
            ["property", "status"],
            registry=self.registry,
        )
        self.model_bytes = Gauge(
            "crossprop_model_bytes", "Bytes that loaded models take, roughly.", registry=self.registry
        )
        self.registry_up = Gauge(
            "crossprop_registry_up", "Whether the registry answered last time.", registry=self.registry
        )
        self.registry_polled = Gauge(
            "crossprop_registry_polled_timestamp_seconds",
            "When the registry answered last.",
            registry=self.registry,
        )

    def show(self, versions: dict[str, tuple[str, str]], statuses: dict[str, str]) -> None:
        """Replace what is told of the served versions.

        Args:
            versions: Registered model and version that answer, by property.
            statuses: Status by property.
        """
        self.served.clear()
        for name, (model, version) in versions.items():
            self.served.labels(model, version, name).set(1)
        self.status.clear()
        for name, word in statuses.items():
            self.status.labels(name, word).set(1)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
