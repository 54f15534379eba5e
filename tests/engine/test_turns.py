"""S3.8: the order in which outcomes reach the handler."""

from __future__ import annotations

import asyncio

from taskflow.engine.tasks.suspension import TaskTree
from taskflow.engine.turns import Turns


async def test_an_outcome_that_does_not_come_holds_up_no_other() -> None:
    """Its branch lost a race while the outcome was being stored."""
    loop = asyncio.get_running_loop()
    turns = Turns(TaskTree(loop, on_stuck=lambda: None), loop)
    turns.expect("lost")
    turns.expect("next")
    taking = asyncio.ensure_future(turns.take("next"))
    await asyncio.sleep(0)
    assert not taking.done()
    turns.forget("lost")
    async with asyncio.timeout(5):
        await taking
    turns.close()
