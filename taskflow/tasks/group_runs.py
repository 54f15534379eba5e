"""GroupRuns: the runs that `group(...).delay()` has made. Rule S15.3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar, overload

from taskflow.run import Run, RunReader
from taskflow.types import Duration

T = TypeVar("T", covariant=True)


class GroupRuns(Generic[T]):
    """The handles of the members of a group, in their order. Sync methods block; each has an async twin that starts with `a`.

    runs = group(add.s(n, n) for n in range(3)).delay()
    runs.result(timeout="30s")  # [0, 2, 4]
    """

    __slots__ = ("_reader", "runs")

    def __init__(self, runs: Sequence[Run[T]], reader: RunReader) -> None:
        self.runs = list(runs)
        self._reader = reader

    def __repr__(self) -> str:
        return f"<GroupRuns of {len(self.runs)}>"

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[Run[T]]:
        return iter(self.runs)

    @overload
    def __getitem__(self, place: int) -> Run[T]: ...

    @overload
    def __getitem__(self, place: slice) -> list[Run[T]]: ...

    def __getitem__(self, place: int | slice) -> Run[T] | list[Run[T]]:
        return self.runs[place]

    def result(self, timeout: Duration | None = None) -> list[T]:
        """Wait for all ends, and return the results in the order of the members; `timeout` is for all of them together.

        Raises as `Run.result`, for the first member that has no result.
        """
        return self._reader.block_on(lambda: self.aresult(timeout))

    async def aresult(self, timeout: Duration | None = None) -> list[T]:
        """See `result`."""
        import asyncio

        return list(await asyncio.gather(*[run.aresult(timeout) for run in self.runs]))

    def cancel(self, reason: str = "cancelled by the caller") -> int:
        """Cancel the members that have not ended; return how many."""
        return self._reader.block_on(lambda: self.acancel(reason))

    async def acancel(self, reason: str = "cancelled by the caller") -> int:
        """See `cancel`."""
        import asyncio

        return sum(await asyncio.gather(*[run.acancel(reason) for run in self.runs]))
