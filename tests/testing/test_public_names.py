"""What `taskflow.testing` offers by name."""

from __future__ import annotations

import pytest

import taskflow.testing

PUBLIC = {
    "Harness",
    "SyncHarness",
    "HarnessRun",
    "Sent",
    "CheckedRun",
    "CheckedStep",
    "Stub",
    "StubCall",
    "VirtualClock",
    "check_middleware",
}


def test_public_names_are_these_and_can_be_imported() -> None:
    assert set(taskflow.testing.__all__) == PUBLIC == set(taskflow.testing.MODULES)
    for name in PUBLIC:
        assert getattr(taskflow.testing, name).__name__ == name
    assert set(dir(taskflow.testing)) >= PUBLIC


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Mock'"):
        taskflow.testing.Mock  # noqa: B018
