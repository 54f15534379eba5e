"""Lists and counts the runs of many functions at once, by scripts that merge the index of each function. Rules S10.8, S14.1.

A list costs the same few commands however many functions and runs there are, and the runs pay nothing for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import NamedTuple

from taskflow.redis.scripts import Scripts
from taskflow.store.history import ENDED_KINDS, LIVE
from taskflow.values.record import record

PARTS = 4  # scripts that share all functions: with 2,000 of them each takes the server about a millisecond
FEW = 100  # functions that one script reads
MOST_LOOKS = 1_000  # runs whose status one script reads
KINDS = ("", *ENDED_KINDS, LIVE)  # all runs, and those of each kind that has an index of its own


class Place(NamedTuple):
    """A run's place in a list of runs."""

    created_ms: int
    run_id: str


@record
class ListedRuns:
    """Runs from a list, in its order. `next` is the place after which the list goes on, or None at its end."""

    run_ids: list[str]
    next: Place | None


class Listing:
    """The scripts that read the lists of runs. `functions` are full ids; None stands for all functions that are known."""

    def __init__(self, scripts: Scripts) -> None:
        self.scripts = scripts

    async def page(
        self,
        functions: Sequence[str] | None,
        *,
        limit: int,
        statuses: Collection[str] = (),
        after: Place | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
        oldest_first: bool = False,
    ) -> ListedRuns:
        """The newest runs, or the oldest, that come after a place, and were made from `since_ms` to `until_ms`. One round trip.

        It looks at some thousand runs at most: with `statuses` it may find less than `limit`, or nothing, and still go on after
        `next`.
        """
        if functions is not None and not functions:
            return ListedRuns([], None)
        lowest: str | int = "-inf" if since_ms is None else since_ms
        highest: str | int = "+inf" if until_ms is None else until_ms
        first, last = (lowest, highest) if oldest_first else (highest, lowest)
        kinds = kinds_of(statuses)
        replies = await asyncio.gather(
            *[
                self.scripts.list_runs(
                    from_ms=first if after is None else after.created_ms,
                    from_id="" if after is None else after.run_id,
                    to_ms=last,
                    oldest_first=oldest_first,
                    limit=limit + 1,
                    most=MOST_LOOKS,
                    part=part,
                    parts=parts,
                    kinds=kinds,
                    statuses=list(statuses),
                    functions=named,
                )
                for part, parts, named in shares_of(functions)
            ]
        )
        found = sorted(
            (place_of(flat[i + 1], flat[i]) for flat, _, _ in replies for i in range(0, len(flat), 2)),
            reverse=not oldest_first,
        )
        stops = [place_of(created, run_id) for _, created, run_id in replies if created]
        # Beyond the first place at which a part stopped, runs of that part may be missing.
        stop = (min if oldest_first else max)(stops, default=None)
        if stop is not None:
            found = [place for place in found if (place <= stop if oldest_first else place >= stop)]
        run_ids = [place.run_id for place in found[:limit]]
        return ListedRuns(run_ids, found[limit - 1] if len(found) > limit else stop)

    async def count(
        self, functions: Sequence[str] | None, *, since_ms: int | None = None, until_ms: int | None = None
    ) -> dict[str, int]:
        """How many runs are kept that were made from `since_ms` to `until_ms`, by kind (KINDS). One round trip."""
        if functions is not None and not functions:
            return dict.fromkeys(KINDS, 0)
        replies = await asyncio.gather(
            *[
                self.scripts.count_runs(
                    since_ms="-inf" if since_ms is None else since_ms,
                    until_ms="+inf" if until_ms is None else until_ms,
                    part=part,
                    parts=parts,
                    functions=named,
                )
                for part, parts, named in shares_of(functions)
            ]
        )
        return dict(zip(KINDS, map(sum, zip(*replies, strict=True)), strict=True))


def shares_of(functions: Sequence[str] | None) -> list[tuple[int, int, Sequence[str]]]:
    """What each script is told of the functions: the number of its part, of how many, and the names of those that it reads."""
    if functions is None:
        return [(part, PARTS, ()) for part in range(PARTS)]
    if len(functions) <= FEW:
        return [(0, 1, functions)]
    return [(0, 1, functions[first::PARTS]) for first in range(PARTS)]


def place_of(created: bytes, run_id: bytes) -> Place:
    return Place(int(float(created)), run_id.decode())


def kinds_of(statuses: Collection[str]) -> list[str]:
    """The indexes in which runs of these statuses stand. Completed runs stand only in the index of all runs."""
    if not statuses or "completed" in statuses:
        return [""]
    kinds = [kind for kind in ENDED_KINDS if kind in statuses]
    return [*kinds, LIVE] if len(kinds) < len(set(statuses)) else kinds
