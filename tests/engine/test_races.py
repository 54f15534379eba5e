"""S3.7: branches that lose a race, and those that lost it before."""

from __future__ import annotations

import asyncio

import pytest

from taskflow.engine.races import Races
from taskflow.engine.slots import RunSlots, Slots
from taskflow.engine.tasks.suspension import TaskTree


def make() -> tuple[Races, RunSlots]:
    loop = asyncio.get_running_loop()
    tree = TaskTree(loop, on_stuck=lambda: None)
    slots = RunSlots(Slots(1, loop), tree)
    return Races(tree, slots), slots


async def test_a_loser_that_waits_is_cancelled() -> None:
    races, _ = make()
    waiting = asyncio.ensure_future(asyncio.Event().wait())
    await asyncio.sleep(0)
    races.cancel_losers([waiting])
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_loser_that_executes_a_step_ends_it_and_calls_no_other() -> None:
    races, slots = make()
    go_on = asyncio.Event()
    ended: list[str] = []

    async def branch() -> None:
        slots.begin()
        await go_on.wait()
        ended.append("step")
        slots.end()
        races.check()
        ended.append("next step")

    task = asyncio.ensure_future(branch())
    await asyncio.sleep(0)
    races.cancel_losers([task])
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["step"]


async def test_losers_of_a_race_that_is_not_decided_again_go_on() -> None:
    """S4.5: the code, or what it saw outside its steps, has changed."""
    races, _ = make()
    losing = asyncio.ensure_future(races.lose_again())
    await asyncio.sleep(0)
    assert races.revive()
    await losing
    assert not races.revive(), "nobody rests any more"
