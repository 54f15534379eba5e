"""S3: run, sleep, send_event, invoke, occurrence numbers, nesting and limits. Waits and parallel steps have files of their own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.errors import (
    BrokerUnavailable,
    InvalidDuration,
    InvalidEvent,
    NonRetriableError,
    RunFailed,
    StepError,
)
from taskflow.event import Event, ReceivedEvent
from taskflow.function import Function
from taskflow.handle import RunStatus
from taskflow.retries import Retries
from taskflow.step import BlockingStep, Step
from taskflow.testing import Harness
from taskflow.types import When
from taskflow.worker.messenger import BrokerMessenger
from tests.conftest import MakeApp

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
both_kinds = pytest.mark.parametrize("is_async", [True, False], ids=["async", "def"])


# --- S3.1 run ---


@both_kinds
async def test_run_calls_the_function_with_its_arguments_and_gives_its_result(
    app: TaskFlow, is_async: bool
) -> None:
    """S3.1: sync and async functions, partials, methods and objects, in both kinds of handlers."""

    def plain(a: int, b: int = 0) -> list[int]:
        return [a, b]

    async def coroutine(a: int, b: int = 0) -> list[int]:
        await asyncio.sleep(0)
        return [a, b]

    class Adder:
        async def __call__(self, a: int, b: int = 0) -> list[int]:
            return [a, b]

        def method(self, a: int, b: int = 0) -> list[int]:
            return [a, b]

    calls: list[Any] = [
        plain,
        coroutine,
        partial(plain),
        partial(coroutine),
        Adder(),
        Adder().method,
        lambda a, b: coroutine(a, b),
    ]

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> Any:
        return [await step.run(f"{n}", fn, n, b=7) for n, fn in enumerate(calls)]

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        return [step.run(f"{n}", fn, n, b=7) for n, fn in enumerate(calls)]

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        assert await run.aresult("1s") == [[n, 7] for n in range(len(calls))]


async def test_a_steps_function_may_have_parameters_called_id_and_fn(app: TaskFlow) -> None:
    """S3.1: all keywords are the function's."""

    def look_up(*, id: int, fn: str) -> list[Any]:
        return [id, fn]

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> Any:
        return await step.run("look up", look_up, id=7, fn="x")

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        return step.run("look up", look_up, id=7, fn="x")

    async with Harness(app) as harness:
        assert await (await harness.start(in_async)).aresult("1s") == [7, "x"]
        assert await (await harness.start(in_def)).aresult("1s") == [7, "x"]


@both_kinds
async def test_with_a_memo_the_function_is_not_called_again(app: TaskFlow, is_async: bool) -> None:
    """S3.1, S4.1"""
    calls: list[str] = []
    passes: list[list[Any]] = []
    values: dict[str, Any] = {
        "number": 41,
        "none": None,
        "false": False,
        "empty": "",
        "list": [1, {"a": None}],
    }

    def note(name: str) -> Any:
        calls.append(name)
        return values[name]

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> None:
        passes.append([await step.run(name, note, name) for name in values])
        for n in range(3):
            await step.sleep(f"sleep {n}", "1h")

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        passes.append([step.run(name, note, name) for name in values])
        for n in range(3):
            step.sleep(f"sleep {n}", "1h")

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app, workers=2) as harness:
        run = await harness.start(functions[is_async])
        await harness.advance(hours=3)
        assert await run.astatus() == RunStatus.COMPLETED
        view = await harness.view(run)
        assert {key: step.result for key, step in view.steps.items() if step.kind == "step"} == values
    assert calls == list(values)
    assert passes == [list(values.values())] * 4


async def test_a_sync_function_in_an_async_handler_never_blocks_the_loop(app: TaskFlow) -> None:
    """S3.1"""
    inside, leave = threading.Event(), threading.Event()

    def block() -> bool:
        inside.set()
        assert leave.wait(5)
        return threading.current_thread() is threading.main_thread()

    @app.function()
    async def blocks(ctx: Context[Step], step: Step) -> bool:
        return await step.run("block", block)

    @app.function()
    async def quick(ctx: Context[Step], step: Step) -> str:
        return await step.run("quick", lambda: "quick")

    async with Harness(app) as harness:
        run = await blocks.ainvoke()
        await asyncio.to_thread(inside.wait, 5)
        other = await quick.ainvoke()
        assert await other.aresult("1s") == "quick"
        leave.set()
        assert await run.aresult("1s") is False
        await harness.settled()


