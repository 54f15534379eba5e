"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

POLL_S = 0.001


async def until(condition: Callable[[], object], *, description: str, deadline_s: float = 5.0) -> None:
    """Return when the condition is true; AssertionError, with the description, after `deadline_s`."""
    give_up_at = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < give_up_at, f"waited {deadline_s:g} s in vain: {description}"
        await asyncio.sleep(POLL_S)
