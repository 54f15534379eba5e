"""Stubs replace functions, not durability."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.errors import ConfigError, NonRetriableError, RunFailed, StepError
from taskflow.event import Event
from taskflow.function import Function
from taskflow.retries import Retries
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness, StubCall
from taskflow.timeouts import Timeouts
from tests.rules.givens import both_kinds

QUICK = Retries(attempts=3, initial="1s", jitter=False)


def real(order: int, *, cents: int = 0) -> Any:
    raise AssertionError("the real function was called")


def make_order(app: TaskFlow, is_async: bool = True) -> Function[..., Any]:
    """A function with a step "charge"."""
    if is_async:

        @app.function(id="order", trigger="order", retries=QUICK)
        async def order(ctx: Context[Step], step: Step) -> Any:
            return await ctx.step.run("charge", real, 7, cents=3)

        return order

    @app.function(id="order", trigger="order", retries=QUICK)
    def blocking_order(ctx: Context[BlockingStep]) -> Any:
        return ctx.step.run("charge", real, 7, cents=3)

    return blocking_order


@both_kinds
async def test_a_stub_returns_a_value_and_tells_how_it_was_called(shop: TaskFlow, is_async: bool) -> None:
    order = make_order(shop, is_async)
    async with Harness(shop) as harness:
        charge = harness.stub("charge", returns={"receipt": 1})
        run = await harness.start(order)
        assert await run.aresult() == {"receipt": 1}
        assert charge.received == [StubCall(run.id, (7,), {"cents": 3})]


async def plus_async(order: int, *, cents: int) -> Any:
    await asyncio.sleep(0)
    return [order + cents, threading.current_thread() is threading.main_thread()]


def plus(order: int, *, cents: int) -> Any:
    return [order + cents, threading.current_thread() is threading.main_thread()]


@both_kinds
@pytest.mark.parametrize(("calls", "in_loop"), [(plus, False), (plus_async, True)])
async def test_a_stub_calls_another_function(
    shop: TaskFlow, is_async: bool, calls: Any, in_loop: bool
) -> None:
    order = make_order(shop, is_async)
    async with Harness(shop) as harness:
        harness.stub("charge", calls=calls)
        assert await (await harness.start(order)).aresult() == [10, in_loop]


@both_kinds
async def test_a_stub_that_raises_is_retried_as_the_step_would_be(shop: TaskFlow, is_async: bool) -> None:
    order = make_order(shop, is_async)
    async with Harness(shop) as harness:
        harness.stub("charge", raises=ConnectionError("away"), times=2)
        harness.stub("charge", returns="paid")
        run = await harness.start(order)
        assert (await harness.view(run)).step("charge").state == "retry"
        await harness.advance(seconds=3)
        assert await run.aresult() == "paid"
        (await harness.view(run)).step("charge").assert_completed("paid", attempts=3)


async def test_retries_and_their_end_are_real(shop: TaskFlow) -> None:
    order = make_order(shop)
    async with Harness(shop) as harness:
        stub = harness.stub("charge", raises=ConnectionError)
        run = await harness.run(order)
        with pytest.raises(RunFailed, match="ConnectionError"):
            await run.aresult()
        assert len(stub.received) == 4
        (await harness.steps(run))["charge"].assert_failed("ConnectionError", attempts=4)


async def test_an_error_that_is_not_retriable_ends_the_step_at_once(shop: TaskFlow) -> None:
    order = make_order(shop)
    async with Harness(shop) as harness:
        stub = harness.stub("charge", raises=NonRetriableError("stolen card"))
        run = await harness.start(order)
        assert await run.astatus() is RunStatus.FAILED
        assert len(stub.received) == 1


async def test_a_memo_of_a_stub_is_replayed_and_not_called_again(shop: TaskFlow) -> None:
    @shop.function()
    async def nap(ctx: Context[Step], step: Step) -> Any:
        value = await step.run("draw", real, 1)
        await step.sleep("nap", "1d")
        return value

    async with Harness(shop) as harness:
        draw = harness.stub("draw", returns=4)
        run = await harness.start(nap)
        await harness.advance(days=1)
        assert await run.aresult() == 4
        assert len(draw.received) == 1


async def test_after_its_times_the_real_function_is_called(shop: TaskFlow) -> None:
    @shop.function(retries=QUICK)
    async def draw(ctx: Context[Step], step: Step) -> Any:
        return await step.run("draw", lambda: "real")

    async with Harness(shop) as harness:
        harness.stub("draw", raises=ConnectionError, times=1)
        run = await harness.run(draw)
        assert await run.aresult() == "real"


async def test_a_stub_of_one_function_leaves_the_same_step_of_others_alone(shop: TaskFlow) -> None:
    makers = []
    for name in ("one", "two"):

        @shop.function(id=name, trigger="both")
        async def make(ctx: Context[Step], step: Step) -> Any:
            return await step.run("make", lambda: "real")

        makers.append(make)

    async with Harness(shop) as harness:
        harness.stub("make", returns="stubbed", function=makers[0])
        sent = await harness.send("both")
        assert [await run.aresult() for run in sent.runs] == ["stubbed", "real"]


async def test_steps_of_all_kinds_go_on_beside_a_stub(shop: TaskFlow) -> None:
    @shop.function()
    async def child(ctx: Context[Step]) -> int:
        return 1

    @shop.function()
    async def all_kinds(ctx: Context[Step], step: Step) -> Any:
        await step.sleep("nap", "1m")
        pair = await asyncio.gather(*[step.run("same", real, n) for n in (1, 2)])
        sent = await step.send_event("tell", Event("told"))
        waited = await step.wait_for_event("wait", "never", timeout="1m")
        return [pair, sent, waited, await step.invoke("child", function=child)]

    async with Harness(shop) as harness:
        harness.stub("same", calls=lambda n: n * 10)
        harness.stub("tell", returns=["none was sent"])
        run = await harness.run(all_kinds)
        assert await run.aresult() == [[10, 20], ["none was sent"], None, 1]


async def test_stubs_answer_for_steps_that_other_workers_take(shop: TaskFlow) -> None:
    @shop.function()
    async def wide(ctx: Context[Step], step: Step) -> Any:
        return await asyncio.gather(*[step.run("part", real, n) for n in range(4)])

    async def part(n: int) -> int:
        await asyncio.sleep(0.1)  # longer than a step waits for a slot before it is offered to other workers
        return n

    async with Harness(shop, workers=3, concurrency=1) as harness:
        stub = harness.stub("part", calls=part)
        run = await harness.start(wide)
        assert await run.aresult() == [0, 1, 2, 3]
        assert len(stub.received) == 4


async def test_time_limits_of_steps_hold_for_stubs(shop: TaskFlow) -> None:
    @shop.function(retries=0, timeouts=Timeouts(step=0.05))
    async def slow(ctx: Context[Step], step: Step) -> Any:
        await step.run("slow", real, 1)

    async with Harness(shop) as harness:
        harness.stub("slow", calls=lambda n: asyncio.Event().wait())
        run = await harness.start(slow)
        with pytest.raises(RunFailed, match="StepTimeout"):
            await run.aresult()


async def test_stubs_that_were_not_called_fail_the_test(shop: TaskFlow) -> None:
    order = make_order(shop)
    with pytest.raises(AssertionError) as raised:
        async with Harness(shop) as harness:
            harness.stub("chrage", returns=1)
            harness.stub("charge", returns=1, times=3)
            harness.stub("refund", returns=1, required=False)
            harness.stub("pack", returns=1, function=order)
            await harness.start(order)
    assert str(raised.value).startswith(
        "the stub of step 'chrage' was never called; the stub of step 'charge' was called 1 of 3 times; "
        "the stub of step 'pack' of shop/order was never called."
    )


async def test_an_error_of_the_test_itself_is_not_hidden_by_unused_stubs(shop: TaskFlow) -> None:
    with pytest.raises(KeyError):
        async with Harness(shop) as harness:
            harness.stub("charge", returns=1)
            raise KeyError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"returns": 1, "raises": ValueError}, "returns, raises and calls exclude each other"),
        ({"calls": 7}, "calls must be a function, got 7"),
        ({"raises": "boom"}, "raises must be an exception"),
        ({"times": 0}, "times must be an int of at least 1"),
    ],
)
async def test_stubs_that_make_no_sense_are_refused(
    shop: TaskFlow, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Harness(shop).stub("charge", **options)


# --- functions ---


def make_scorer(app: TaskFlow, function_id: str, is_async: bool = True) -> Function[..., Any]:
    """A function that invokes another one and returns what it got, or the error."""
    if is_async:

        @app.function(id="scorer")
        async def scorer(ctx: Context[Step], step: Step) -> Any:
            try:
                return await step.invoke("score", function_id=function_id, data={"x": 1}, timeout="1h")
            except StepError as error:
                return [error.name, error.message]

        return scorer

    @app.function(id="scorer")
    def blocking_scorer(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        return step.invoke("score", function_id=function_id, data={"x": 1})

    return blocking_scorer


@both_kinds
async def test_a_function_that_is_registered_nowhere_can_be_stubbed(shop: TaskFlow, is_async: bool) -> None:
    scorer = make_scorer(shop, "risk-app/score", is_async)
    async with Harness(shop) as harness:
        score = harness.stub_function("risk-app/score", returns={"score": 7})
        run = await harness.start(scorer)
        assert await run.aresult() == {"score": 7}
        assert [call.args for call in score.received] == [({"x": 1},)]
        assert (await harness.view(run)).step("score").kind == "invoke"


async def test_stubs_of_several_functions_of_one_other_app(shop: TaskFlow) -> None:
    scorer = make_scorer(shop, "risk-app/score")

    @shop.function()
    async def rater(ctx: Context[Step], step: Step) -> Any:
        return await step.invoke("rate", function_id="risk-app/rate")

    async with Harness(shop) as harness:
        harness.stub_function("risk-app/score", returns=1)
        assert await (await harness.start(scorer)).aresult() == 1
        harness.stub_function("risk-app/rate", returns=2)
        assert await (await harness.start(rater)).aresult() == 2


async def test_a_stubbed_function_that_fails_fails_the_step(shop: TaskFlow) -> None:
    scorer = make_scorer(shop, "risk-app/score")
    async with Harness(shop) as harness:
        harness.stub_function("risk-app/score", raises=ValueError("no data"))
        assert await (await harness.start(scorer)).aresult() == ["ValueError", "no data"]


async def test_a_stub_of_a_function_may_take_time_or_work(shop: TaskFlow) -> None:
    async def later(data: dict[str, Any]) -> Any:
        await asyncio.sleep(0)
        return data["x"] + 1

    scorer = make_scorer(shop, "risk-app/score")
    async with Harness(shop) as harness:
        harness.stub_function("risk-app/score", calls=later, times=1)
        assert await (await harness.start(scorer)).aresult() == 2
        name, message = await (await harness.start(scorer)).aresult()
        assert "called more often than its stubs allow" in message


@both_kinds
async def test_a_function_of_the_app_can_be_stubbed(shop: TaskFlow, is_async: bool) -> None:
    if is_async:

        @shop.function(id="score")
        async def score(ctx: Context[Step]) -> Any:
            raise AssertionError("the real function was called")
    else:

        @shop.function(id="score")
        def blocking_score(ctx: Context[BlockingStep]) -> Any:
            raise AssertionError("the real function was called")

    async def twice(data: dict[str, Any]) -> Any:
        return data["x"] * 2

    scorer = make_scorer(shop, "shop/score")
    async with Harness(shop) as harness:
        harness.stub_function("shop/score", calls=twice)
        assert await (await harness.start(scorer)).aresult() == 2


async def test_a_function_that_the_app_does_not_have_is_a_typo(shop: TaskFlow) -> None:
    make_order(shop)
    harness = Harness(shop)
    with pytest.raises(
        ConfigError, match=r"app 'shop' has no function 'shop/ordre' to stub, only \['shop/order'\]"
    ):
        harness.stub_function("shop/ordre", returns=1)
    with pytest.raises(ConfigError, match="a function's id is 'app/function', got 'score'"):
        harness.stub_function("score", returns=1)


async def test_an_unused_stub_of_a_function_fails_the_test(shop: TaskFlow) -> None:
    with pytest.raises(AssertionError, match="the stub of function 'risk-app/score' was never called"):
        async with Harness(shop) as harness:
            harness.stub_function("risk-app/score", returns=1)


# --- waits ---


def waiting(app: TaskFlow, *, is_async: bool) -> Function[..., Any]:
    """A function that waits for an event and a signal, and gives what it got; it sleeps, so that it is replayed."""

    async def wait(ctx: Context[Step], step: Step) -> Any:
        paid = await step.wait_for_event(
            "paid", "shop/paid", timeout="7 days", match="data.id", lookback="1h"
        )
        signal = await step.wait_for_signal("approval", "approve", timeout="7 days")
        await step.sleep("nap", "1h")
        return [paid and (paid.name, paid.data), signal and (signal.name, signal.data)]

    def blocking_wait(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        paid = step.wait_for_event("paid", "shop/paid", timeout="7 days")
        signal = step.wait_for_signal("approval", "approve", timeout="7 days")
        step.sleep("nap", "1h")
        return [paid and (paid.name, paid.data), signal and (signal.name, signal.data)]

    return app.function(id="waits", trigger="shop/order")(wait if is_async else blocking_wait)


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "blocking"])
async def test_a_stub_says_what_a_wait_gets(app: TaskFlow, is_async: bool) -> None:
    function = waiting(app, is_async=is_async)
    async with Harness(app) as harness:
        paid = harness.stub("paid", calls=lambda data: {"id": data["id"], "by": "card"})
        harness.stub("approval", returns={"ok": True}, function=function, times=1)
        start_ms = harness.clock.now_ms()
        run = await harness.run(function, Event("shop/order", {"id": 7}))
        assert await run.aresult() == [["shop/paid", {"id": 7, "by": "card"}], ["approve", {"ok": True}]]
        assert harness.clock.now_ms() - start_ms == 3_600_000
        assert [call.args for call in paid.received] == [("shop/paid",)]


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "blocking"])
async def test_a_stub_without_a_value_is_a_wait_whose_time_is_over(app: TaskFlow, is_async: bool) -> None:
    function = waiting(app, is_async=is_async)
    async with Harness(app) as harness:
        harness.stub("paid")
        harness.stub("approval")
        start_ms = harness.clock.now_ms()
        run = await harness.run(function, Event("shop/order", {"id": 7}))
        assert await run.aresult() == [None, None]
        assert harness.clock.now_ms() - start_ms == 3_600_000


async def test_a_wait_without_a_stub_left_is_a_real_one(app: TaskFlow) -> None:
    function = waiting(app, is_async=False)
    async with Harness(app) as harness:
        harness.stub("paid", returns=Event("shop/paid.late", {"n": 1}), times=1)
        run = await harness.start(function, {"id": 7})
        assert await app.asend_signal("approve", "yes") is True
        await harness.finish(run)
        assert await run.aresult() == [["shop/paid.late", {"n": 1}], ["approve", "yes"]]
        again = await harness.start(function, {"id": 8})
        assert (await harness.view(again)).steps["paid"].state == "wait"
        await again.acancel()


async def test_a_stub_of_a_wait_may_fail_it(app: TaskFlow) -> None:
    function = waiting(app, is_async=True)
    async with Harness(app) as harness:
        harness.stub("paid", raises=ValueError("no"))
        run = await harness.run(function, Event("shop/order", {"id": 7}))
        with pytest.raises(RunFailed, match="no"):
            await run.aresult()


async def test_a_stub_of_a_wait_for_a_pattern_gives_an_event(app: TaskFlow) -> None:
    @app.function
    async def flow(ctx: Context[Step], step: Step) -> Any:
        found = await step.wait_for_event("any", ["shop/*", "bank/paid"], timeout="1h")
        return found and found.name

    async with Harness(app) as harness:
        harness.stub("any", returns={"n": 1}, times=1)
        harness.stub("any", returns=Event("shop/sent"))
        with pytest.raises(RunFailed, match="must return an Event, as the wait is for 'shop/"):
            await (await harness.run(flow)).aresult()
        assert await (await harness.run(flow)).aresult() == "shop/sent"


async def test_items_of_a_map_have_stubs_by_their_places(app: TaskFlow) -> None:
    @app.function
    async def flow(ctx: Context[Step], step: Step) -> list[int]:
        return await step.map("double", lambda item: 2 * item, [1, 2, 3])

    async with Harness(app) as harness:
        harness.stub("double:1", returns=100)
        assert await (await harness.run(flow)).aresult() == [2, 100, 6]