async def test_an_async_function_of_a_def_handler_runs_on_the_workers_loop(app: TaskFlow) -> None:
    """S3.1"""
    loops: list[Any] = []

    async def note() -> None:
        loops.append(asyncio.get_running_loop())

    @app.function()
    def handler(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        step.run("note", note)

    async with Harness(app) as harness:
        await harness.start(handler)
    assert loops == [asyncio.get_running_loop()]


async def test_run_wants_the_function_and_not_its_result(app: TaskFlow) -> None:
    """S3.1"""

    @app.function(retries=0)
    async def wrong(ctx: Context[Step], step: Step) -> None:
        await step.run("charge", 42)  # type: ignore[call-overload]

    async with Harness(app) as harness:
        run = await harness.start(wrong)
        with pytest.raises(
            RunFailed,
            match=r"TypeError: step.run\('charge', fn, ...\): fn must be callable, but is int. Pass the function",
        ):
            await run.aresult("1s")


@pytest.mark.parametrize("step_id", ["", "x" * 257, "a\nb", 7, None])
async def test_a_step_id_is_a_printable_text(app: TaskFlow, step_id: Any) -> None:
    """S3: the first argument is always the step id."""
    calls: list[int] = []

    @app.function()
    async def wrong(ctx: Context[Step], step: Step) -> None:
        calls.append(1)
        await step.run(step_id, lambda: 1)

    async with Harness(app) as harness:
        run = await harness.start(wrong)
        with pytest.raises(
            RunFailed, match="a step id must be a string of 1 to 256 printable characters, but is"
        ):
            await run.aresult("1s")
    assert len(calls) == 1


# --- S3.2 sleep, sleep_until ---


@both_kinds
@pytest.mark.parametrize(
    ("duration", "expected_ms"),
    [
        ("1h30m", 5_400_000), ("2 days", 2 * DAY_MS), (90, 90_000), (0.25, 250), ("500ms", 500), ("1.5s", 1_500),
        (timedelta(days=1, milliseconds=3), DAY_MS + 3), ("1w", 7 * DAY_MS), ("365 days", 365 * DAY_MS), ("366d", 366 * DAY_MS),
    ],
)  # fmt: skip
async def test_a_sleep_ends_at_its_due_time_and_not_before(
    app: TaskFlow, is_async: bool, duration: Any, expected_ms: int
) -> None:
    """S3.2"""

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> str:
        await step.sleep("nap", duration)
        return "awake"

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> str:
        step.sleep("nap", duration)
        return "awake"

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        start_ms = harness.clock.now_ms()
        assert (await harness.view(run)).steps["nap"].due_ms == start_ms + expected_ms
        await harness.advance(ms=expected_ms - 1)
        assert await run.astatus() == RunStatus.WAITING
        await harness.advance(ms=1)
        assert await run.aresult("1s") == "awake"
        assert (await harness.view(run)).ended_ms == start_ms + expected_ms


@both_kinds
async def test_a_sleeping_run_holds_no_slot_task_thread_or_message(app: TaskFlow, is_async: bool) -> None:
    """S3.2, S4.3"""

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> None:
        await asyncio.gather(*[step.sleep(f"{n}", "30d") for n in range(10)])

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        step.parallel([partial(step.sleep, f"{n}", "30d") for n in range(10)])

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        tasks = len(asyncio.all_tasks())
        runs = [await functions[is_async].ainvoke() for _ in range(5)]
        await harness.settled()
        (worker,) = harness.workers
        assert harness.slots_in_use == 0
        assert worker.executor.executions == {}
        assert len(asyncio.all_tasks()) == tasks
        assert worker.threads._work_queue.empty()
        await harness.advance(days=30)
        assert {await run.astatus() for run in runs} == {RunStatus.COMPLETED}


@both_kinds
async def test_a_sleep_of_nothing_goes_on_at_once(app: TaskFlow, is_async: bool) -> None:
    """S3.2"""

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", 0)
        await step.sleep("nap", "0s")

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        step.sleep("nap", 0)
        step.sleep("nap", "0s")

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        assert await run.astatus() == RunStatus.COMPLETED
        assert [step.state for step in (await harness.view(run)).steps.values()] == ["done", "done"]


WHENS: list[tuple[Any, str]] = [
    (datetime(2030, 1, 3, 12, tzinfo=UTC), "2030-01-03T12:00:00Z"),
    (datetime(2030, 1, 3, 12, tzinfo=timezone(timedelta(hours=-5))), "2030-01-03T17:00:00Z"),
    ("2030-01-03T12:00:00Z", "2030-01-03T12:00:00Z"),
    ("2030-01-03T12:00:00.250+02:00", "2030-01-03T10:00:00.250Z"),
    (1_893_672_000_000, "2030-01-03T12:00:00Z"),
]


@both_kinds
@pytest.mark.parametrize(("when", "expected"), WHENS)
async def test_sleep_until_ends_at_its_moment(
    app: TaskFlow, is_async: bool, when: Any, expected: str
) -> None:
    """S3.2"""

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> None:
        await step.sleep_until("then", when)

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        step.sleep_until("then", when)

    due_ms = int(datetime.fromisoformat(expected).timestamp() * 1000)
    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        await harness.advance(ms=due_ms - 1 - harness.clock.now_ms())
        assert await run.astatus() == RunStatus.WAITING
        await harness.advance(ms=1)
        assert await run.astatus() == RunStatus.COMPLETED


@both_kinds
async def test_a_when_in_the_past_goes_on_at_once_and_keeps_a_memo(app: TaskFlow, is_async: bool) -> None:
    """S3.2"""
    whens: list[When] = ["2000-01-01T00:00:00Z", 0, datetime(1970, 1, 1, tzinfo=UTC)]

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> None:
        for when in whens:
            await step.sleep_until("past", when)

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        for when in whens:
            step.sleep_until("past", when)

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        assert await run.astatus() == RunStatus.COMPLETED
        assert [step.state for step in (await harness.view(run)).steps.values()] == ["done"] * 3


@both_kinds
@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("sleep", -1, r"step.sleep\('nap'\) must not be negative, got -1"),
        ("sleep", "-5m", r"step.sleep\('nap'\) must not be negative, got '-5m'"),
        ("sleep", "soon", r"step.sleep\('nap'\) can't be read: 'soon'\. Write it like '1h30m'"),
        ("sleep", "5 parsecs", r"step.sleep\('nap'\) has the unknown unit 'parsecs'"),
        ("sleep", None, r"step.sleep\('nap'\) must be a duration, got NoneType"),
        ("sleep", True, r"step.sleep\('nap'\) must be a duration, got True"),
        ("sleep", float("nan"), r"step.sleep\('nap'\) must be a finite number of seconds, got nan"),
        ("sleep", "367 days", r"step.sleep\('nap'\) must be at most 1 year \(366 days\), got '367 days'"),
        ("sleep", timedelta(days=400), r"step.sleep\('nap'\) must be at most 1 year"),
        ("sleep_until", "2032-01-03T00:00:00Z", r"step.sleep_until\('nap'\) must be at most 1 year \(366 days\) ahead"),
        ("sleep_until", datetime(2030, 6, 1), r"step.sleep_until\('nap'\) has no time zone"),
        ("sleep_until", "2030-06-01T00:00:00", r"step.sleep_until\('nap'\) has no time zone"),
        ("sleep_until", "tomorrow", r"step.sleep_until\('nap'\) can't be read: 'tomorrow'"),
        ("sleep_until", 1.5, r"step.sleep_until\('nap'\) must be a point in time, got float 1.5"),
    ],
)  # fmt: skip
async def test_a_duration_that_is_wrong_raises_in_the_handler(
    app: TaskFlow, is_async: bool, kind: str, value: Any, text: str
) -> None:
    """S3.2"""
    caught: list[InvalidDuration] = []

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> str:
        try:
            await getattr(step, kind)("nap", value)
        except InvalidDuration as error:
            caught.append(error)
        return await step.run("go on", lambda: "went on")

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> str:
        try:
            getattr(step, kind)("nap", value)
        except InvalidDuration as error:
            caught.append(error)
        return step.run("go on", lambda: "went on")

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        assert await run.aresult("1s") == "went on"
    (error,) = caught
    with pytest.raises(InvalidDuration, match=text):
        raise error


