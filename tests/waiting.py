"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

POLL_S = 0.001


async def until(
    condition: Callable[[], object | Awaitable[object]], *, description: str, deadline_s: float = 5.0
) -> None:
    """Return when the condition, sync or async, is true; AssertionError, with the description, after `deadline_s`."""
    give_up_at = time.monotonic() + deadline_s
    while True:
        value = condition()
        if await value if inspect.isawaitable(value) else value:
            return
        assert time.monotonic() < give_up_at, f"waited {deadline_s:g} s in vain: {description}"
        await asyncio.sleep(POLL_S)
