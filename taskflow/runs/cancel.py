"""Cancels runs in bulk: by function, status, time, and CEL over their event. Rule S6.1.

Runs are read newest first, a page at a time; a script cancels up to fifty of them. If the process dies, call again: runs
that have ended, or were asked to end, are left out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypedDict

from taskflow.errors import ConfigError
from taskflow.expressions.cel import compile_expression
from taskflow.runs.selection import LIVE, Past, Selection, parse_past_ms, selected_runs
from taskflow.store.control import cancel_reason
from taskflow.store.hints import Hint
from taskflow.store.session import StoreSession
from taskflow.values.clock import Clock

CANCELLED = ("cancelled", "requested")  # the script's replies for a run that had not ended


class LiveRuns(TypedDict, total=False):
    """The options that say which live runs `cancel_runs` cancels.

    status        one or several of scheduled, queued, running, waiting; by default all of these
    since, until  the time when the runs were made: "1h" (an hour ago), a timedelta, an aware datetime, or ISO-8601 text
    if_exp        CEL over the runs' event
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
    """Check the options of `cancel_runs`, and make the selection of runs. Raises ConfigError, InvalidDuration."""
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
    """The number of runs that `cancel_live` would cancel. Raises StoreUnavailable."""
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
    """Cancel these runs; return how many. `on_progress` gets the number of runs so far. Raises StoreUnavailable."""
    body, found, count = cancel_reason(reason), 0, 0
    async for page in live_pages(session, selection):
        while page:
            async with session.deadline() as store:
                outcomes, hints = await store.routing.cancel(page, reason=body, now_ms=clock.now_ms())
            await tell(hints)
            count += sum(outcome in CANCELLED for outcome in outcomes)
            found += len(outcomes)
            on_progress(found)
            page = page[len(outcomes) :]
    return count


async def live_pages(session: StoreSession, selection: Selection) -> AsyncIterator[list[str]]:
    """The runs of the selection, page by page, without those that were asked to end already."""
    pages = selected_runs(await session.store(), selection, "cancel")
    while True:
        async with session.deadline():
            page = await anext(pages, None)
        if page is None:
            return
        if run_ids := [run_id for run_id, fields in page if "cancel" not in fields]:
            yield run_ids
