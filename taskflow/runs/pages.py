"""RunPages: reads the runs of some functions page by page, newest first. No read grows with the history."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from taskflow.store.history import ENDED_KINDS, LIVE
from taskflow.store.store import Store

PAGE = 100  # runs in one round trip


@dataclass(slots=True)
class FunctionHistory:
    """Reads the runs of one function, newest first; from `oldest_ms` backwards, if that is given."""

    store: Store
    function: str
    since_ms: int | None
    # (created ms, run id): only older runs are read, and of runs of the same ms those whose id sorts below
    before: tuple[int, str] | None = None
    # the index to read: of all runs ("") or of one kind
    kind: str = ""
    # (run id, created ms) of runs that were read but not yet taken
    head: deque[tuple[str, int]] = field(default_factory=deque)
    oldest_ms: int | None = None
    # ids of the runs of `oldest_ms` that were read: a page may end between runs of one ms
    at_oldest: set[str] = field(default_factory=set)
    page: int = PAGE
    is_exhausted: bool = False

    async def fill(self) -> None:
        """Read until `head` has the next run, if there is one."""
        while not self.head and not self.is_exhausted:
            before_ms = None if self.oldest_ms is None else self.oldest_ms + 1
            rows = await self.store.history.recent_runs(
                self.function, limit=self.page, kind=self.kind, before_ms=before_ms, since_ms=self.since_ms
            )
            new = [row for row in rows if row[0] not in self.at_oldest and self.is_older(row)]
            self.is_exhausted = len(rows) < self.page
            if not new:
                self.page *= 2  # all runs of the page are of one millisecond, and were read before
                continue
            if new[-1][1] != self.oldest_ms:
                self.oldest_ms, self.at_oldest = new[-1][1], set()
            self.at_oldest |= {run_id for run_id, at_ms in new if at_ms == self.oldest_ms}
            self.head.extend(new)

    def is_older(self, row: tuple[str, int]) -> bool:
        run_id, at_ms = row
        return self.before is None or (at_ms, run_id) < self.before


class RunPages:
    """Reads the runs of some functions that were made from `since_ms` to `until_ms` (ms since the epoch, both included).

    With `statuses` it reads the indexes in which runs of these statuses stand. `before`, the (created ms, run id) of a run, goes on
    after that run.
    """

    def __init__(
        self,
        store: Store,
        functions: Sequence[str],
        *,
        since_ms: int | None = None,
        until_ms: int | None = None,
        statuses: Collection[str] = (),
        before: tuple[int, str] | None = None,
    ) -> None:
        newest_ms = until_ms if before is None else before[0]
        self.functions = [
            FunctionHistory(store, each, since_ms, before, kind, oldest_ms=newest_ms)
            for each in functions
            for kind in kinds_of(statuses)
        ]

    async def next(self, count: int = PAGE) -> list[str]:
        """The next `count` run ids of all functions, newest first; fewer at the end, and then none."""
        taken: list[str] = []
        while len(taken) < count:
            await asyncio.gather(
                *[one.fill() for one in self.functions if not one.head and not one.is_exhausted]
            )
            filled = [one for one in self.functions if one.head]
            if not filled:
                break
            taken.append(max(filled, key=lambda one: one.head[0][::-1]).head.popleft()[0])
        return taken


def kinds_of(statuses: Collection[str]) -> list[str]:
    """The indexes in which runs of these statuses stand. Completed runs stand only in the index of all runs."""
    if not statuses or "completed" in statuses:
        return [""]
    kinds = [kind for kind in ENDED_KINDS if kind in statuses]
    return [*kinds, LIVE] if len(kinds) < len(set(statuses)) else kinds
