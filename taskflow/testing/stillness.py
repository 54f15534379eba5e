"""Stillness: finds out whether anything in the engine still moves while the clock stands still. It changes nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from taskflow.beat.crons import Crons, Schedule
from taskflow.beat.service import Beat
from taskflow.broker.streams.bindings import StreamKeys
from taskflow.engine.execution import Execution
from taskflow.store.keys import SEPARATOR
from taskflow.store.store import Store
from taskflow.values.clock import Clock
from taskflow.worker.child.runner import AppRunner

MACHINERY = (str(Path(__file__).parents[1]), str(Path(asyncio.__file__).parent))
RAW_IO_S = 0.03  # a run without a sign of life for this long awaits something outside the engine


class NoCrons(Crons):
    """Crons that never fire."""

    async def read_schedules(self) -> dict[str, Schedule]:
        return {}


class WatchedBeat(Beat):
    """The real beat; it also says whether it is in the middle of a turn."""

    is_busy = False
    seen_ms = -1  # when its last turn began
    fires_crons = True

    async def start(self) -> None:
        await super().start()
        if not self.fires_crons:
            self.crons = NoCrons(self.crons.store, self.crons.send_work)

    async def run_once(self) -> int:
        self.is_busy = True
        now_ms = self.clock.now_ms()
        try:
            return await super().run_once()
        finally:
            self.is_busy, self.seen_ms = False, now_ms


class Stillness:
    """Looks for movement in the workers, beat and servers. Methods return what still moves, or "" if nothing does."""

    def __init__(
        self, *, store: Store, clock: Clock, workers: Sequence[AppRunner], beat: WatchedBeat
    ) -> None:
        self.store = store
        self.clock = clock
        self.workers = workers
        self.beat = beat
        self.resting: dict[Execution, tuple[tuple[int, int, int], float]] = {}  # their marks, and since when

    def in_process(self) -> str:
        """What still moves in the workers and in beat, or ""."""
        now_ms = self.clock.now_ms()
        self.forget_ended()
        if self.beat.is_busy or self.beat.courier.tasks:
            return "beat is in the middle of a turn"
        if self.beat.seen_ms < now_ms:
            return "beat has not seen the clock's new time"
        if any(schedule.fire_ms <= now_ms for schedule in self.beat.crons.schedules.values()):
            return "a cron is due"
        for worker in self.workers:
            moving = self.in_worker(worker)
            if moving:
                return moving
        return ""

    def forget_ended(self) -> None:
        if self.resting:
            live = {each for worker in self.workers for each in worker.executor.executions.values()}
            self.resting = {each: since for each, since in self.resting.items() if each in live}

    def in_worker(self, worker: AppRunner) -> str:
        executor = worker.executor
        for execution in executor.executions.values():
            if not self.is_at_rest(execution):
                return f"run {execution.run_id} of {execution.function.spec.id} is executing"
        if worker.intake.tasks:
            return "events are being routed"
        if worker.courier.tasks:
            return "messages are being published"
        if executor.is_claiming or (executor.wanted and executor.slots.free > 0):
            return "runs are being claimed"
        return ""

    def is_at_rest(self, execution: Execution) -> bool:
        """Whether a run in memory seems to await raw I/O outside its steps, whose end nobody can tell."""
        tree, journal = execution.tree, execution.journal
        # Steps without a slot are offered in a moment.
        busy = (
            tree.executing,
            execution.parking.is_suspending,
            journal.unstored,
            execution.turns.waiting,
            execution.offers.slotless,
        )
        if any(busy) or execution.lifecycle.ending is not None:
            self.resting.pop(execution, None)
            return False
        mark = (tree.births, journal.next_index, execution.turns.next_order)
        known_mark, since = self.resting.get(execution, (None, 0.0))
        if mark != known_mark:
            self.resting[execution] = (mark, time.monotonic())
            return False
        return time.monotonic() - since > RAW_IO_S

    def places(self) -> list[str]:
        """The places ("file:line") at which async code of users executes now."""
        executions = [each for worker in self.workers for each in worker.executor.executions.values()]
        busy = [task for each in executions for task in each.slots.busy if isinstance(task, asyncio.Task)]
        return [place for task in busy if (place := place_of(task))]

    async def in_servers(self) -> str:
        """What store and broker still have for the workers and for beat, or ""."""
        call, keys = self.store.client.call, self.store.keys
        streams, ready = [], []
        for worker in self.workers:
            app_id = worker.app.id
            stream = StreamKeys(worker.topology.key_prefix).stream
            streams += [stream(queue.name) for queue in worker.topology.queues(app_id, worker.options.queues)]
            if worker.executor.slots.free > 0:
                ready += [
                    (worker, queue, call("ZRANGE", f"{keys.prefix}queue:{app_id}:{queue}", 0, -1))
                    for queue in worker.options.queues
                ]
        due = call("ZRANGEBYSCORE", keys.timers, "-inf", self.clock.now_ms(), "LIMIT", 0, 1)
        outbox = call("ZCARD", f"{keys.prefix}outbox")
        lengths = [call("XLEN", stream) for stream in dict.fromkeys(streams)]
        paused = await self.store.steering.paused_queues()
        if await due:
            return "a timer is due"
        for worker, queue, functions in ready:
            names = [name.decode().rstrip(SEPARATOR) for name in await functions]
            if (worker.app.id, queue) not in paused and any(
                name not in worker.executor.unknown for name in names
            ):
                return "runs are ready"
        if await outbox:
            return "events of finished runs are to be published"
        if any(await asyncio.gather(*lengths)):
            return "messages are to be consumed"
        return ""


def place_of(task: asyncio.Task[object]) -> str:
    """The innermost line of a waiting task that belongs neither to taskflow nor to asyncio."""
    found = ""
    awaited: object = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None)
        if frame is not None and not frame.f_code.co_filename.startswith(MACHINERY):
            found = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        awaited = getattr(awaited, "cr_await", None)
    return found
