"""S9.8: a run under which processes died is refused, or executes while no other such run does."""

from __future__ import annotations

import asyncio

import pytest

from taskflow.engine.trial import Trial
from taskflow.errors import WorkerLost
from tests.engine.test_owned import own
from tests.store.scene import Scene


async def test_a_run_that_has_used_up_its_crashes_is_refused(scene: Scene) -> None:
    run, _ = own(scene, await scene.claimed_run())
    with pytest.raises(WorkerLost, match="died 3 times while it executed this run without progress"):
        await Trial(3, max_crashes=3, lock=asyncio.Lock()).check_crashes(run)
    await Trial(2, max_crashes=3, lock=asyncio.Lock()).check_crashes(run)


async def test_runs_with_one_crash_left_execute_one_at_a_time(scene: Scene) -> None:
    lock = asyncio.Lock()
    first, second = (Trial(2, max_crashes=3, lock=lock) for _ in range(2))
    run, _ = own(scene, await scene.claimed_run("r1"))
    other, _ = own(scene, await scene.claimed_run("r2"))
    assert await first.begin(run)
    waiting = asyncio.ensure_future(second.begin(other))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    first.end()
    first.end()
    assert await waiting
    second.end()
    assert not lock.locked()


async def test_a_run_with_crashes_to_spare_waits_for_nobody(scene: Scene) -> None:
    lock = asyncio.Lock()
    run, _ = own(scene, await scene.claimed_run())
    async with lock:
        assert await Trial(1, max_crashes=3, lock=lock).begin(run)


async def test_who_lost_the_claim_begins_no_trial(scene: Scene) -> None:
    run, _ = own(scene, await scene.claimed_run())
    await run.hand_back()
    trial = Trial(2, max_crashes=3, lock=asyncio.Lock())
    assert not await trial.begin(run)
    trial.end()
    assert not trial.lock.locked()