# --- S3.5 send_event ---


def record(app: TaskFlow, *names: str) -> list[ReceivedEvent]:
    """Registers a function, and returns the list of events that it will have got."""
    got: list[ReceivedEvent] = []

    @app.function(trigger=list(names))
    async def seen(ctx: Context[Step]) -> None:
        got.append(ctx.event)

    return got


@both_kinds
async def test_send_event_sends_one_or_many_and_returns_their_ids(app: TaskFlow, is_async: bool) -> None:
    """S3.5"""
    got = record(app, "one", "many")
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


class LosingMessenger(BrokerMessenger):
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
        messenger = LosingMessenger(worker.publisher, worker.store)
        worker.executor.messenger = messenger
        messenger.losses = 3
        run = await harness.start(sender)
        assert len(got) == 3
        waiting = await harness.start(waits)  # after the first copy of event 0 and before the others
        await harness.advance(hours=1)
        ids = await run.aresult("1s")
        assert (await harness.view(run)).steps["send"].failed_attempts == 3
        assert resumed == []
        await waiting.acancel()
    assert messenger.losses == 0
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


# --- S3.6 invoke ---


@both_kinds
async def test_invoke_runs_a_function_and_returns_its_output(app: TaskFlow, is_async: bool) -> None:
    """S3.6"""
    seen: list[ReceivedEvent] = []

    @app.function()
    async def child(ctx: Context[Step], step: Step) -> Any:
        seen.append(ctx.event)
        await step.sleep("nap", "1h")
        return {"got": ctx.event.data}

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> Any:
        return [
            await step.invoke("by function", function=child, data={"n": 1}, user={"u": 2}),
            await step.invoke("by id", function_id="shop/child"),
        ]

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        return [
            step.invoke("by function", function=child, data={"n": 1}, user={"u": 2}),
            step.invoke("by id", function_id="shop/child"),
        ]

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        assert harness.slots_in_use == 0
        assert await run.astatus() == RunStatus.WAITING
        await harness.advance(hours=2)
        assert await run.aresult("1s") == [{"got": {"n": 1}}, {"got": {}}]
        assert len(await harness.runs(child)) == 2
    assert {event.name for event in seen} == {"taskflow/function.invoked"}
    assert seen[0].user == {"u": 2}
    assert seen[-1].user is None


