"""One Valkey for the simulations of each pytest process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation.server import OwnServer, StoreServer


@pytest.fixture(scope="session")
def server() -> Iterator[StoreServer]:
    with OwnServer() as server:
        yield server
