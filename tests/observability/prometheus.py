"""Reads what /metrics answers, as Prometheus does."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from taskflow.observability.families import FAMILIES
from taskflow.observability.metrics import CONTENT_TYPE


@dataclass(frozen=True)
class Scrape:
    """The rows of one answer: (name, labels as sorted pairs) -> value."""

    rows: dict[tuple[str, tuple[tuple[str, str], ...]], float]

    def value(self, name: str, **labels: str) -> float | None:
        """The value of one row; None if there is none."""
        return self.rows.get((name, tuple(sorted(labels.items()))))

    def total(self, name: str, **labels: str) -> float:
        """The sum of the rows of a name that have these labels, and perhaps others."""
        return sum(
            value for (each, pairs), value in self.rows.items() if each == name and labels.items() <= dict(pairs).items()
        )  # fmt: skip

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.rows}

    def label_values(self) -> Iterator[str]:
        for _, pairs in self.rows:
            for _, value in pairs:
                yield value


def parse(text: str) -> Scrape:
    """Raises ValueError for what Prometheus would refuse, and AssertionError for a family that is not declared so."""
    rows: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for family in text_string_to_metric_families(text):
        declared = FAMILIES.get(family.name) or FAMILIES[f"{family.name}_total"]
        assert (family.type, family.documentation) == (declared.kind, declared.help)
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in rows, f"{key} stands there twice"
            assert set(sample.labels) - {"le"} == set(declared.labels)
            rows[key] = sample.value
    return Scrape(rows)


def scrape(port: int) -> Scrape:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        assert (response.status, response.getheader("Content-Type")) == (200, CONTENT_TYPE)
        return parse(response.read().decode())
    finally:
        connection.close()
