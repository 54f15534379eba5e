"""S11.4: middleware wraps sends, activations and attempts, and is told what happens to a run."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import pytest

from taskflow import (
    Activation,
    Attempt,
    Batch,
    BlockingStep,
    ConfigError,
    Context,
    Event,
    Middleware,
    Outcome,
    ReceivedEvent,
    RunFailed,
    Step,
    StepError,
    TaskFlow,
    Timeouts,
    current,
)
from taskflow.testing import Harness
from tests.conftest import MakeApp

pytestmark = pytest.mark.usefixtures("no_bugs")

Call = Callable[[], Awaitable[Outcome]]
BlockingCall = Callable[[], Outcome]
Send = Callable[[Sequence[Event]], Awaitable[list[str]]]
BlockingSend = Callable[[Sequence[Event]], list[str]]


class Recorder(Middleware):
    """Writes down each call of a hook."""

    def __init__(self, name: str = "", log: list[str] | None = None) -> None:
        self.name = name
        self.log: list[str] = [] if log is None else log

    def note(self, text: str) -> None:
        self.log.append(f"{self.name} {text}".strip())

    async def wrap_run(self, run: Activation, call: Call) -> Outcome:
        self.note("run (")
        outcome = await call()
        self.note(f") run {outcome.status}")
        return outcome

    async def wrap_attempt(self, attempt: Attempt, call: Call) -> Outcome:
        self.note(f"attempt {attempt.step_id or 'handler'} {attempt.number} (")
        outcome = await call()
        self.note(f") attempt {attempt.step_id or 'handler'} {outcome.status}")
        return outcome

    async def on_run_start(self, run: Activation) -> None:
        self.note("start")

    def on_resume(self, run: Activation) -> None:
        self.note("resume")

    async def on_suspend(self, run: Activation) -> None:
        self.note("suspend")

    def on_cancel(self, run: Activation, reason: str) -> None:
        self.note(f"cancel: {reason}")

    def on_run_end(self, run: Activation, outcome: Outcome) -> None:
        self.note(f"end {outcome.status} {outcome.value or outcome.error or ''}".strip())

    def on_step_start(self, attempt: Attempt) -> None:
        self.note(f"step start {attempt.step_key} {attempt.number}")

    async def on_step_end(self, attempt: Attempt, outcome: Outcome) -> None:
        self.note(f"step end {attempt.step_key} {outcome.status}")

    def on_retry(self, attempt: Attempt, error: BaseException, due_ms: int) -> None:
        self.note(f"retry {attempt.step_id or 'handler'} after {error}")


class BlockingRecorder(Recorder):
    """The same with `def` methods around user code."""

    def wrap_run(self, run: Activation, call: BlockingCall) -> Outcome:  # type: ignore[override]
        self.note("run (")
        outcome = call()
        self.note(f") run {outcome.status}")
        return outcome

    def wrap_attempt(self, attempt: Attempt, call: BlockingCall) -> Outcome:  # type: ignore[override]
        self.note(f"attempt {attempt.step_id or 'handler'} {attempt.number} (")
        outcome = call()
        self.note(f") attempt {attempt.step_id or 'handler'} {outcome.status}")
        return outcome


RECORDERS = [Recorder, BlockingRecorder]


async def test_the_hooks_of_a_run_without_steps(make_app: MakeApp) -> None:
    recorder = Recorder()
    app = make_app(middleware=[recorder])

    @app.function()
    async def hello(ctx: Context[Step]) -> str:
        return "hello"

    async with Harness(app) as harness:
        await harness.start(hello)
    assert recorder.log == [
        "start",
        "run (",
        "attempt handler 0 (",
        ") attempt handler completed",
        ") run completed",
        "end completed hello",
    ]


@pytest.mark.parametrize("kind", RECORDERS)
@pytest.mark.parametrize("is_async", [True, False])
async def test_a_run_that_sleeps_is_two_activations_and_a_step_with_a_memo_is_not_told_of(
    make_app: MakeApp, kind: type[Recorder], is_async: bool
) -> None:
    recorder = kind()
    app = make_app(middleware=[recorder])

    if is_async:

        @app.function(id="nap")
        async def nap(ctx: Context[Step], step: Step) -> str:
            await step.run("before", lambda: 1)
            await step.sleep("a while", "1h")
            return "rested"
    else:

        @app.function(id="nap")
        def nap_blocking(ctx: Context[BlockingStep], step: BlockingStep) -> str:
            step.run("before", lambda: 1)
            step.sleep("a while", "1h")
            return "rested"

    async with Harness(app) as harness:
        await harness.start(app.functions["shop/nap"])
        assert recorder.log == [
            "start",
            "run (",
            "attempt handler 0 (",
            "step start before 0",
            "attempt before 0 (",
            ") attempt before completed",
            "step end before completed",
            ") attempt handler suspended",
            ") run suspended",
            "suspend",
        ]
        recorder.log.clear()
        await harness.advance(hours=1)
    assert recorder.log == [
        "resume",
        "run (",
        "attempt handler 0 (",
        ") attempt handler completed",
        ") run completed",
        "end completed rested",
    ]


async def test_failed_attempts_of_a_step_and_of_the_handler_are_told_with_their_retries(
    make_app: MakeApp,
) -> None:
    recorder = Recorder()
    app = make_app(middleware=[recorder], retries=1)
    calls: list[str] = []

    def charge() -> str:
        calls.append("charge")
        if len(calls) == 1:
            raise ValueError("no money")
        return "paid"

    @app.function()
    async def buy(ctx: Context[Step], step: Step) -> str:
        await step.run("charge", charge)
        raise RuntimeError("no stock")

    async with Harness(app) as harness:
        run = await harness.run(buy)
        with pytest.raises(RunFailed, match="no stock"):
            await run.aresult()
    told = ("start", "step", "retry", "end")
    assert [line for line in recorder.log if line.split()[0] in told] == [
        "start",
        "step start charge 0",
        "step end charge failed",
        "retry charge after no money",
        "step start charge 1",
        "step end charge completed",
        "retry handler after no stock",
        "end failed no stock",
    ]


async def test_a_run_that_is_cancelled_here_tells_why(make_app: MakeApp) -> None:
    recorder = Recorder()
    app = make_app(middleware=[recorder])
    began, may_end = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        began.set()
        await may_end.wait()

    @app.function()
    async def long(ctx: Context[Step], step: Step) -> None:
        await step.run("work", work)
        await step.run("never", work)

    async with Harness(app) as harness:
        run = await long.ainvoke()
        await began.wait()
        await app.acancel_runs(long, reason="not needed")
        may_end.set()
        await harness.settled()
        assert (await harness.status(harness._handle(long, run.id))) == "cancelled"
    assert recorder.log[-4:] == [
        ") attempt handler cancelled",
        ") run cancelled",
        "cancel: not needed",
        "end cancelled",
    ]


@pytest.mark.parametrize("kind", RECORDERS)
async def test_branches_and_races_miss_no_hook(make_app: MakeApp, kind: type[Recorder]) -> None:
    recorder = kind()
    app = make_app(middleware=[recorder])

    async def work(name: str) -> str:
        await asyncio.sleep(0)
        return name

    @app.function()
    async def wide(ctx: Context[Step], step: Step) -> list[str]:
        both = await asyncio.gather(step.run("a", work, "a"), step.run("b", lambda: "b"))
        first = await step.parallel(
            [lambda: step.run("c", work, "c"), lambda: step.run("d", work, "d")], mode="race"
        )
        return [*both, first]

    async with Harness(app) as harness:
        run = await harness.run(wide)
        assert (await run.aresult())[:2] == ["a", "b"]
    for step in "abcd":
        assert recorder.log.count(f"step start {step} 0") == 1
        assert recorder.log.count(f"attempt {step} 0 (") == 1
        assert recorder.log.count(f") attempt {step} completed") == 1
        assert recorder.log.count(f"step end {step} completed") == 1


async def test_a_step_that_another_process_executes_is_wrapped_there(make_app: MakeApp) -> None:
    recorder = Recorder()
    app = make_app(middleware=[recorder])
    seen: list[tuple[str, str]] = []

    class Where(Middleware):
        def on_step_start(self, attempt: Attempt) -> None:
            seen.append((attempt.step_id, attempt.run.offered_step))

    meet = asyncio.Barrier(2)

    async def work() -> None:
        async with asyncio.timeout(10):
            await meet.wait()

    @app.function(middleware=[Where()])
    async def wide(ctx: Context[Step], step: Step) -> None:
        await asyncio.gather(step.run("a", work), step.run("b", work))

    async with Harness(app, workers=2, concurrency=1) as harness:
        run = await wide.ainvoke()
        await run.aresult(timeout=20)
        await harness.settled()
    assert sorted(step for step, _ in seen) == ["a", "b"]
    assert [offered for step, offered in seen if offered] in (["a"], ["b"])
    assert recorder.log.count("start") == 1
    assert recorder.log.count("run (") >= 2
    assert sorted(line for line in recorder.log if line.startswith("step end")) == [
        "step end a completed",
        "step end b completed",
    ]


async def test_a_rerun_begins_though_it_has_memos_of_the_old_run(make_app: MakeApp) -> None:
    recorder = Recorder()
    app = make_app(middleware=[recorder])

    @app.function()
    async def buy(ctx: Context[Step], step: Step) -> str:
        await step.run("a", lambda: 1)
        await step.run("b", lambda: 2)
        return "done"

    async with Harness(app) as harness:
        run = await harness.run(buy)
        recorder.log.clear()
        await harness.advance(seconds=1)
        await app.arerun(run.id, from_step="b")
        await harness.settled()
    assert [line for line in recorder.log if "start" in line or "resume" in line] == [
        "start",
        "step start b 0",
    ]


async def test_the_middleware_of_the_app_is_around_that_of_the_function_also_for_on_failure(
    make_app: MakeApp,
) -> None:
    log: list[str] = []
    app = make_app(middleware=[Recorder("app", log)], retries=0)

    async def clean_up(ctx: Context[Step]) -> None: ...

    @app.function(middleware=[Recorder("own", log)], on_failure=clean_up)
    async def fails(ctx: Context[Step]) -> None:
        raise ValueError("broken")

    async with Harness(app) as harness:
        await harness.run(fails)
        await harness.settled()
    one = [
        "app start",
        "own start",
        "app run (",
        "own run (",
        "app attempt handler 0 (",
        "own attempt handler 0 (",
        "own ) attempt handler {}",
        "app ) attempt handler {}",
        "own ) run {}",
        "app ) run {}",
    ]
    failed, ended = [line.format("failed") for line in one], [line.format("completed") for line in one]
    assert log == [
        *failed,
        "app end failed broken",
        "own end failed broken",
        *ended,
        "app end completed",
        "own end completed",
    ]


# --- what the hooks get ---


async def test_the_facts_of_an_activation_and_of_an_attempt(make_app: MakeApp) -> None:
    runs: list[Activation] = []
    attempts: list[Attempt] = []

    class Facts(Middleware):
        def on_run_end(self, run: Activation, outcome: Outcome) -> None:
            runs.append(run)

        def on_step_end(self, attempt: Attempt, outcome: Outcome) -> None:
            attempts.append(attempt)

    app = make_app(middleware=[Facts()])

    @app.function(trigger="order")
    async def buy(ctx: Context[Step], step: Step) -> None:
        await step.run("pay", lambda: 1)
        await step.sleep("nap", "1h")
        await step.run("pay", lambda: 1)

    async with Harness(app) as harness:
        began_ms = harness.clock.now_ms()
        sent = await harness.send("order", {"n": 7}, headers={"tenant": "acme"})
        await harness.advance(hours=1)
    (run,) = runs
    assert (run.run_id, run.function_id, run.app_id) == (sent.id, "shop/buy", "shop")
    assert (run.event.data, run.headers) == ({"n": 7}, {"tenant": "acme"})
    assert (run.created_ms, run.started_ms) == (began_ms, began_ms)
    assert (run.claimed_ms, run.ended_ms) == (began_ms + 3_600_000, began_ms + 3_600_000)
    assert (run.is_first, run.queue_wait_ms, run.offered_step) == (False, None, "")
    assert [(a.step_id, a.step_key, a.number) for a in attempts] == [("pay", "pay", 0), ("pay", "pay#1", 0)]
    assert attempts[0].run.queue_wait_ms == 0
    assert attempts[1].ended_ms == began_ms + 3_600_000
    assert run.worker.startswith("harness-")


async def test_context_variables_that_a_wrap_sets_reach_the_code_inside(make_app: MakeApp) -> None:
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
    seen: list[str] = []

    class Tenant(Middleware):
        async def wrap_run(self, run: Activation, call: Call) -> Outcome:
            token = tenant.set(run.headers.get("tenant", "nobody"))
            try:
                return await call()
            finally:
                tenant.reset(token)

    class BlockingTenant(Middleware):
        def wrap_attempt(self, attempt: Attempt, call: BlockingCall) -> Outcome:
            tenant.set(tenant.get().upper())
            return call()

    app = make_app(middleware=[Tenant(), BlockingTenant()])

    async def later() -> None:
        seen.append(tenant.get())

    @app.function(trigger="a")
    async def on_loop(ctx: Context[Step], step: Step) -> None:
        seen.append(tenant.get())
        await step.run("async", later)
        await step.run("sync", lambda: seen.append(tenant.get()))

    @app.function(trigger="a")
    def in_thread(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        seen.append(tenant.get())
        step.run("async", later)
        step.run("sync", lambda: seen.append(tenant.get()))

    async with Harness(app) as harness:
        await harness.send("a", headers={"tenant": "acme"})
        await harness.settled()
    assert seen == ["ACME"] * 6


async def test_a_def_wrap_runs_in_the_thread_of_def_code_inside_it(make_app: MakeApp) -> None:
    threads: list[tuple[str, int]] = []

    class Here(Middleware):
        def wrap_attempt(self, attempt: Attempt, call: BlockingCall) -> Outcome:
            threads.append((attempt.step_id, threading.get_ident()))
            return call()

    app = make_app(middleware=[Recorder(), Here(), Here()])

    def work() -> None:
        threads.append(("step", threading.get_ident()))

    @app.function()
    def in_thread(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        threads.append(("", threading.get_ident()))
        step.run("step", work)

    async with Harness(app) as harness:
        await harness.run(in_thread)
    assert len({thread for step, thread in threads if step == "step"}) == 1
    assert len({thread for step, thread in threads if not step}) == 1
    assert len(threads) == 6


# --- what a middleware changes ---


async def test_wrap_send_changes_events_from_sync_and_async_code_and_from_a_step(make_app: MakeApp) -> None:
    class Stamp(Middleware):
        async def wrap_send(self, events: Sequence[Event], send: Send) -> list[str]:
            return await send([replace(e, headers={**(e.headers or {}), "by": "loop"}) for e in events])

    class BlockingStamp(Middleware):
        def wrap_send(self, events: Sequence[Event], send: BlockingSend) -> list[str]:
            return send([replace(e, headers={**(e.headers or {}), "also": "thread"}) for e in events])

    seen: list[dict[str, str]] = []
    for middleware in ([Stamp(), BlockingStamp()], [BlockingStamp()], [BlockingStamp(), Stamp()]):
        app = make_app(middleware=middleware)

        @app.function(trigger="got")
        async def got(ctx: Context[Step]) -> None:
            seen.append(dict(ctx.headers))

        @app.function(trigger="forward")
        async def forward(ctx: Context[Step], step: Step) -> None:
            await step.send_event("on", Event("got"))

        async with Harness(app) as harness:
            await asyncio.to_thread(app.send, "got")
            await app.asend("got")
            await harness.send("got")
            await harness.send("forward")
            await harness.settled()
        wanted = {"also": "thread"} | ({"by": "loop"} if len(middleware) == 2 else {})
        assert seen == [wanted] * 4
        seen.clear()


async def test_transform_event_changes_what_the_handler_gets_of_its_own_of_a_batch_and_of_a_wait(
    make_app: MakeApp,
) -> None:
    class Upper(Middleware):
        async def transform_event(self, event: ReceivedEvent) -> ReceivedEvent:
            return replace(event, data={name.upper(): value for name, value in event.data.items()})

    app = make_app(middleware=[Upper()])

    @app.function(trigger="one")
    async def one(ctx: Context[Step], step: Step) -> list[Any]:
        found = await step.wait_for_event("more", "more", "1h")
        assert found is not None
        await step.sleep("a while", "1s")
        return [ctx.event.data, found.data]

    @app.function(trigger="many", batch_events=Batch(2, "1h"))
    def many(ctx: Context[BlockingStep]) -> list[Any]:
        return [ctx.event.data, *(event.data for event in ctx.events)]

    async with Harness(app) as harness:
        run = await harness.send("one", {"n": 1})
        await harness.send("more", {"m": 2})
        await harness.advance(seconds=1)
        assert await run.aresult() == [{"N": 1}, {"M": 2}]
        await harness.send([Event("many", {"a": 1}), Event("many", {"b": 2})])
        (batch,) = await harness.runs(many)
        assert await batch.aresult() == [{"A": 1}, {"A": 1}, {"B": 2}]


async def test_a_wrap_may_give_another_outcome_and_its_error_is_the_attempts(make_app: MakeApp) -> None:
    class Odd(Middleware):
        async def wrap_attempt(self, attempt: Attempt, call: Call) -> Outcome | None:
            outcome = await call()
            if attempt.step_id == "other value":
                return Outcome("completed", outcome.value + 1)
            if attempt.step_id == "hides an error":
                return Outcome("completed", f"instead of {outcome.error}")
            if attempt.step_id == "raises" and attempt.number == 0:
                raise LookupError("by the middleware")
            if attempt.step_id == "nothing":
                return None
            return outcome

    app = make_app(middleware=[Odd()])

    def broken() -> str:
        raise ValueError("an error")

    @app.function()
    async def odd(ctx: Context[Step], step: Step) -> list[Any]:
        return [
            await step.run("other value", lambda: 1),
            await step.run("hides an error", broken),
            await step.run("raises", lambda: 2),
            await step.run("nothing", lambda: 3),
        ]

    async with Harness(app) as harness:
        run = await harness.run(odd)
        assert await run.aresult() == [2, "instead of an error", 2, 3]
        assert "attempt 1  LookupError: by the middleware" in (await harness.view(run)).page


# --- what goes wrong in a middleware ---


async def test_an_error_in_an_on_hook_is_logged_once_with_its_name_and_changes_nothing(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Middleware):
        def __init__(self) -> None:
            self.called: set[str] = set()

        def fails(self, name: str) -> None:
            self.called.add(name)
            raise (SystemExit(3) if name == "on_step_end" else ValueError(f"{name} is broken"))

        async def on_run_start(self, run: Activation) -> None:
            self.fails("on_run_start")

        def on_resume(self, run: Activation) -> None:
            self.fails("on_resume")

        async def on_suspend(self, run: Activation) -> None:
            self.fails("on_suspend")

        def on_run_end(self, run: Activation, outcome: Outcome) -> None:
            self.fails("on_run_end")

        async def on_step_start(self, attempt: Attempt) -> None:
            self.fails("on_step_start")

        def on_step_end(self, attempt: Attempt, outcome: Outcome) -> None:
            self.fails("on_step_end")

        async def on_retry(self, attempt: Attempt, error: BaseException, due_ms: int) -> None:
            self.fails("on_retry")

    broken = Broken()
    app = make_app(middleware=[broken])
    calls: list[int] = []

    def flaky() -> str:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("once")
        return "fine"

    @app.function()
    async def works(ctx: Context[Step], step: Step) -> str:
        return await step.run("flaky", flaky)

    with caplog.at_level(logging.ERROR, logger="taskflow.middleware"):
        async with Harness(app) as harness:
            for _ in range(2):
                calls.clear()
                run = await harness.run(works)
                assert await run.aresult() == "fine"
    told = sorted(record.getMessage().split(" raised ")[0] for record in caplog.records)
    assert told == sorted(f"Broken.{name}" for name in broken.called)
    assert len(broken.called) == 7


@pytest.mark.parametrize("hook", ["wrap_run", "wrap_attempt", "transform_event"])
@pytest.mark.parametrize("is_async", [True, False])
async def test_an_error_in_a_wrapping_hook_is_recorded_as_that_of_the_handlers_attempt(
    make_app: MakeApp, hook: str, is_async: bool
) -> None:
    async def fails(self: object, *args: Any) -> None:
        raise ValueError(f"{hook} is broken")

    def fails_in_a_thread(self: object, *args: Any) -> None:
        raise ValueError(f"{hook} is broken")

    broken = type("Broken", (Middleware,), {hook: fails if is_async else fails_in_a_thread})
    recorder = Recorder()
    app = make_app(middleware=[recorder, broken()], retries=1)

    @app.function()
    async def handler(ctx: Context[Step]) -> str:
        return "never"

    async with Harness(app) as harness:
        run = await harness.run(handler)
        with pytest.raises(RunFailed, match=f"ValueError: {hook} is broken"):
            await run.aresult()
        assert f"{hook} is broken" in (await harness.view(run)).page
    assert [line for line in recorder.log if "retry" in line or "end" in line] == [
        f"retry handler after {hook} is broken",
        f"end failed {hook} is broken",
    ]


async def test_an_error_in_wrap_send_is_raised_by_the_send(make_app: MakeApp) -> None:
    class Broken(Middleware):
        def wrap_send(self, events: Sequence[Event], send: BlockingSend) -> list[str]:
            raise PermissionError("no tenant")

    app = make_app(middleware=[Broken()], retries=0)

    @app.function()
    async def sends(ctx: Context[Step], step: Step) -> None:
        await step.send_event("send", Event("a"))

    with pytest.raises(PermissionError, match="no tenant"):
        app.send("a")
    with pytest.raises(PermissionError, match="no tenant"):
        await app.asend("a")
    async with Harness(app) as harness:
        run = await harness.run(sends)
        with pytest.raises(RunFailed, match="PermissionError: no tenant"):
            await run.aresult()


async def test_a_wrap_that_never_calls_or_calls_twice_fails_the_attempt(make_app: MakeApp) -> None:
    class Odd(Middleware):
        async def wrap_attempt(self, attempt: Attempt, call: Call) -> Any:
            match attempt.step_id:
                case "never":
                    return None
                case "twice":
                    await call()
                    await call()
                case "text":
                    return "text"
                case _:
                    return await call()

    app = make_app(middleware=[Odd()], retries=0)

    @app.function()
    async def odd(ctx: Context[Step], step: Step) -> list[str]:
        told = []
        for name in ("never", "twice", "text"):
            try:
                await step.run(name, lambda: None)
            except StepError as error:
                told.append(error.message)
        return told

    async with Harness(app) as harness:
        never, twice, text = await (await harness.run(odd)).aresult()
    assert never.startswith("Odd.wrap_attempt returned None without having called call()")
    assert twice.startswith("Odd.wrap_attempt called call() twice")
    assert text.startswith("Odd.wrap_attempt must return an Outcome")


async def test_the_time_limit_of_a_step_is_that_of_its_code_and_the_wraps_hear_of_it(
    make_app: MakeApp,
) -> None:
    recorder = Recorder()
    app = make_app(middleware=[recorder], retries=0)

    @app.function(timeouts=Timeouts(step="50ms"))
    async def slow(ctx: Context[Step], step: Step) -> None:
        await step.run("wait", asyncio.sleep, 30)

    async with Harness(app) as harness:
        run = await harness.run(slow)
        with pytest.raises(RunFailed, match="StepTimeout"):
            await run.aresult()
    assert ") attempt wait failed" in recorder.log


# --- what is refused when a middleware is given ---


def test_what_is_no_middleware_is_refused(make_app: MakeApp) -> None:
    class Typo(Middleware):
        def on_run_started(self, run: Activation) -> None: ...

    class Late(Middleware):
        async def on_register(self, app: Any, function: Any) -> None:  # type: ignore[override]
            ...

    for wrong, text in [
        ([object()], "must derive from taskflow.Middleware"),
        ([Recorder], r"write Recorder\(\)"),
        (Recorder(), "must be a list"),
        ([Typo()], "on_run_started is no hook; did you mean on_run_start?"),
        ([Late()], "on_register must be a plain def"),
    ]:
        with pytest.raises(ConfigError, match=text):
            make_app(middleware=wrong)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=text):
            make_app().function(id="f", middleware=wrong)(lambda ctx: None)  # type: ignore[call-overload]


def test_on_register_gets_each_function_and_may_refuse_it(make_app: MakeApp) -> None:
    class Owners(Middleware):
        def __init__(self) -> None:
            self.seen: list[str] = []

        def on_register(self, app: TaskFlow, function: Any) -> None:
            self.seen.append(function.id)
            if function.id.endswith("bad"):
                raise ConfigError("no owner")

    owners = Owners()
    app = make_app(middleware=[owners])

    async def handler(ctx: Context[Step]) -> None: ...

    app.function(id="good", on_failure=handler)(handler)
    with pytest.raises(ConfigError, match="no owner"):
        app.function(id="bad")(handler)
    assert owners.seen == ["shop/good", "shop/good-on-failure", "shop/bad"]
    assert list(app.functions) == ["shop/good", "shop/good-on-failure"]


async def test_transform_headers_gives_headers_to_the_runs_that_code_calls(make_app: MakeApp) -> None:
    class Stamp(Middleware):
        def __init__(self, name: str) -> None:
            self.name = name

        def transform_headers(self, headers: Mapping[str, str]) -> Mapping[str, str]:
            return {**headers, "stamps": headers.get("stamps", "") + self.name}

    app = make_app(middleware=[Stamp("a")])
    seen: dict[str, Any] = {}

    @app.task
    def child(who: str) -> None:
        context = current()
        assert context is not None
        seen[who] = dict(context.headers)

    @app.function(middleware=[Stamp("b")])
    async def caller(ctx: Context, step: Step) -> None:
        await step.invoke("child", function=child, data=child.arguments("step"), headers={"stamps": "own-"})

    async with Harness(app) as harness:
        await caller.ainvoke(headers={"tenant": "acme"})
        await child.adelay("delay")
        await harness.settled()
    assert seen == {
        "step": {"tenant": "acme", "stamps": "own-ab"},
        "delay": {"stamps": "a"},
    }


def test_transform_headers_is_a_plain_def() -> None:
    class Slow(Middleware):
        async def transform_headers(self, headers: Mapping[str, str]) -> Mapping[str, str]:  # type: ignore[override]
            return headers

    with pytest.raises(ConfigError, match="transform_headers must be a plain def"):
        TaskFlow("shop", middleware=[Slow()])