@pytest.mark.parametrize("value", [None, 0, "", [], {"a": [1, None]}, "x" * 100_000], ids=repr)
async def test_invoke_returns_any_json(app: TaskFlow, value: Any) -> None:
    """S3.6, S2.6"""

    @app.function()
    async def child(ctx: Context[Step]) -> Any:
        return value

    @app.function()
    async def parent(ctx: Context[Step], step: Step) -> Any:
        return [await step.invoke("child", function=child)]

    async with Harness(app) as harness:
        run = await harness.start(parent)
        assert await run.aresult("1s") == [value]


async def test_invoke_reaches_functions_of_other_apps(make_app: MakeApp) -> None:
    """S3.6"""
    shop, risk = make_app("shop"), make_app("risk")

    @risk.function(queue="slow")
    def score(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        return step.run("score", lambda: 10 * int(ctx.event.data["n"]))

    @shop.function()
    async def parent(ctx: Context[Step], step: Step) -> Any:
        return await asyncio.gather(
            *[step.invoke("score", function_id="risk/score", data={"n": n}, timeout="1h") for n in range(5)]
        )

    async with Harness(shop, risk, workers=2) as harness:
        run = await harness.start(parent)
        assert await run.aresult("1s") == [0, 10, 20, 30, 40]


@both_kinds
async def test_a_failure_of_the_child_raises_a_non_retriable_step_error(
    app: TaskFlow, is_async: bool
) -> None:
    """S3.6, S5.4"""
    calls: list[str] = []

    @app.function(retries=Retries(2, initial="1m", jitter=False))
    async def child(ctx: Context[Step]) -> None:
        calls.append("child")
        raise LookupError("no such order")

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> None:
        calls.append("parent")
        await step.invoke("child", function=child)

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        calls.append("parent")
        step.invoke("child", function=child)

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        assert await run.astatus() == RunStatus.WAITING
        await harness.advance(minutes=10)
        with pytest.raises(RunFailed, match="LookupError: no such order"):
            await run.aresult("1s")
        await harness.advance(days=1)
    assert calls == ["parent", "child", "child", "child", "parent"]  # one pass of the parent, and its replay


async def test_the_error_of_an_invoke_can_be_caught_and_tells_of_the_child(app: TaskFlow) -> None:
    """S3.6, S5.4"""
    caught: list[StepError] = []

    @app.function()
    async def child(ctx: Context[Step], step: Step) -> None:
        def charge() -> None:
            raise NonRetriableError("card declined")

        await step.run("charge", charge)

    @app.function()
    async def parent(ctx: Context[Step], step: Step) -> str:
        try:
            await step.invoke("pay", function=child)
        except StepError as error:
            caught.append(error)
        return "went on"

    async with Harness(app) as harness:
        run = await harness.start(parent)
        assert await run.aresult("1s") == "went on"
    error = caught[-1]
    assert isinstance(error, NonRetriableError)
    assert (error.name, error.message, error.step_id) == ("NonRetriableError", "card declined", "pay")
    assert "card declined" in error.stack


async def test_a_missing_function_raises_a_step_error_at_once(app: TaskFlow) -> None:
    """S3.6"""
    calls: list[int] = []

    @app.function()
    async def parent(ctx: Context[Step], step: Step) -> None:
        calls.append(1)
        await step.invoke("child", function_id="risk/nobody", timeout="1h")

    async with Harness(app) as harness:
        run = await harness.start(parent)
        with pytest.raises(
            RunFailed, match="FunctionNotFound: no worker has registered the function 'risk/nobody'"
        ):
            await run.aresult("1s")
    assert len(calls) == 1


async def test_a_missing_function_stays_missing_in_the_replay(make_app: MakeApp) -> None:
    """S3.6, S4.1"""
    shop, risk = make_app("shop"), make_app("risk")
    outcomes: list[str] = []

    @shop.function()
    async def parent(ctx: Context[Step], step: Step) -> None:
        try:
            await step.invoke("child", function_id="risk/late")
            outcomes.append("found")
        except StepError as error:
            outcomes.append(error.name)
        await step.sleep("nap", "1h")

    @risk.function()
    async def late(ctx: Context[Step]) -> None: ...

    async with Harness(shop) as harness:
        run = await harness.start(parent)
        async with Harness(risk, clock=harness.clock):
            await harness.advance(hours=1)
        assert await run.astatus() == RunStatus.COMPLETED
    assert outcomes == ["FunctionNotFound"] * 2


@both_kinds
async def test_the_timeout_of_an_invoke_raises_and_the_child_goes_on(app: TaskFlow, is_async: bool) -> None:
    """S3.6, S6.2"""

    @app.function()
    async def child(ctx: Context[Step], step: Step) -> str:
        await step.sleep("nap", "3h")
        return "late"

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> Any:
        try:
            return await step.invoke("child", function=child, timeout="1h")
        except StepError as error:
            await step.sleep("wait", "1d")
            return [error.name, error.step_id]

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        try:
            return step.invoke("child", function=child, timeout="1h")
        except StepError as error:
            step.sleep("wait", "1d")
            return [error.name, error.step_id]

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        await harness.advance(ms=HOUR_MS - 1)
        assert (await harness.view(run)).steps["child"].state == "wait"
        await harness.advance(ms=1)
        assert (await harness.view(run)).steps["child"].state == "failed"
        await harness.advance(hours=3)
        (child_run,) = await harness.runs(child)
        assert await child_run.aresult("1s") == "late"
        await harness.advance(days=1)
        assert await run.aresult("1s") == ["InvokeTimeout", "child"]


async def test_a_child_in_time_leaves_no_timeout_behind(app: TaskFlow) -> None:
    """S3.6"""

    @app.function()
    async def child(ctx: Context[Step], step: Step) -> str:
        await step.sleep("nap", "59m")
        return "in time"

    @app.function()
    async def parent(ctx: Context[Step], step: Step) -> Any:
        return await step.invoke("child", function=child, timeout="1h")

    async with Harness(app) as harness:
        run = await harness.start(parent)
        await harness.advance(minutes=59)
        assert await run.aresult("1s") == "in time"
        assert await harness.next_due_ms() is None


async def test_a_cancelled_child_raises_a_step_error(app: TaskFlow) -> None:
    """S3.6"""

    @app.function()
    async def child(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "3h")

    @app.function()
    async def parent(ctx: Context[Step], step: Step) -> Any:
        await step.invoke("child", function=child)

    async with Harness(app) as harness:
        run = await harness.start(parent)
        (child_run,) = await harness.runs(child)
        await child_run.acancel("not needed")
        await harness.settled()
        with pytest.raises(RunFailed, match="not needed"):
            await run.aresult("1s")


async def test_invoke_takes_a_function_or_an_id(app: TaskFlow) -> None:
    """S3.6"""

    @app.function(retries=0)
    async def parent(ctx: Context[Step], step: Step) -> None:
        if ctx.event.data["both"]:
            await step.invoke("child", function=parent, function_id="shop/parent")
        await step.invoke("child")

    async with Harness(app) as harness:
        for both in (True, False):
            run = await harness.start(parent, {"both": both})
            with pytest.raises(
                RunFailed,
                match="TypeError: step.invoke takes either function=... .* or function_id='app/function'",
            ):
                await run.aresult("1s")


async def test_functions_may_invoke_themselves(app: TaskFlow) -> None:
    """S3.6"""

    @app.function()
    async def factorial(ctx: Context[Step], step: Step) -> int:
        n = int(ctx.event.data["n"])
        return n * int(await step.invoke("next", function_id="shop/factorial", data={"n": n - 1})) if n else 1

    async with Harness(app, concurrency=2) as harness:
        run = await harness.start(factorial, {"n": 10})
        assert await run.aresult("1s") == 3_628_800


# --- S3.8 occurrence numbers ---


@both_kinds
async def test_loops_need_no_unique_ids(app: TaskFlow, is_async: bool) -> None:
    """S3.8"""
    calls: list[int] = []
    passes: list[list[int]] = []

    def work(n: int) -> int:
        calls.append(n)
        return n * n

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> list[int]:
        got: list[int] = []
        for n in range(4):
            got.append(await step.run("work", work, n))
            await step.sleep("pause", "1m")
        passes.append(got)
        return got

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> list[int]:
        got: list[int] = []
        for n in range(4):
            got.append(step.run("work", work, n))
            step.sleep("pause", "1m")
        passes.append(got)
        return got

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        await harness.advance(minutes=4)
        assert await run.aresult("1s") == [0, 1, 4, 9]
        keys = list((await harness.view(run)).steps)
    assert keys == ["work", "pause", "work#1", "pause#1", "work#2", "pause#2", "work#3", "pause#3"]
    assert calls == [0, 1, 2, 3]
    assert passes == [[0, 1, 4, 9]]


async def test_a_repeated_id_is_numbered_whatever_the_tool_and_whatever_other_ids_look_like(
    app: TaskFlow,
) -> None:
    """S3.8"""
    passes: list[list[Any]] = []

    @app.function()
    async def child(ctx: Context[Step]) -> str:
        return "child"

    @app.function()
    async def mixed(ctx: Context[Step], step: Step) -> None:
        got: list[Any] = [await step.run("x#1", lambda: "named so"), await step.run("x", lambda: "first")]
        await step.sleep("x", "1h")
        got.append(await step.run("x", lambda: "third"))
        got.append(await step.invoke("x", function=child))
        got.append(await step.run("x#1", lambda: "named so again"))
        got.append(await step.wait_for_event("x", "never", timeout="1h"))
        got.append(len(await step.send_event("x", Event("a"))))
        passes.append(got)

    async with Harness(app) as harness:
        run = await harness.start(mixed)
        await harness.advance(hours=3)
        assert await run.astatus() == RunStatus.COMPLETED
        assert len((await harness.view(run)).steps) == 8
    assert passes[-1] == ["named so", "first", "third", "child", "named so again", None, 1]


# --- S3.9 nesting ---


@both_kinds
@pytest.mark.parametrize("inner", ["run", "sleep", "wait_for_event", "send_event", "invoke", "parallel"])
async def test_a_step_inside_a_step_raises_and_is_not_retried(
    app: TaskFlow, is_async: bool, inner: str
) -> None:
    """S3.9"""
    calls: list[str] = []
    arguments: dict[str, Any] = {
        "run": ("inner", lambda: calls.append("inner")),
        "sleep": ("inner", "1h"),
        "wait_for_event": ("inner", "paid", "1h"),
        "send_event": ("inner", Event("paid")),
        "invoke": ("inner",),
    }

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> None:
        async def outer() -> None:
            calls.append("outer")
            if inner == "parallel":
                await step.parallel((lambda: step.run("inner", lambda: calls.append("inner")),))
            elif inner == "invoke":
                await step.invoke("inner", function_id="shop/async")
            else:
                await getattr(step, inner)(*arguments[inner])

        await step.run("outer", outer)

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        def outer() -> None:
            calls.append("outer")
            if inner == "parallel":
                step.parallel((lambda: step.run("inner", lambda: calls.append("inner")),))
            elif inner == "invoke":
                step.invoke("inner", function_id="shop/def")
            else:
                getattr(step, inner)(*arguments[inner])

        step.run("outer", outer)

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        with pytest.raises(
            RunFailed,
            match="NestedStepError: step 'inner' was called inside step 'outer'. .* use step.invoke",
        ):
            await run.aresult("1s")
        assert list((await harness.view(run)).steps) == ["outer"]
    assert calls == ["outer"]


async def test_steps_next_to_a_step_are_not_inside_it(app: TaskFlow) -> None:
    """S3.9"""
    both_inside = asyncio.Barrier(2)

    @app.function()
    async def handler(ctx: Context[Step], step: Step) -> list[str]:
        async def branch(name: str) -> str:
            await step.run(name, both_inside.wait)
            return await step.run(f"{name} 2", lambda: name)

        return list(await asyncio.gather(branch("a"), branch("b")))

    async with Harness(app) as harness:
        run = await harness.start(handler)
        assert await run.aresult("1s") == ["a", "b"]


# --- S3.10 limits ---


def test_the_limits_have_their_defaults(app: TaskFlow) -> None:
    """S3.10"""
    assert app.config.max_steps == 1_000
    assert app.config.max_step_output_bytes == 4 * 1024 * 1024
    assert app.config.max_run_bytes == 32 * 1024 * 1024


@both_kinds
async def test_a_run_may_have_1000_steps_and_not_1001(app: TaskFlow, is_async: bool) -> None:
    """S3.10"""
    calls: list[int] = []

    async def note() -> None:
        calls.append(1)

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> str:
        for _ in range(ctx.event.data["steps"]):
            await step.run("one more", note)
        return "done"

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> str:
        for _ in range(ctx.event.data["steps"]):
            step.run("one more", note)
        return "done"

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async], {"steps": 1_000})
        assert await run.aresult("1s") == "done"
        run = await harness.start(functions[is_async], {"steps": 1_001})
        with pytest.raises(
            RunFailed,
            match="LimitExceeded: step 'one more' would be number 1001, but a run has at most 1000 steps",
        ):
            await run.aresult("1s")
    assert len(calls) == 2_000


