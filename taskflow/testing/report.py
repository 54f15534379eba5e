"""The note on a failed test: the pages of the runs that the failure is probably about."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from taskflow.run import RunStatus
from taskflow.store.store import Store
from taskflow.testing.runs import page_of

SHOWN = 3
LOOKED_AT = 20  # how many of each function's newest runs
LIMIT_S = 2.0  # the test may have stopped the servers
RANK = {RunStatus.FAILED: 0, RunStatus.CANCELLED: 1, RunStatus.SKIPPED: 1, RunStatus.COMPLETED: 3}


async def describe_runs(store: Store, function_ids: Sequence[str], *, now_ms: int, said: str) -> str:
    """The pages of some runs: failed runs first, then runs that have not ended, and the newest of each first.

    Runs whose page stands in `said` already are left out. Raises nothing.
    """
    try:
        async with asyncio.timeout(LIMIT_S):
            found = await telling_runs(store, function_ids)
            run_ids = [run_id for run_id in found if f"run      {run_id}" not in said]
            pages = [await page_of(store, run_id, now_ms=now_ms) for run_id in run_ids[:SHOWN]]
    except Exception:  # nothing may hide the error of the test itself
        return ""
    if len(run_ids) > SHOWN:
        pages.append(f"... and {len(run_ids) - SHOWN} more runs")
    return "\n\n".join(pages)


async def telling_runs(store: Store, function_ids: Sequence[str]) -> list[str]:
    found: list[tuple[int, int, str]] = []
    for function_id in function_ids:
        for run_id, created_ms in await store.history.recent_runs(function_id, limit=LOOKED_AT):
            (status,) = await store.history.fields(run_id, "status")
            rank = RANK.get(RunStatus((status or b"completed").decode()), 2)
            found.append((rank, -created_ms, run_id))
    return [run_id for _, _, run_id in sorted(found)]
