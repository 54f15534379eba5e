"""RunPages: reads the runs of some functions, or of all, page by page. No read grows with the history."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from taskflow.store.listing import Place
from taskflow.store.store import Store

PAGE = 100  # runs in one round trip


class RunPages:
    """Reads the runs of some functions (None: of all) that were made from `since_ms` to `until_ms`, both included, newest first.

    Times are ms since the epoch. With `statuses` only runs of these statuses, as they were when they were listed. `place` is where
    the next page begins: at first after `after`, and None once it is over.
    """

    def __init__(
        self,
        store: Store,
        functions: Sequence[str] | None,
        *,
        since_ms: int | None = None,
        until_ms: int | None = None,
        statuses: Collection[str] = (),
        after: Place | None = None,
        oldest_first: bool = False,
    ) -> None:
        self.store = store
        self.functions = functions
        self.since_ms = since_ms
        self.until_ms = until_ms
        self.statuses = statuses
        self.oldest_first = oldest_first
        self.place = after
        self.is_over = False

    async def look(self, count: int = PAGE) -> list[str]:
        """The next run ids, `count` at most, in one round trip; maybe none, while others come later."""
        if self.is_over:
            return []
        listed = await self.store.listing.page(
            self.functions, limit=count, statuses=self.statuses, after=self.place, since_ms=self.since_ms,
            until_ms=self.until_ms, oldest_first=self.oldest_first,
        )  # fmt: skip
        self.place = listed.next
        self.is_over = listed.next is None
        return listed.run_ids

    async def next(self, count: int = PAGE) -> list[str]:
        """The next run ids, `count` at most; none only at the end."""
        run_ids: list[str] = []
        while not run_ids and not self.is_over:
            run_ids = await self.look(count)
        return run_ids
