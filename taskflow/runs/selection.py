"""Selection: the runs of a bulk operation, chosen by function, status, time and CEL over the event. Rules S6.1, S10.3."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Self, TypeAlias, TypedDict

import orjson

from taskflow.errors import ConfigError, InvalidDuration
from taskflow.expressions.cel import Expression
from taskflow.run import RunStatus
from taskflow.runs.pages import RunPages
from taskflow.store.fields import text
from taskflow.store.store import Store
from taskflow.values.durations import parse_duration_ms, parse_when_ms
from taskflow.values.record import record

LIVE = frozenset(status.value for status in RunStatus if not status.is_final)

Past: TypeAlias = str | timedelta | datetime
"""A point in the past: "1d" or a timedelta (that long ago), an aware datetime, or ISO-8601 text with an offset."""


class ListedRuns(TypedDict, total=False):
    """The options that say which runs `TaskFlow.runs` lists.

    status  one or several statuses; by default all
    since   the time when the runs were made: "1h" (an hour ago), a timedelta, an aware datetime, or ISO-8601 text
    """

    status: str | Sequence[str] | None
    since: Past | None


@record(kw_only=True)
class Selection:
    """The runs of `functions` (None: of all) that were made from `since_ms` to `until_ms`, and more conditions.

    Times are ms since the epoch, both included.
    """

    functions: Sequence[str] | None
    statuses: frozenset[str]
    since_ms: int | None = None
    until_ms: int | None = None
    condition: Expression | None = None  # over `event`

    @classmethod
    def live(cls, functions: Sequence[str]) -> Self:
        """All runs of these functions that have not ended."""
        return cls(functions=functions, statuses=LIVE)


async def selected_runs(
    store: Store, selection: Selection, *names: str
) -> AsyncIterator[list[tuple[str, dict[str, bytes]]]]:
    """The selected runs, newest first and page by page, with these fields of their hashes, if they have them."""
    pages = RunPages(
        store,
        selection.functions,
        since_ms=selection.since_ms,
        until_ms=selection.until_ms,
        statuses=selection.statuses,
    )
    needed = ("status", *(("event",) if selection.condition else ()), *names)
    while run_ids := await pages.next():
        rows = await store.history.many(run_ids, needed)
        yield [
            (run_id, fields) for run_id, fields in zip(run_ids, rows, strict=True) if meets(selection, fields)
        ]


def meets(selection: Selection, fields: Mapping[str, bytes]) -> bool:
    """Whether a run has a wanted status, and its event meets the condition, if there is one."""
    if text(fields, "status") not in selection.statuses:
        return False
    return selection.condition is None or selection.condition.matches(
        orjson.loads(fields.get("event") or b"{}")
    )


def parse_past_ms(value: Past, *, now_ms: int, what: str) -> int:
    """A point in the past in ms since epoch. Raises InvalidDuration, which names `what`."""
    if isinstance(value, timedelta):
        return now_ms - parse_duration_ms(value, what=what)
    if isinstance(value, datetime) or (isinstance(value, str) and is_iso(value)):
        return parse_when_ms(value, now_ms=now_ms, what=what)
    if isinstance(value, str):
        return now_ms - parse_duration_ms(value, what=what)
    raise InvalidDuration(
        f"{what} must be how long ago, like '1d' or a timedelta, or a point in time, like an aware datetime or "
        f"'2030-01-31T12:00:00Z', got {value!r:.60}"
    )


def parse_listed(which: ListedRuns, *, now_ms: int) -> tuple[frozenset[str], int | None]:
    """Check the options of `TaskFlow.runs`: statuses (empty for all), and since when (ms). Raises ConfigError, InvalidDuration."""
    status, since = which.get("status"), which.get("since")
    statuses = frozenset([status] if isinstance(status, str) else status or ())
    if not statuses <= set(RunStatus):
        raise ConfigError(f"runs: status must name some of {', '.join(RunStatus)}, got {status!r:.80}")
    return statuses, None if since is None else parse_past_ms(since, now_ms=now_ms, what="runs: since")


def is_iso(text: str) -> bool:
    """Whether the text begins like a date: no duration has a hyphen at that place."""
    return text.strip()[4:5] == "-"