async def test_max_steps_is_configurable_and_counts_all_kinds(make_app: MakeApp) -> None:
    """S3.10"""
    app = make_app(max_steps=3)

    @app.function()
    async def handler(ctx: Context[Step], step: Step) -> None:
        await step.run("a", lambda: 1)
        await step.sleep("b", "1h")
        await step.send_event("c", Event("x"))
        await step.wait_for_event("d", "never", timeout="1h")

    async with Harness(app) as harness:
        run = await harness.start(handler)
        await harness.advance(hours=1)
        with pytest.raises(
            RunFailed,
            match=r"LimitExceeded: step 'd' would be number 4, but a run has at most 3 steps\. .*max_steps",
        ):
            await run.aresult("1s")


@both_kinds
async def test_a_step_output_over_the_limit_fails_the_run_at_once(make_app: MakeApp, is_async: bool) -> None:
    """S3.10"""
    app = make_app(max_step_output_bytes=1_000)
    calls: list[int] = []

    def make(size: int) -> str:
        calls.append(size)
        return "x" * (size - 2)

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> None:
        await step.run("fits", make, 1_000)
        await step.run("too much", make, 1_001)

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        step.run("fits", make, 1_000)
        step.run("too much", make, 1_001)

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    text = r"LimitExceeded: step 'too much' returned 1,001 bytes of JSON, but at most 1,000 are allowed \(max_step_output_bytes\)"
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        with pytest.raises(RunFailed, match=text):
            await run.aresult("1s")
    assert calls == [1_000, 1_001]


