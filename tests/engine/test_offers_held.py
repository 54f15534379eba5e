"""S9.4: a slot that comes while the store is asked to suspend the run begins no step: the claim may be gone already."""

from __future__ import annotations

import asyncio

from taskflow.engine.offers import Offers, Place
from taskflow.engine.parking import Parking
from taskflow.engine.slots import RunSlots, Slots
from taskflow.engine.tasks.suspension import TaskTree
from taskflow.engine.turns import Turns
from taskflow.store.claims import Verdict
from taskflow.store.operation import STEP, WAIT, Operation
from tests.engine.test_journal import journal as new_journal
from tests.engine.test_owned import own
from tests.store.scene import NOW_MS, Scene, sleep_op


class Waiting:
    """A run of a full process. One of its steps waits for a slot; the run itself sleeps in the store."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    async def begin(self) -> None:
        loop = asyncio.get_running_loop()
        owned, _ = own(self.scene, await self.scene.claimed_run())
        await owned.park([sleep_op()], suspend=False, joins={})
        self.slots = Slots(1, loop)
        assert self.slots.reserve(1) == 1
        tree = TaskTree(loop, on_stuck=lambda: None)
        journal = new_journal()
        self.parking = Parking(journal, owned, tree, Turns(tree, loop))
        self.offers = Offers(
            journal, owned, self.parking, tree, RunSlots(self.slots, tree), loop=loop, is_limited=False
        )
        step = self.offers.find_slot("step", Operation(STEP, WAIT, 0), lambda _: None)
        self.step: asyncio.Task[Place] = loop.create_task(step)
        await asyncio.sleep(0)

    async def suspend_while_a_slot_comes(self) -> Verdict:
        suspending = self.parking.suspend()
        self.slots.give_back()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not self.step.done()
        return await suspending

    async def end(self) -> None:
        self.offers.close()
        self.step.cancel()
        await asyncio.wait([self.step])


async def test_the_step_begins_when_the_run_was_not_suspended(scene: Scene) -> None:
    run = Waiting(scene)
    await run.begin()
    scene.now_ms = NOW_MS + 60_000
    assert await scene.fire() == 1
    assert await run.suspend_while_a_slot_comes() is Verdict.DIRTY
    run.offers.go_on()
    assert (await run.step).slot is not None
    await run.end()


async def test_the_step_gives_its_slot_back_when_the_run_was_suspended(scene: Scene) -> None:
    run = Waiting(scene)
    await run.begin()
    assert await run.suspend_while_a_slot_comes() is Verdict.PARKED
    assert run.slots.free == 0
    await run.end()
    assert run.slots.free == 1
