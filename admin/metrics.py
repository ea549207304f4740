"""Metrics for Prometheus: what was asked and how that went, what was written and refused, how long statements take.

Labels are words of the description and of our own: paths as the description has them, classes of statuses, codes. No
tenant, person or raw path is ever one, so there are only so many series, whatever is asked.

A series is there before it is counted where somebody is to be woken by it: Prometheus sees a count grow only from a
number that it has seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import PROCESS_COLLECTOR, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import Metric

from admin.endpoint import PREFIX, Endpoint

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
#: Upper bounds, in seconds: a statement takes a millisecond, and what waits for `?await=settled` up to half a minute.
REQUEST_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
STATEMENT_BUCKETS_S: Final = (0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
#: In place of a path that nothing lies at, and of a method that nobody knows.
NO_ROUTE: Final = "none"
OTHER: Final = "other"
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """Counts for one service.

    Args:
        endpoints: whose faults are told of before the first one.
    """

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "bylaw_admin_requests", "Requests that were answered", ["method", "route", "status"], registry=registry
        )
        self._took = Histogram(
            "bylaw_admin_request_seconds",
            "Answering a request",
            ["method"],
            buckets=REQUEST_BUCKETS_S,
            registry=registry,
        )
        self._writes = Counter(
            "bylaw_admin_writes", "Writes that were done, by collection", ["collection"], registry=registry
        )
        self._refusals = Counter("bylaw_admin_refusals", "What somebody may not do", ["code"], registry=registry)
        self._strangers = Counter(
            "bylaw_admin_failed_authentications", "Keys and tokens that are no good", ["result"], registry=registry
        )
        self._statements = Histogram(
            "bylaw_admin_statement_seconds",
            "Statements to the database, failures included",
            buckets=STATEMENT_BUCKETS_S,
            registry=registry,
        )
        for each in endpoints:
            self._requests.labels(each.method, PREFIX + each.path, "5xx")
        for result in ("refused", "limited"):
            self._strangers.labels(result)

    def note_request(self, method: str, route: str, status: int, took_s: float) -> None:
        """Count an answer.

        Args:
            method: one of `METHODS`, or `OTHER`.
            route: as the description has it, or `NO_ROUTE`.
        """
        self._requests.labels(method, route, f"{status // 100}xx").inc()
        self._took.labels(method).observe(took_s)

    def note_write(self, collection: str) -> None:
        """Count a write that was done."""
        self._writes.labels(collection).inc()

    def note_refusal(self, code: str) -> None:
        """Count what somebody may not do."""
        self._refusals.labels(code).inc()

    def note_stranger(self, *, is_limited: bool) -> None:
        """Count an attempt of nobody known; whether he was told to wait."""
        self._strangers.labels("limited" if is_limited else "refused").inc()

    def note_statement(self, took_s: float) -> None:
        """Count a statement."""
        self._statements.observe(took_s)

    def written(self) -> bytes:
        """Write all in the form that Prometheus reads."""
        found: bytes = generate_latest(self)  # of a registry it asks this alone: `collect`
        return found

    def collect(self) -> Iterable[Metric]:
        """Give the families. When a series began is none of them: nothing here restarts but the process."""
        for family in self._registry.collect():
            family.samples = [each for each in family.samples if not each.name.endswith("_created")]
            yield family
        yield from PROCESS_COLLECTOR.collect()
