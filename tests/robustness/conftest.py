"""Deployments on this process's shared Valkey; tests that hurt a server start one of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.robustness.deployment import Deployment

Measure = Callable[[str, float], None]


@pytest.fixture
def deployment(tmp_path: Path, valkey_url: str, namespace: str) -> Iterator[Deployment]:
    with Deployment(tmp_path, store=valkey_url, broker=valkey_url, namespace=namespace) as deployed:
        yield deployed


@pytest.fixture
def measure(record_property: Callable[[str, object], None]) -> Measure:
    """Notes a duration in the report of the tests (`--junit-xml`), and prints it (`-s`, or when the test fails)."""

    def note(what: str, seconds: float) -> None:
        record_property(what, round(seconds, 3))
        print(f"measured: {what}: {seconds:.2f} s")  # noqa: T201

    return note
