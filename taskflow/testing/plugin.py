"""The pytest plugin: fixtures that start the embedded Valkey once, before the tests that need it.

Pytest loads this in every project that has taskflow installed, so it imports nothing of taskflow before a test asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from taskflow.testing.blocking import SyncHarness
    from taskflow.testing.harness import Harness


@pytest.fixture(scope="session")
def taskflow_valkey() -> Iterator[str]:
    """The URL of an embedded Valkey that all tests of this process share. Each Harness has a database of its own; 0 is free."""
    from taskflow.testing.valkey import process_valkey

    valkey = process_valkey().start()
    yield valkey.url
    valkey.remove()


@pytest.fixture
def make_harness(taskflow_valkey: str) -> type[Harness]:
    """`Harness`, with its Valkey started: `async with make_harness(app) as harness:`."""
    from taskflow.testing.harness import Harness

    return Harness


@pytest.fixture
def make_sync_harness(taskflow_valkey: str) -> type[SyncHarness]:
    """`SyncHarness`, with its Valkey started: `with make_sync_harness(app) as harness:`."""
    from taskflow.testing.blocking import SyncHarness

    return SyncHarness
