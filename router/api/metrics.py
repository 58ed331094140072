"""GET /metrics: what the router counts, and what it knows of its nodes, as Prometheus text.

Not about the nodes' own counts by step (node/metrics.py).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import Scope

from protos.types import ModelStatus
from providers.base import Snapshot
from router.jobs import JobEvent, JobState

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"  # Source: Prometheus exposition formats
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """The counters of one router."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "fabric_http_request_seconds",
            "Time until the answer begins.",
            ("method", "route", "status"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._events = Counter(
            "fabric_job_events", "Job events stored by this router.", ("kind",), registry=self._registry
        )

        self._attempts = Counter(
            "fabric_webhook_attempts",
            "Attempts to deliver an event to a webhook, by what became of the delivery.",
            ("status",),
            registry=self._registry,
        )

    def observe(self, scope: Scope, status: int, seconds: float) -> None:
        """Counts an answer under its route's pattern: paths hold ids, and each would be a series of its own."""
        route = getattr(scope.get("route"), "path", "unmatched")
        self._requests.labels(scope["method"], route, str(status)).observe(seconds)

    def count(self, events: Sequence[JobEvent]) -> None:
        for event in events:
            self._events.labels(event.kind).inc()

    def count_attempt(self, status: str) -> None:
        """`status`: of the delivery after it; pending: it is tried again."""
        self._attempts.labels(status).inc()

    def render(self, jobs: Mapping[JobState, int], snapshots: Sequence[Snapshot]) -> bytes:
        """`jobs`: how many have not ended, by state."""
        now = CollectorRegistry()
        now.register(_Now(jobs, snapshots))
        return generate_latest(self._registry) + generate_latest(now)


class _Now(Collector):
    """What is true at the time of a scrape."""

    def __init__(self, jobs: Mapping[JobState, int], snapshots: Sequence[Snapshot]) -> None:
        self._jobs, self._snapshots = jobs, snapshots

    def collect(self) -> Iterable[Metric]:
        yield _gauge(
            "fabric_jobs",
            "Jobs that have not ended, by state: the depth of the queue, and what runs.",
            ("state",),
            (((state,), n) for state, n in self._jobs.items()),
        )
        up = (((s.id,), float(s.health.status != "unavailable")) for s in self._snapshots)
        yield _gauge("fabric_provider_up", "1 when the provider serves.", ("provider",), up)
        yield from self._of_models()

    def _of_models(self) -> Iterator[Metric]:
        for name, (text, value) in _MODEL_GAUGES.items():
            values = (
                ((snapshot.id, model.model.id), value(model))
                for snapshot in self._snapshots
                for model in (snapshot.node.models if snapshot.node else ())
            )
            yield _gauge(f"fabric_model_{name}", text, ("provider", "model"), values)


_MODEL_GAUGES: Final[Mapping[str, tuple[str, Callable[[ModelStatus], float]]]] = {
    "waiting": ("Tasks in the model's waiting room.", lambda model: model.waiting),
    "running": ("Tasks that hold a seat.", lambda model: model.running),
    "last_batch": ("Rows of its last step.", lambda model: model.last_batch),
    "units_per_second": ("Tokens, rows or windows a second.", lambda model: model.units_per_s),
    "oldest_wait_seconds": ("Age of its oldest waiting task.", lambda model: model.oldest_wait_s),
    "last_step_age_seconds": ("Time since its last step.", lambda model: model.last_step_age_s),
    "memory_bytes": ("Its measured peak.", lambda model: model.model.memory_bytes),
}


def _gauge(name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family
