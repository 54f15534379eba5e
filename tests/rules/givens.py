"""What tests of several rules start from."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.event import ReceivedEvent
from taskflow.function import Function
from taskflow.run import Run, RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from taskflow.triggers import Trigger
from tests.waiting import until

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
both_kinds = pytest.mark.parametrize("is_async", [True, False], ids=["async", "def"])


def record(
    app: TaskFlow, trigger: str | Trigger | Sequence[str | Trigger], id: str = "seen"
) -> list[ReceivedEvent]:
    """Registers a function, and returns the list of events that it will have got."""
    got: list[ReceivedEvent] = []

    @app.function(trigger=trigger, id=id)
    async def seen(ctx: Context[Step]) -> None:
        got.append(ctx.event)

    return got


async def has_step(harness: Harness, run: Run, key: str, state: str) -> bool:
    """Whether the store knows the step, in that state."""
    step = (await harness.view(run)).steps.get(key)
    return step is not None and step.state == state


class Gates:
    """Steps that end when the test says so: `hold(name)` is the step's function."""

    def __init__(self) -> None:
        self.gates: dict[str, asyncio.Event] = {}
        self.started: list[str] = []
        self.ended: list[str] = []

    def gate(self, name: str) -> asyncio.Event:
        return self.gates.setdefault(name, asyncio.Event())

    async def hold(self, name: str) -> str:
        self.started.append(name)
        await self.gate(name).wait()
        self.ended.append(name)
        return name

    async def open(self, name: str) -> None:
        """Let the step end, once it has started."""
        await until(lambda: name in self.started, description=f"start of {name}")
        self.gate(name).set()
        await until(lambda: name in self.ended, description=f"end of {name}")


def waiting_function(
    app: TaskFlow,
    event: str | list[str] = "paid",
    *,
    timeout: Any = "1h",
    match: str | None = None,
    if_exp: str | None = None,
    lookback: Any = None,
    id: str = "waits",
) -> Function[..., Any]:
    """A function that waits once and returns the data of what it got, or None."""

    @app.function(id=id, trigger="ordered")
    async def waits(ctx: Context[Step], step: Step) -> Any:
        got = await step.wait_for_event("wait", event, timeout, match=match, if_exp=if_exp, lookback=lookback)
        return None if got is None else got.data

    return waits


async def is_waiting(run: Run) -> bool:
    return await run.astatus() == RunStatus.WAITING
