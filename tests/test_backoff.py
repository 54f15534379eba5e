"""How long to wait before the next try."""

from __future__ import annotations

from taskflow.values.backoff import backoff_s


def test_backoff_doubles_up_to_its_maximum() -> None:
    assert [backoff_s(failures, 0.0) for failures in range(9)] == [
        0.05,
        0.1,
        0.2,
        0.4,
        0.8,
        1.6,
        3.2,
        5.0,
        5.0,
    ]
    assert backoff_s(50, 0.999) > 2.5