async def test_a_childs_output_over_the_limit_fails_the_invoke(make_app: MakeApp) -> None:
    """S3.10: what an invoke returns is a step's output as well."""
    app = make_app(max_step_output_bytes=1_000)

    @app.function()
    async def child(ctx: Context[Step]) -> str:
        return "x" * int(ctx.event.data["size"] - 2)

    @app.function()
    async def parent(ctx: Context[Step], step: Step) -> int:
        return len(await step.invoke("child", function=child, data={"size": ctx.event.data["size"]}))

    async with Harness(app) as harness:
        run = await harness.start(parent, {"size": 1_000})
        assert await run.aresult("1s") == 998
        run = await harness.start(parent, {"size": 1_001})
        with pytest.raises(RunFailed, match="LimitExceeded: .*1,001 bytes.* 1,000 are allowed"):
            await run.aresult("1s")


@both_kinds
async def test_a_state_over_the_limit_fails_the_run(make_app: MakeApp, is_async: bool) -> None:
    """S3.10"""
    app = make_app(max_step_output_bytes=1_000, max_run_bytes=3_000)
    calls: list[int] = []

    def make() -> str:
        calls.append(1)
        return "x" * 800

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> None:
        for _ in range(2):
            await step.run("more", make)
        await step.sleep("replay", "1h")
        for _ in range(10):
            await step.run("more", make)

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        for _ in range(2):
            step.run("more", make)
        step.sleep("replay", "1h")
        for _ in range(10):
            step.run("more", make)

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        await harness.advance(hours=1)
        with pytest.raises(
            RunFailed,
            match=r"LimitExceeded: the steps of run .* hold 3,\d\d\d bytes, but at most 3,000 are allowed \(max_run_bytes\)",
        ):
            await run.aresult("1s")
    assert len(calls) == 4


