"""S3.5: step.send_event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.courier import Courier
from taskflow.errors import (
    BrokerUnavailable,
    InvalidEvent,
    RunFailed,
)
from taskflow.event import Event
from taskflow.function import Function
from taskflow.retries import Retries
from taskflow.step import Step
from taskflow.testing import Harness
from tests.rules.givens import both_kinds, record

pytestmark = pytest.mark.usefixtures("no_bugs")


@both_kinds
async def test_send_event_sends_one_or_many_and_returns_their_ids(app: TaskFlow, is_async: bool) -> None:
    """S3.5"""
    got = record(app, ["one", "many"])
    many = [Event("many", {"n": n}, id=f"many-{n}" if n == 7 else None, user={"n": n}) for n in range(250)]

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> list[list[str]]:
        return [
            await step.send_event("one", Event("one", {"x": 1})),
            await step.send_event("many", many),
            await step.send_event("none", []),
        ]

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> list[list[str]]:
        return [
            step.send_event("one", Event("one", {"x": 1})),
            step.send_event("many", many),
            step.send_event("none", []),
        ]

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        one, ids, none = await run.aresult("1s")
    assert none == []
    assert ids[7] == "many-7"
    assert len({*one, *ids}) == 251
    assert {event.id: (event.name, event.data, event.user) for event in got} == {
        one[0]: ("one", {"x": 1}, None),
        **{ids[n]: ("many", {"n": n}, {"n": n}) for n in range(250)},
    }
    assert len(got) == 251


class LosingCourier(Courier):
    """The broker takes the events, but its answer is lost, some times."""

    losses = 0

    async def publish_events(self, events: Sequence[bytes]) -> None:
        await super().publish_events(events)
        if self.losses:
            self.losses -= 1
            raise BrokerUnavailable("the answer was lost")


async def test_a_step_that_is_retried_after_its_publish_sends_one_set(app: TaskFlow) -> None:
    """S3.5, S1.1"""
    got = record(app, "paid")
    resumed: list[Any] = []

    @app.function(retries=Retries(4, initial="1m", jitter=False))
    async def sender(ctx: Context[Step], step: Step) -> list[str]:
        first = await step.send_event("send", [Event("paid", {"n": n}) for n in range(3)])
        again = await step.send_event("send", [Event("paid", {"n": 3}), Event("paid", {"n": 4}, id="mine")])
        return first + again

    @app.function()
    async def waits(ctx: Context[Step], step: Step) -> None:
        resumed.append(await step.wait_for_event("paid", "paid", timeout="30d", if_exp="async.data.n == 0"))

    async with Harness(app) as harness:
        (worker,) = harness.workers
        courier = LosingCourier(worker.publisher, worker.store.routing.clear_outbox)
        worker.executor.messenger = courier
        courier.losses = 3
        run = await harness.start(sender)
        assert len(got) == 3
        waiting = await harness.start(waits)  # after the first copy of event 0 and before the others
        await harness.advance(hours=1)
        ids = await run.aresult("1s")
        assert (await harness.view(run)).steps["send"].attempts == 4
        assert resumed == []
        await waiting.acancel()
    assert courier.losses == 0
    assert sorted((event.id, event.data["n"]) for event in got) == sorted(zip(ids, range(5), strict=True))


async def test_an_invalid_event_fails_the_step_and_sends_nothing(app: TaskFlow) -> None:
    """S3.5, S1.5"""
    got = record(app, "fine")

    @app.function(retries=0)
    async def sender(ctx: Context[Step], step: Step) -> None:
        await step.send_event("send", [Event("fine"), Event("taskflow/reserved")])

    async with Harness(app) as harness:
        run = await harness.start(sender)
        with pytest.raises(
            RunFailed,
            match="InvalidEvent: event 'taskflow/reserved': names that start with 'taskflow/' are reserved",
        ):
            await run.aresult("1s")
    assert got == []
    assert issubclass(InvalidEvent, Exception)
