"""How long to wait before the next try at something that may be away for long: a broker, a store."""

from __future__ import annotations

INITIAL_S, MAXIMUM_S = 0.05, 5.0


def backoff_s(failures: int, jitter: float) -> float:
    """Delay before the next try: doubles up to the maximum; `jitter` in [0, 1) takes off up to half of it."""
    ceiling = min(INITIAL_S * 2.0 ** min(failures, 20), MAXIMUM_S)
    return ceiling * (1 - jitter / 2)
