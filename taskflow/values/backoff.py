"""Backoff: how long to wait before the next try to reach a server (broker, store) that may be down for long."""

from __future__ import annotations

INITIAL_S, MAXIMUM_S = 0.05, 5.0


def backoff_s(failures: int, jitter: float) -> float:
    """The delay in seconds after `failures` failed tries: it doubles up to 5 s; `jitter` in [0, 1) takes off up to half of it."""
    ceiling = min(INITIAL_S * 2.0 ** min(failures, 20), MAXIMUM_S)
    return ceiling * (1 - jitter / 2)
