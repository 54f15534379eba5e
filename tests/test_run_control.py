"""`RunControl`: acting on runs without an app object."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from taskflow import ConfigError, Context, Event, RunNotFound, RunStatus, Step, TaskFlow
from taskflow.runs.cancel import select_live
from taskflow.runs.control import Cancelled, Resumed, RunControl
from taskflow.store.hints import Hint
from taskflow.store.session import StoreSession
from taskflow.testing import Harness


@pytest.fixture
async def harness(app: TaskFlow) -> AsyncIterator[Harness]:
    @app.function(trigger="order")
    async def work(ctx: Context[Step], step: Step) -> object:
        got = await step.wait_for_signal("paid", f"paid-{ctx.event.data['n']}", "1h")
        return None if got is None else got.data

    async with Harness(app) as harness:
        yield harness


@pytest.fixture
async def control(harness: Harness, app: TaskFlow) -> AsyncIterator[RunControl]:
    """It has the store's address, a clock, and somebody who tells the broker; not the app."""
    session = StoreSession(app.config.store, app.config.namespace)

    async def tell(hints: Sequence[Hint]) -> None:
        await app._link.tell(hints)

    yield RunControl(session, tell=tell, clock=harness.clock, max_event_bytes=10_000)
    await session.close()


async def test_a_run_is_started_by_what_a_worker_has_registered(
    control: RunControl, harness: Harness
) -> None:
    run_id = await control.start(await control.spec("shop/work"), Event("by-hand", {"n": 7}))
    await harness.settled()
    assert await control.signal("shop", "paid-7", {"by": "ann"}) == run_id
    assert await control.signal("shop", "paid-7", {"by": "ann"}) is None
    assert await harness.apps[0].run(run_id).aresult("2s") == {"by": "ann"}


async def test_cancelling_tells_what_it_came_to(control: RunControl, harness: Harness) -> None:
    run = await harness.send("order", {"n": 1})
    assert await control.cancel(run.id, "no more") is Cancelled.CANCELLED
    assert await control.cancel(run.id, "no more") is Cancelled.ENDED
    with pytest.raises(RunNotFound, match="there is no run nope: check the id"):
        await control.cancel("nope", "no more")


async def test_what_came_while_a_function_was_paused_is_replayed_when_it_goes_on(
    control: RunControl, harness: Harness, app: TaskFlow
) -> None:
    live = await harness.send("order", {"n": 1})
    assert await control.pause("shop/work", cancel_running=True) == 1
    assert await app.run(live.id).astatus() is RunStatus.CANCELLED
    await harness.send([Event("order", {"n": n}) for n in (2, 3)])
    assert await control.resume("shop/work", replay_skipped=True) == Resumed(True, replayed=2)
    await harness.settled()
    assert await control.signal("shop", "paid-2", "yes") is not None
    assert await control.resume("shop/work", replay_skipped=True) == Resumed(False)


async def test_a_run_is_rerun_and_all_live_ones_are_cancelled(
    control: RunControl, harness: Harness, app: TaskFlow
) -> None:
    first = await harness.send("order", {"n": 1})
    await control.cancel(first.id, "no more")
    rerun = await control.rerun(first.id)
    await harness.settled()
    view = await app.run(rerun).aview()
    assert (view.rerun_of, view.status) == (first.id, RunStatus.WAITING)
    live = select_live(await control.functions("shop"), now_ms=harness.clock.now_ms())
    assert await control.cancel_runs(live, reason="enough") == 1
    assert await app.run(rerun).astatus() is RunStatus.CANCELLED


async def test_a_function_that_nobody_knows_is_refused(control: RunControl) -> None:
    with pytest.raises(ConfigError, match="there is no function 'shop/wrok'"):
        await control.pause("shop/wrok")


async def test_waiting_in_vain_for_a_result_says_what_the_run_waits_for(
    harness: Harness, app: TaskFlow
) -> None:
    sent = await harness.send("order", {"n": 5})
    with pytest.raises(TimeoutError) as caught:
        await app.run(sent.id).aresult("20ms")
    assert str(caught.value).startswith(
        f"run {sent.id} of shop/work has not ended within 20 ms; waiting: signal paid-5 until "
    )
