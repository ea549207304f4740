"""What `GET /metrics` says, read as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Exposition:
    """Series by the name of their samples.

    Attributes:
        families: the names that have a head, with the suffix of a counter.
        series: values by name and labels.
    """

    families: frozenset[str]
    series: Mapping[str, Mapping[Labels, float]]

    def of(self, name: str) -> Mapping[Labels, float]:
        """Return the series of a name."""
        return self.series.get(name, {})

    def value(self, name: str, **labels: str) -> float:
        """Return the value of exactly one series."""
        return self.of(name)[tuple(sorted(labels.items()))]

    def labels(self, name: str) -> set[str]:
        """List the labels that series of a name have."""
        return {label for labels in self.of(name) for label, _ in labels}


def read(text: str) -> Exposition:
    """Read an exposition; each family must stand there once, and each series, too."""
    heads = [line.split(" ")[2] for line in text.splitlines() if line.startswith("# TYPE ")]
    assert len(heads) == len(set(heads)), "a family stands there twice"
    series: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            found = series.setdefault(sample.name, {})
            assert labels not in found, f"{sample.name}{labels} stands there twice"
            found[labels] = sample.value
    return Exposition(frozenset(heads), series)
