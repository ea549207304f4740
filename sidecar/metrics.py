"""Metrics for Prometheus: what was decided and how fast, how fresh the facts are, how full each cache is.

Nothing is made for them on the way of a check: counts lie in plain dictionaries and numbers (`tellings`, `histogram`),
and become families of series when somebody asks. Labels are names that the policy declares and words of our own, never
ids or paths; so there are few. A name that the policy has no more stays until the process ends, as counts must.

    Sources ──▶ families ──▶ texts by name ──┬──▶ one text
                  texts of the siblings ─────┘

With several processes on one port each series says whose it is (`worker`), and whoever is scraped writes those of all:
`siblings` has why. A process that is alone has no such label.

Texts are made `PIECE` series at a time, and in between the loop goes on: a policy of a thousand actions can have ten
thousand series, which take 0.1 s to write. So a family may come in pieces.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final, cast

from prometheus_client import PROCESS_COLLECTOR, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

from engine.authorizer import MAX_MEMOS
from sidecar import views
from sidecar.histogram import BUCKETS_S, Histogram
from sidecar.policies import Policies
from sidecar.siblings import Siblings, Texts
from sidecar.tellings import Tellings
from sidecar.traffic import Traffic

if TYPE_CHECKING:
    from sidecar.jwks import Keys
    from sidecar.keeper import Keeper

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
#: Refusals that somebody wants to be woken for. They stand there before the first one: Prometheus sees a count grow
#: only from a number that it has seen.
NEVER_YET: Final = {(500, "internal"): 0, (503, "overloaded"): 0, (503, "stale"): 0}
#: Series that are written before the loop goes on.
PIECE: Final = 500


@dataclass(frozen=True, slots=True)
class Sources:
    """What metrics are read from.

    Args:
        keeper: what follows the store; None: facts come from a file.
        keys: of end users' tokens; None: there are none.
        siblings: the other processes on the port; None: there are none.
    """

    policies: Policies
    tellings: Tellings
    traffic: Traffic
    keeper: Keeper | None = None
    keys: Keys | None = None
    siblings: Siblings | None = None


async def written(sources: Sources) -> bytes:
    """Write the metrics of all processes in the form that Prometheus reads."""
    own = await texts(sources)
    others = await sources.siblings.ask() if sources.siblings is not None else ()
    return together(own, others).encode()


async def texts(sources: Sources) -> dict[str, str]:
    """Write the metrics of this process, by family."""
    labels = {"worker": sources.siblings.name} if sources.siblings is not None else {}
    found: dict[str, list[str]] = {}
    for family in _families(sources):
        found.setdefault(family.name, []).append(_text(family, labels))
        await asyncio.sleep(0)
    return {name: _joined(pieces) for name, pieces in found.items()}


def together(own: Texts, others: Sequence[Texts]) -> str:
    """Put texts of several processes together, family by family, since each may stand there once."""
    names = dict.fromkeys(name for each in (own, *others) for name in each)
    return "".join(_joined([each[name] for each in (own, *others) if name in each]) for name in names)


def _joined(found: Sequence[str]) -> str:
    """Join the texts of one family: its two lines of `# HELP` and `# TYPE`, and the series of all."""
    return found[0] + "".join(text.split("\n", 2)[2] for text in found[1:])


def _text(family: Metric, labels: Mapping[str, str]) -> str:
    family.samples = [each._replace(labels={**each.labels, **labels}) for each in family.samples]
    return generate_latest(cast(CollectorRegistry, _Only(family))).decode()


@dataclass(frozen=True, slots=True)
class _Only:
    """A registry of one family."""

    family: Metric

    def collect(self) -> Iterable[Metric]:
        return (self.family,)


# --- families -----------------------------------------------------------------------------------------


def _families(sources: Sources) -> Iterator[Metric]:
    """Make all families, or pieces of them."""
    yield from _decisions(sources.tellings)
    yield GaugeMetricFamily(
        "bylaw_requests_in_flight",
        "Requests that are not answered yet, the one for metrics included",
        value=sources.traffic.count,
    )
    yield from _policy(sources.policies)
    yield from _log(sources.tellings)
    if sources.keeper is not None:
        yield from _store(sources.keeper)
        yield from _shared(sources.keeper)
    if sources.keys is not None:
        degraded = sources.keys.problem is not None
        yield GaugeMetricFamily(
            "bylaw_issuer_keys_degraded", "1: the issuer's keys cannot be renewed", value=float(degraded)
        )
    if sources.siblings is not None:
        yield CounterMetricFamily(
            "bylaw_siblings_silent",
            "Times that another process did not tell its metrics in time",
            value=sources.siblings.silent,
        )
    yield from PROCESS_COLLECTOR.collect()


def _decisions(tellings: Tellings) -> Iterator[Metric]:
    """Tell what was answered."""
    counted = list(tellings.decisions.items())
    for start in range(0, max(1, len(counted)), PIECE):
        decisions = CounterMetricFamily(
            "bylaw_decisions", "Decisions that were answered", labels=["type", "action", "outcome", "code"]
        )
        for (name, allowed, code), count in counted[start : start + PIECE]:
            kind, _, action = name.rpartition(".")
            decisions.add_metric([kind, action, "allow" if allowed else "deny", code], count)
        yield decisions
    refusals = CounterMetricFamily(
        "bylaw_refusals", "Requests that got an error and no decision", labels=["status", "code"]
    )
    for (status, code), count in {**NEVER_YET, **tellings.refusals}.items():
        refusals.add_metric([str(status), code], count)
    yield refusals
    yield _counter(
        "bylaw_answers",
        "Answers by where their facts were",
        "from",
        [("memory", sum(tellings.decide.counts)), ("load", tellings.waited)],
    )
    yield _histogram("bylaw_decide_seconds", "Deciding and writing an answer from memory", tellings.decide)


def _policy(policies: Policies) -> Iterator[Metric]:
    """Tell which policy decides, how it fared with others, and what is derived under it."""
    yield _counter(
        "bylaw_policy_loads",
        "Readings of the policy that were to decide",
        "result",
        [("loaded", policies.loads), ("refused", policies.refusals)],
    )
    yield GaugeMetricFamily(
        "bylaw_policy_degraded",
        "1: what is published, or lies on disk, is not what decides, since it cannot be loaded",
        value=float(policies.problem is not None),
    )
    digest = policies.loaded.policy.digest if policies.is_loaded else ""
    yield InfoMetricFamily("bylaw_policy", "The policy that decides", value={"digest": digest})
    questioner = policies.loaded.facts.questioner if policies.is_loaded else None
    count = questioner.tally.count if questioner is not None else 0
    yield GaugeMetricFamily("bylaw_memos", "Memos derived from facts, in all tenants", value=count)
    yield GaugeMetricFamily("bylaw_memos_limit", "Most memos; past it all are begun anew", value=MAX_MEMOS)


def _log(tellings: Tellings) -> Iterator[Metric]:
    """Tell how the decision log fares; zeros where there is none."""
    log = tellings.log
    taken = [("written", log.written), ("dropped", log.dropped)] if log else [("written", 0), ("dropped", 0)]
    yield _counter("bylaw_decision_log_lines", "Lines of the decision log", "result", taken)
    yield CounterMetricFamily(
        "bylaw_decision_log_failures",
        "Attempts to write to the decision log that came to nothing; they are made again",
        value=log.failed if log else 0,
    )
    yield GaugeMetricFamily(
        "bylaw_decision_log_queued", "Lines that are still to be written", value=log.queued if log else 0
    )


def _store(keeper: Keeper) -> Iterator[Metric]:
    """Tell of the views of a store that are held, and how they are kept fresh."""
    cache, freshness, loader = keeper.cache, keeper.freshness, keeper.loader
    limits = {
        "views": cache.max_views,
        "absent": views.MAX_ABSENT,
        "placed": views.MAX_PLACED,
        "changed": views.MAX_CHANGED,
        "tenants": views.MAX_TENANTS,
    }
    yield _gauge("bylaw_cache_entries", "Entries that are held", "cache", cache.counts().items())
    yield _gauge("bylaw_cache_limit", "Most entries that are held", "cache", limits.items())
    yield CounterMetricFamily("bylaw_cache_evictions", "Views dropped for want of room", value=cache.evictions)
    yield CounterMetricFamily("bylaw_loads", "Snapshots read for views that were missing", value=loader.loads)
    yield _histogram("bylaw_load_seconds", "Loading views that were missing, failures included", loader.took)
    yield CounterMetricFamily("bylaw_polls", "Polls of the change log that were applied", value=freshness.epoch)
    yield _histogram("bylaw_poll_seconds", "Polling the change log, failures included", freshness.took)
    yield GaugeMetricFamily("bylaw_facts_age_seconds", "Since all changes were last known", value=freshness.age_s())
    yield GaugeMetricFamily("bylaw_max_staleness_seconds", "Most that it may be", value=freshness.max_staleness_s)


def _shared(keeper: Keeper) -> Iterator[Metric]:
    """Tell of what Redis is good for, where there is one."""
    second, redis = keeper.second, keeper.redis
    if second is not None:
        counts = {"hit": second.hits, "miss": second.misses, "written": second.written, "dropped": second.dropped}
        counts["refused"] = second.refused.total()
        yield _counter("bylaw_second_level", "Views shared through Redis", "result", counts.items())
    if redis is not None:
        failed = redis.errors.total() + redis.skipped
        yield CounterMetricFamily("bylaw_redis_errors", "Commands to Redis that came to nothing", value=failed)


def _counter(name: str, documentation: str, label: str, counts: Iterable[tuple[str, int]]) -> Metric:
    family = CounterMetricFamily(name, documentation, labels=[label])
    for value, count in counts:
        family.add_metric([value], count)
    return family


def _gauge(name: str, documentation: str, label: str, values: Iterable[tuple[str, int]]) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=[label])
    for value, number in values:
        family.add_metric([value], number)
    return family


def _histogram(name: str, documentation: str, histogram: Histogram) -> Metric:
    bounds = [*map(floatToGoString, BUCKETS_S), "+Inf"]
    buckets = list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True))
    return HistogramMetricFamily(name, documentation, buckets=buckets, sum_value=histogram.sum_s)
