from __future__ import annotations

import pytest

from tests.commands.shell import Shell


@pytest.fixture
def shell(valkey_url: str, namespace: str) -> Shell:
    """A user's shell in which TASKFLOW_* names this test's servers."""
    return Shell(
        {"TASKFLOW_STORE": valkey_url, "TASKFLOW_BROKER": valkey_url, "TASKFLOW_NAMESPACE": namespace}
    )
