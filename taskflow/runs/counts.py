"""Counts runs by function and status, from counts and lists that the store keeps. Rule S10.8."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from taskflow.run import RunStatus
from taskflow.store.history import ENDED_KINDS
from taskflow.store.store import Store
from taskflow.values.record import record


@record
class RunCounts:
    """Numbers of runs by status; runs that have ended count as long as they are kept."""

    by_status: Mapping[RunStatus, int]

    def of(self, statuses: Collection[str] = ()) -> int:
        """How many runs have one of these statuses; without a status, how many there are."""
        return sum(count for status, count in self.by_status.items() if not statuses or status in statuses)

    @property
    def live(self) -> int:
        """How many runs have not ended."""
        return sum(count for status, count in self.by_status.items() if not status.is_final)

    def to_json(self) -> dict[str, int]:
        return {status.value: count for status, count in self.by_status.items()}

    def __str__(self) -> str:
        """The counts as text: "2 queued, 1,013 completed"."""
        return ", ".join(f"{count:,} {status}" for status, count in self.by_status.items() if count)


async def count_runs(store: Store, functions: Sequence[str]) -> dict[str, RunCounts]:
    """Function -> numbers of its runs. Takes one or two round trips, however long the history is."""
    live, rows = await asyncio.gather(
        store.history.live_counts(), asyncio.gather(*[count_ended(store, each) for each in functions])
    )
    living: Counter[tuple[str, str]] = Counter()
    for each in live:
        living[each.function_id, each.status] += each.runs
    found = {}
    for function_id, (kept, ended) in zip(functions, rows, strict=True):
        counts = {status: ended.get(status, living[function_id, status]) for status in RunStatus}
        # No list has the completed runs. A run that ends between two replies must not make their number negative.
        counts[RunStatus.COMPLETED] = max(0, kept - sum(counts.values()))
        found[function_id] = RunCounts(counts)
    return found


async def count_ended(store: Store, function_id: str) -> tuple[int, dict[str, int]]:
    """The number of all runs of the function that are kept, and the numbers of those kinds that have a list of their own."""
    kept, *ended = await asyncio.gather(
        *[store.history.count_runs(function_id, kind=kind) for kind in ("", *ENDED_KINDS)]
    )
    return kept, dict(zip(ENDED_KINDS, ended, strict=True))


async def count_all(store: Store, functions: Sequence[str] | None = None) -> RunCounts:
    """The numbers of the runs of these functions, or of all, by status. One round trip."""
    live, ended = await asyncio.gather(store.history.live_counts(), store.listing.count(functions))
    wanted = None if functions is None else set(functions)
    living = Counter[str]()
    for each in live:
        if wanted is None or each.function_id in wanted:
            living[each.status] += each.runs
    counts = {status: ended.get(status, living[status]) for status in RunStatus}
    # As above.
    counts[RunStatus.COMPLETED] = max(0, ended[""] - sum(counts.values()))
    return RunCounts(counts)
