"""The soft limit of the attempt that executes: a task's handler passes its code through it. Apart, as it needs no event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol


class Guard(Protocol):
    """Raises an error in the code of a task when that takes too long."""

    def call(self, code: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call the code in the present thread."""
        ...

    async def guarded(self, work: Awaitable[Any]) -> Any:
        """Await the code in the present task."""
        ...


current_limit: ContextVar[Guard | None] = ContextVar("taskflow_soft_limit", default=None)
