"""Cancel runs in bulk: by function, status, time, and CEL over their event. Rule S6.1.

Runs are looked at newest first, a page at a time, and those of a page are cancelled in one round trip. What was broken off is
asked for again: runs that have ended, or are asked to end, are left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypedDict

from taskflow.errors import ConfigError
from taskflow.expressions.cel import compile_expression
from taskflow.runs.selection import LIVE, Past, Selection, parse_past_ms, selected_runs
from taskflow.store.control import cancel_reason
from taskflow.store.hints import Hint
from taskflow.store.session import StoreSession
from taskflow.values.clock import Clock

CANCELLED = ("cancelled", "requested")  # what cancelling a run may come to when it had not ended


class LiveRuns(TypedDict, total=False):
    """Which live runs `cancel_runs` cancels.

    status        one or several of scheduled, queued, running, waiting; all unless given
    since, until  when they were made: "1h" is an hour ago; also a timedelta, an aware datetime, ISO-8601 text
    if_exp        CEL over their event
    """

    status: str | Sequence[str] | None
    since: Past | None
    until: Past | None
    if_exp: str | None


def select_live(
    functions: Sequence[str],
    *,
    status: str | Sequence[str] | None = None,
    since: Past | None = None,
    until: Past | None = None,
    if_exp: str | None = None,
    now_ms: int,
) -> Selection:
    """The runs of these functions that a user wants to cancel. Raises ConfigError, InvalidDuration."""
    statuses = LIVE if status is None else frozenset([status] if isinstance(status, str) else status)
    if not statuses or not statuses <= LIVE:
        raise ConfigError(
            f"cancel_runs: status must name statuses of runs that have not ended ({', '.join(sorted(LIVE))}), got {status!r:.80}"
        )
    return Selection(
        functions=functions,
        statuses=statuses,
        since_ms=None if since is None else parse_past_ms(since, now_ms=now_ms, what="cancel_runs: since"),
        until_ms=None if until is None else parse_past_ms(until, now_ms=now_ms, what="cancel_runs: until"),
        condition=None if if_exp is None else compile_expression(if_exp, what="cancel_runs: if_exp"),
    )


async def count_live(session: StoreSession, selection: Selection) -> int:
    """How many runs it would be. Raises StoreUnavailable."""
    return sum([len(page) async for page in live_pages(session, selection)])


async def cancel_live(
    session: StoreSession,
    selection: Selection,
    *,
    reason: str,
    clock: Clock,
    tell: Callable[[Sequence[Hint]], Awaitable[None]],
    on_progress: Callable[[int], object] = lambda done: None,
) -> int:
    """Cancel these runs; how many. `on_progress` is told how many there were so far. Raises StoreUnavailable."""
    body, found, count = cancel_reason(reason), 0, 0
    async for page in live_pages(session, selection):
        async with session.deadline() as store:
            replies = await asyncio.gather(
                *[store.routing.cancel(run_id, reason=body, now_ms=clock.now_ms()) for run_id in page]
            )
        await tell([hint for _, hints in replies for hint in hints])
        count += sum(outcome in CANCELLED for outcome, _ in replies)
        found += len(page)
        on_progress(found)
    return count


async def live_pages(session: StoreSession, selection: Selection) -> AsyncIterator[list[str]]:
    """The runs of the selection that nobody has asked to end so far."""
    pages = selected_runs(await session.store(), selection, "cancel")
    while True:
        async with session.deadline():
            page = await anext(pages, None)
        if page is None:
            return
        if run_ids := [run_id for run_id, fields in page if "cancel" not in fields]:
            yield run_ids
