"""What the service counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The metrics of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        shared = {"registry": self.registry}
        self.predict_seconds = Histogram("predict_seconds", "From a request to its answer, with the wait.", buckets=SECONDS, **shared)
        self.run_seconds = Histogram("run_seconds", "A run of a session.", buckets=SECONDS, **shared)
        self.batch_rows = Histogram("batch_rows", "Rows that ran together.", buckets=ROWS, **shared)
        self.answers = Counter("answers", "Answers by their HTTP status.", ["status"], **shared)
        self.in_flight = Gauge("requests_in_flight", "Requests that wait for their results.", **shared)
        self.ready = Gauge("ready", "1 once the warm-up is done.", **shared)
        self.sessions = Gauge("sessions", "Sessions of the model.", **shared)
        self.owned_nodes = Gauge("owned_nodes", "Nodes of a session that the sparse provider has taken.", **shared)
        self.nodes = Gauge("nodes", "Nodes of a session that the sparse provider was shown.", **shared)
