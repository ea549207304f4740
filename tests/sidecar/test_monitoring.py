"""Dashboard, alerts and the operators' page: what they name is what a running service tells of."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from admin.endpoints import ENDPOINTS
from admin.metrics import Metrics
from sidecar.siblings import Siblings
from tests.databases import sqlite_urls
from tests.freshness.services import house, sidecar
from tests.sidecar.conftest import Client
from tests.sidecar.exposition import Exposition, read
from tests.sidecar.test_metrics import told

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
#: What Redis is good for, where there is one.
REDIS = SimpleNamespace(errors=Counter(), skipped=0)
SECOND = SimpleNamespace(hits=1, misses=2, written=3, dropped=4, refused=Counter())
#: What Prometheus adds to each series, or has of itself.
PROMETHEUS = {"job", "instance", "up"}
WORDS = {"by", "on", "or", "and", "unless", "without", "ignoring"}
_STRING = re.compile(r'"[^"]*"')
_SELECTOR = re.compile(r"\b([a-z_:][a-z0-9_:]*)\{([^}]*)\}")
_MATCHER = re.compile(r'([a-z_]+)(=~|!=|!~|=)"([^"]*)"')
_GROUPED = re.compile(r"\b(?:by|on|without|ignoring) \(([^)]*)\)")
_NAME = re.compile(r"(?<![\w:$.])[a-z_:][a-z0-9_:]*\b(?! *\()")


def dashboard() -> list[str]:
    """List the queries of the dashboard."""
    said = json.loads((DEPLOY / "grafana/bylaw.json").read_text(encoding="utf-8"))
    variables = [each["query"]["query"] for each in said["templating"]["list"] if each["type"] == "query"]
    queries = [target["expr"] for panel in said["panels"] for target in panel.get("targets", [])]
    return queries + [re.sub(r"label_values\((.*), (\w+)\)", r"count by (\2) (\1)", each) for each in variables]


def alerts() -> list[str]:
    """List the expressions of the alerts."""
    said = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text(encoding="utf-8"))
    return [rule["expr"] for group in said["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def everything(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Exposition:
    """All that there is to see: of a service over a store, of one that has been asked and refused, of what few have."""
    path = tmp_path_factory.mktemp("store") / "bylaw.db"
    urls = sqlite_urls(shutil.copy(sqlite_template, path))
    with house(urls), sidecar(urls.sidecar) as asked:
        asked.word()
        asked.word("user:nobody")
        of_store = Client(asked.port, asked.service).get("/metrics").text
    meeting = Siblings(tmp_path_factory.mktemp("meeting"), "1")
    keys = cast(Any, SimpleNamespace(problem=None))
    with_redis = cast(Any, SimpleNamespace(**vars(asked.keeper) | {"redis": REDIS, "second": SECOND}))
    others = told(keeper=with_redis, keys=keys, siblings=meeting)
    all_ = (read(of_store), others, administration())
    names = {name for each in all_ for name in each.series}
    series = {name: {labels: n for each in all_ for labels, n in each.of(name).items()} for name in names}
    return Exposition(frozenset().union(*(each.families for each in all_)), series)


def administration() -> Exposition:
    """What administration tells of, each thing counted once."""
    metrics = Metrics(ENDPOINTS)
    metrics.note_request("GET", "/admin/v1/tenants", 200, 0.1)
    metrics.note_write("tenants")
    metrics.note_refusal("no_assign")
    metrics.note_stranger(is_limited=False)
    metrics.note_statement(0.1)
    return read(metrics.written().decode())


@pytest.mark.parametrize("query", [*dashboard(), *alerts()])
def test_queries_ask_for_what_there_is(query: str, everything: Exposition) -> None:
    """Each metric and each label that dashboard and alerts name is one that a running service tells of."""
    bare = _STRING.sub("", query)
    names = set(_NAME.findall(_GROUPED.sub("", re.sub(r"\{[^}]*\}|\[[^]]*\]", "", bare)))) - WORDS
    assert names - PROMETHEUS <= everything.series.keys()
    assert names

    labels = {label for name in names for label in everything.labels(name)} | PROMETHEUS
    for name, inner in _SELECTOR.findall(query):
        for label, _, value in _MATCHER.findall(inner):
            assert label in everything.labels(name) | PROMETHEUS, f"{name} has no label {label}"
            seen = {dict(each).get(label) for each in everything.of(name)}
            assert not value.isalpha() or label in PROMETHEUS or value in seen, f"{name}: {label} is never {value}"
    for grouped in _GROUPED.findall(query):
        assert {label.strip() for label in grouped.split(",")} <= labels


@pytest.mark.parametrize("query", [*dashboard(), *alerts()])
def test_queries_are_whole(query: str) -> None:
    """Brackets and quotes of each query close in order, and counters are asked for their rate."""
    assert query.count('"') % 2 == 0
    rest = re.sub(r"[^()\[\]{}]", "", _STRING.sub("", query))
    while rest != (rest := re.sub(r"\(\)|\[\]|\{\}", "", rest)):
        pass
    assert rest == ""
    counters = re.findall(r"(\w+)\(\w+_(?:total|bucket)\b", query)
    assert len(counters) == len(re.findall(r"_(?:total|bucket)\b", query))
    assert set(counters) <= {"rate", "increase"}


def test_prometheus_finds_the_rules() -> None:
    """The example of a configuration parses, and leads to the alerts; each alert says what is wrong and how bad."""
    scrape = yaml.safe_load((DEPLOY / "prometheus/scrape.yml").read_text(encoding="utf-8"))
    rules = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text(encoding="utf-8"))

    found = [rule for group in rules["groups"] for rule in group["rules"]]
    assert [(DEPLOY / "prometheus" / name).is_file() for name in scrape["rule_files"]] == [True]
    assert {each["job_name"] for each in scrape["scrape_configs"]} == {"bylaw", "bylaw-administration"}
    assert len({rule["alert"] for rule in found}) == len(found)
    assert {rule["labels"]["severity"] for rule in found} == {"page", "ticket"}
    assert all(rule["annotations"].keys() == {"summary", "description"} for rule in found)


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    """Each panel has a place of its own on the grid, and an id."""
    panels = json.loads((DEPLOY / "grafana/bylaw.json").read_text(encoding="utf-8"))["panels"]

    squares = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(squares) == len(set(squares))
    assert max(x for x, _ in squares) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_every_metric_is_explained(everything: Exposition) -> None:
    """The page for operators has each metric, and no other."""
    page = (ROOT / "docs/operating.md").read_text(encoding="utf-8")

    named = set(re.findall(r"`((?:bylaw|process)_[a-z_]+)", page))
    assert named == everything.families
