"""Metrics for Prometheus: how full each cache is and how full it may be, and how fresh the facts are.

Nothing is counted for them on the way of a check: they are read from what is there when they are asked for. With
several processes on one port each answers for itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.authorizer import MAX_MEMOS, Questioner
from sidecar import views

if TYPE_CHECKING:
    from sidecar.keeper import Keeper

CONTENT_TYPE: Final = "text/plain; version=1.0.0; charset=utf-8"


def written(questioner: Questioner | None, keeper: Keeper | None) -> bytes:
    """Write all metrics of this process in the form that Prometheus reads."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Memos(questioner))
    if keeper is not None:
        registry.register(_Keeping(keeper))
    return generate_latest(registry)


class _Memos(Collector):
    """What is derived from facts, in all tenants."""

    def __init__(self, questioner: Questioner | None) -> None:
        self._questioner = questioner

    def collect(self) -> Iterator[Metric]:
        count = self._questioner.tally.count if self._questioner is not None else 0
        yield GaugeMetricFamily("bylaw_memos", "Memos derived from facts, in all tenants", value=count)
        yield GaugeMetricFamily("bylaw_memos_limit", "Most memos; past it all are begun anew", value=MAX_MEMOS)


class _Keeping(Collector):
    """The views of a store that are held, and how they are kept fresh."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def collect(self) -> Iterator[Metric]:
        cache, freshness = self._keeper.cache, self._keeper.freshness
        held = GaugeMetricFamily("bylaw_cache_entries", "Entries that are held", labels=["cache"])
        limit = GaugeMetricFamily("bylaw_cache_limit", "Most entries that are held", labels=["cache"])
        for name, count in cache.counts().items():
            held.add_metric([name], count)
        for name, most in self._limits().items():
            limit.add_metric([name], most)
        yield held
        yield limit
        yield CounterMetricFamily("bylaw_cache_evictions", "Views dropped for want of room", value=cache.evictions)
        yield CounterMetricFamily(
            "bylaw_loads", "Snapshots read for views that were missing", value=self._keeper.loader.loads
        )
        yield CounterMetricFamily("bylaw_polls", "Polls of the change log that were applied", value=freshness.epoch)
        yield GaugeMetricFamily("bylaw_facts_age_seconds", "Since all changes were last known", value=freshness.age_s())
        yield GaugeMetricFamily("bylaw_max_staleness_seconds", "Most that it may be", value=freshness.max_staleness_s)

        yield from self._shared()

    def _shared(self) -> Iterator[Metric]:
        """Tell of what Redis is good for, where there is one."""
        second, redis = self._keeper.second, self._keeper.redis
        if second is not None:
            views = CounterMetricFamily("bylaw_second_level", "Views shared through Redis", labels=["result"])
            counts = {"hit": second.hits, "miss": second.misses, "written": second.written, "dropped": second.dropped}
            for result, count in (counts | {"refused": second.refused.total()}).items():
                views.add_metric([result], count)
            yield views
        if redis is not None:
            failed = redis.errors.total() + redis.skipped
            yield CounterMetricFamily("bylaw_redis_errors", "Commands to Redis that came to nothing", value=failed)

    def _limits(self) -> dict[str, int]:
        """Most entries of each cache."""
        return {
            "views": self._keeper.cache.max_views,
            "absent": views.MAX_ABSENT,
            "placed": views.MAX_PLACED,
            "changed": views.MAX_CHANGED,
            "tenants": views.MAX_TENANTS,
        }
