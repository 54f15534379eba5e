"""Apps whose own servers don't exist: what they reach, they reach through the Harness."""

from __future__ import annotations

import pytest

from taskflow.app import TaskFlow

NOBODY = "redis://127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def servers_of_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is for users: the embedded Valkey is the default."""
    monkeypatch.delenv("TASKFLOW_TEST_SERVERS", raising=False)


@pytest.fixture
def shop() -> TaskFlow:
    return TaskFlow("shop", broker=NOBODY, store=NOBODY, send_timeout="1s")
