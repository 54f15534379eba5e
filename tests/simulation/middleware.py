"""A middleware of the simulated app, in some worlds: what its hooks are told is a part of the history. Rule S11.4."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from taskflow.middleware.base import Middleware
from taskflow.middleware.facts import Activation, Attempt, Outcome
from tests.simulation.process import SimulatedProcess
from tests.simulation.world import World

CHANCE = 0.25

Call = Callable[[], Awaitable[Outcome]]


def middleware_of(seed: int, world: World) -> list[Middleware]:
    """Drawn by a chance of its own, so that worlds without it keep their histories."""
    return [Witness(world)] if Random(f"middleware {seed}").random() < CHANCE else []


class Witness(Middleware):
    """Tells of each hook: which one, of which run and attempt, and for the wrapping ones when they begin and end."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.calls = 0

    def tell(self, hook: str, run: Activation, **about: object) -> None:
        loop = asyncio.get_running_loop()
        process = loop.name if isinstance(loop, SimulatedProcess) else ""
        self.world.history.add("hook", process, hook=hook, run=run.run_id, offered=run.offered_step, **about)

    async def around(self, hook: str, run: Activation, key: str, call: Call) -> Outcome:
        self.calls += 1
        number = self.calls
        self.tell(hook, run, key=key, number=number, status="begins")
        status = "raises"
        try:
            outcome = await call()
            status = outcome.status
            return outcome
        finally:
            self.tell(hook, run, key=key, number=number, status=status)

    async def wrap_run(self, run: Activation, call: Call) -> Outcome:
        return await self.around("wrap_run", run, "", call)

    async def wrap_attempt(self, attempt: Attempt, call: Call) -> Outcome:
        return await self.around("wrap_attempt", attempt.run, attempt.step_key, call)

    async def on_run_start(self, run: Activation) -> None:
        self.tell("on_run_start", run)

    def on_run_end(self, run: Activation, outcome: Outcome) -> None:
        self.tell("on_run_end", run, status=outcome.status)

    def on_step_start(self, attempt: Attempt) -> None:
        self.tell("on_step_start", attempt.run, key=attempt.step_key)

    async def on_step_end(self, attempt: Attempt, outcome: Outcome) -> None:
        self.tell("on_step_end", attempt.run, key=attempt.step_key)
