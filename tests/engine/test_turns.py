"""S3.8: the order in which outcomes reach the handler."""

from __future__ import annotations

import asyncio

from taskflow.engine.tasks.suspension import TaskTree
from taskflow.engine.tasks.tagging import install_task_factory
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


async def test_what_was_passed_over_still_comes_before_what_is_newer() -> None:
    """S4.5: the call that the handler makes first was given up last time, and has got its outcome from the store since."""
    loop = asyncio.get_running_loop()
    install_task_factory(loop)
    tree = TaskTree(loop, on_stuck=lambda: None)
    turns = Turns(tree, loop)
    turns.load(["first", "second", "given up", "slept"], 4)
    got: list[str] = []

    async def branch(key: str) -> None:
        await turns.take(key)
        got.append(key)

    async def handler() -> None:
        await turns.take("given up")
        await asyncio.gather(*(branch(key) for key in ("slept", "second", "first")))

    async with asyncio.timeout(5):
        await tree.start(handler())
    assert got == ["first", "second", "slept"]
    turns.close()
    tree.close()
