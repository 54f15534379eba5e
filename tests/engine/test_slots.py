"""S4.3: what a run took, the process has again when it has left, however often it is given back."""

from __future__ import annotations

import asyncio

from taskflow.engine.slots import RunSlots, Slots
from taskflow.engine.tasks.suspension import TaskTree


def make(count: int) -> tuple[Slots, RunSlots, list[int]]:
    """A process with a run in one of its slots, and how many were free each time that one came free."""
    loop = asyncio.get_running_loop()
    told: list[int] = []
    slots = Slots(count, loop, on_free=lambda: told.append(slots.free))
    assert slots.reserve(1) == 1
    return slots, RunSlots(slots, TaskTree(loop, on_stuck=lambda: None)), told


async def test_no_more_slots_are_set_aside_than_are_free() -> None:
    slots = Slots(3, asyncio.get_running_loop())
    assert [slots.reserve(2), slots.reserve(2), slots.reserve(2)] == [2, 1, 0]
    slots.give_back(3)
    assert slots.free == slots.count == 3


async def test_the_slot_of_a_run_is_given_back_once() -> None:
    slots, run, told = make(1)
    run.give_back_own()
    run.give_back_own()
    assert slots.free == 1
    assert told == [1]


async def test_the_slot_of_a_parallel_step_is_given_back_once() -> None:
    slots, run, _ = make(2)
    extra = run.extra()
    assert extra.done()
    assert slots.free == 0
    run.give_back(extra)
    run.give_back(extra)
    assert slots.free == 1


async def test_a_step_that_waits_goes_before_runs() -> None:
    slots, run, told = make(1)
    extra = run.extra()
    assert not extra.done()
    run.give_back_own()
    assert extra.done()
    assert (slots.free, told) == (0, [])
    run.give_back(extra)
    assert (slots.free, told) == (1, [1])


async def test_who_gives_up_waiting_gets_no_slot() -> None:
    slots, run, _ = make(1)
    extra = run.extra()
    run.give_back(extra)
    run.give_back_own()
    assert slots.free == 1


async def test_a_slot_that_came_while_its_step_gave_up_is_not_lost() -> None:
    slots, run, _ = make(1)
    extra = run.extra()
    run.give_back_own()
    assert extra.done(), "it came"
    run.give_back(extra)
    assert slots.free == 1


async def test_slots_serve_the_first_who_waits_first() -> None:
    _, run, _ = make(1)
    first, second = run.extra(), run.extra()
    run.give_back_own()
    assert (first.done(), second.done()) == (True, False)
    run.give_back(first)
    assert second.done()


async def test_a_run_is_busy_while_any_of_its_steps_executes() -> None:
    _, run, _ = make(1)
    busy = []

    async def step(turns: int) -> None:
        run.begin()
        for _ in range(turns):
            await asyncio.sleep(0)
        run.end()
        run.end()
        busy.append(run.is_busy)

    await asyncio.gather(step(1), step(2))
    assert busy == [True, False]
    assert not run.busy


async def test_the_slot_of_a_run_serves_one_step_after_the_other() -> None:
    """S4.4: before, steps that found the process full waited for another one, beside the slot of their own run."""
    slots, run, _ = make(1)
    run.begin()
    first, second = run.extra(), run.extra()
    run.lend()
    assert not first.done(), "a step executes in it"
    run.end()
    run.lend()
    assert (first.done(), second.done()) == (True, False)
    run.give_back(first)
    assert second.done()
    run.give_back(second)
    assert slots.free == 0, "the run has it still"
    run.give_back_own()
    assert slots.free == 1


async def test_the_slot_of_a_step_comes_free_with_its_end() -> None:
    slots, run, _ = make(2)
    extra = run.extra()
    run.begin()
    run.occupy(extra)
    run.end()
    assert slots.free == 1
    run.give_back(extra)
    assert slots.free == 1