async def test_what_waits_and_invokes_bring_counts_for_the_state_too(make_app: MakeApp) -> None:
    """S3.10"""
    app = make_app(max_step_output_bytes=1_000, max_run_bytes=3_000)

    @app.function()
    async def child(ctx: Context[Step]) -> str:
        return "x" * 800

    @app.function()
    async def invoking(ctx: Context[Step], step: Step) -> None:
        for _ in range(10):
            await step.invoke("child", function=child)

    @app.function()
    async def waiting(ctx: Context[Step], step: Step) -> None:
        for _ in range(10):
            await step.wait_for_event("paid", "paid", timeout="1h")

    async with Harness(app) as harness:
        run = await harness.start(waiting)
        for _ in range(10):
            await harness.send("paid", {"text": "x" * 800})
        with pytest.raises(RunFailed, match=r"LimitExceeded: .* 3,000 are allowed \(max_run_bytes\)"):
            await run.aresult("1s")
        run = await harness.start(invoking)
        with pytest.raises(RunFailed, match=r"LimitExceeded: .* 3,000 are allowed \(max_run_bytes\)"):
            await run.aresult("1s")


async def test_large_states_within_the_limits_work(app: TaskFlow) -> None:
    """S3.10"""
    chunk = "x" * (4 * 1024 * 1024 - 2)

    @app.function()
    async def handler(ctx: Context[Step], step: Step) -> int:
        total = 0
        for _ in range(7):
            total += len(await step.run("chunk", lambda: chunk))
        await step.sleep("replay", "1h")
        return total

    began = time.monotonic()
    async with Harness(app) as harness:
        run = await harness.start(handler)
        await harness.advance(hours=1)
        assert await run.aresult("5s") == 7 * len(chunk)
    assert time.monotonic() - began < 10
