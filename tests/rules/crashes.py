"""A worker process that dies in the middle, within this process: nothing more of it reaches the store.

doomed = await Doomed.start(app, harness, cut=Cut(after=7, loses_reply=True))
...
await doomed.give_up()      # what its supervisor or beat does: hand back its claims
...
await doomed.bury()
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from taskflow.app import TaskFlow
from taskflow.errors import StoreUnavailable
from taskflow.redis.connection import Argument
from taskflow.redis.scripts import load_scripts
from taskflow.store.store import PACKAGE
from taskflow.testing import Harness
from taskflow.worker.child.runner import AppRunner, RunnerOptions

DEAD = StoreUnavailable("this process is dead")


@dataclass(kw_only=True)
class Cut:
    """When the process dies: once it has sent `after` commands to the store.

    `loses_reply`: the last of them is carried out, but its reply is not seen any more.
    """

    after: int
    loses_reply: bool = False
    sent: int = 0
    names: list[str] = field(default_factory=list)  # of the commands that were sent
    is_dead: bool = False


class Doomed:
    """A worker process with a cut in its line to the store."""

    def __init__(self, worker: AppRunner, harness: Harness, cut: Cut) -> None:
        self.worker = worker
        self.harness = harness
        self.cut = cut
        self.lost: list[asyncio.Future[Any]] = []
        self.is_buried = False
        client = worker.store.client
        self.send, self.send_together = client.call, client.call_together
        client.call, client.call_together = self.call, self.call_together  # type: ignore[method-assign]

    @classmethod
    async def start(cls, app: TaskFlow, harness: Harness, *, cut: Cut) -> Self:
        worker = new_worker(app, harness)
        await worker.start()
        return cls(worker, harness, cut)

    def call(self, *command: Argument) -> asyncio.Future[Any]:
        return self.cut_off(command, lambda: self.send(*command))

    def call_together(self, head: tuple[Argument, ...], *item: Argument) -> asyncio.Future[Any]:
        return self.cut_off(head, lambda: self.send_together(head, *item))

    def cut_off(
        self, command: tuple[Argument, ...], send: Callable[[], asyncio.Future[Any]]
    ) -> asyncio.Future[Any]:
        cut = self.cut
        if cut.is_dead or cut.sent >= cut.after:
            cut.is_dead = True
            return self.no_reply()
        cut.sent += 1
        cut.names.append(name_of(command))
        reply = send()
        if cut.sent < cut.after or not cut.loses_reply:
            return reply
        cut.is_dead = True
        reply.add_done_callback(lambda done: done.cancelled() or done.exception())
        return self.no_reply()

    def no_reply(self) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.is_buried:
            future.set_exception(DEAD)
        else:
            self.lost.append(future)
        return future

    def kill(self) -> None:
        """Die now, if not dead yet."""
        self.cut.is_dead = True

    async def give_up(self, cause: str = "killed by signal 9") -> int:
        """Hand back what the dead process holds, as its supervisor does. Returns how many runs."""
        self.kill()
        await self.worker.consumer.close(2.0)
        count, _ = await self.harness.store.claims.hand_back(
            self.worker.child_id,
            [],
            crashed=True,
            cause=cause,
            now_ms=self.harness.clock.now_ms(),
            tells=False,
        )
        return count

    async def bury(self) -> None:
        """Clear away the tasks and threads of the dead process."""
        self.kill()
        self.is_buried = True
        for future in self.lost:
            if not future.done():
                future.set_exception(DEAD)
                future.exception()
        for execution in list(self.worker.executor.executions.values()):
            execution.tree.unwind()
            await execution.tree.unwound()
        await self.worker.close()


def name_of(command: tuple[Argument, ...]) -> str:
    """The script's name, or the command's."""
    if command[0] != b"EVALSHA":
        return str(command[0])
    return next(script.name for script in load_scripts(PACKAGE).values() if script.sha.encode() == command[1])


def new_worker(app: TaskFlow, harness: Harness, *, concurrency: int = 100) -> AppRunner:
    """A worker process besides those of the harness."""
    return AppRunner(
        app,
        RunnerOptions(concurrency=concurrency),
        child_id=f"other-{os.urandom(4).hex()}:0",
        clock=harness.clock,
    )
