"""check_middleware: the contract of a middleware, tested on every path that user code can take. Rule S11.4."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.errors import StepError
from taskflow.event import Event
from taskflow.flow.batch import Batch
from taskflow.middleware.base import Middleware
from taskflow.middleware.facts import Activation, Attempt, Outcome
from taskflow.retries import Retries
from taskflow.step import Step
from taskflow.testing.harness import Harness

PROBES = ("outside", "inside")
RETRIES = Retries(attempts=1, initial="1s", jitter=False)

Call = Callable[[], Awaitable[Outcome]]


class Seen(NamedTuple):
    """A call of a hook of a probe: which probe, which hook, of what, and the outcome when it came back from inside."""

    probe: str
    hook: str
    subject: tuple[Any, ...]
    outcome: Outcome | None = None


class Probe(Middleware):
    """Stands outside or inside of the middleware under test, and writes down what it sees."""

    def __init__(self, name: str, log: list[Seen]) -> None:
        self.name = name
        self.log = log

    def see(self, hook: str, *subject: Any, outcome: Outcome | None = None) -> None:
        self.log.append(Seen(self.name, hook, subject, outcome))

    async def wrap_run(self, run: Activation, call: Call) -> Outcome:
        return await self.watch("wrap_run", subject_of(run), call)

    async def wrap_attempt(self, attempt: Attempt, call: Call) -> Outcome:
        return await self.watch("wrap_attempt", subject_of(attempt), call)

    async def watch(self, hook: str, subject: tuple[Any, ...], call: Call) -> Outcome:
        self.see(hook, *subject)
        outcome = Outcome("cancelled")
        try:
            outcome = await call()
        finally:
            self.see(hook, *subject, outcome=outcome)
        return outcome

    def on_run_start(self, run: Activation) -> None:
        self.see("on_run_start", run.run_id)

    def on_run_end(self, run: Activation, outcome: Outcome) -> None:
        self.see("on_run_end", run.run_id)

    def on_step_start(self, attempt: Attempt) -> None:
        self.see("on_step_start", *subject_of(attempt))

    def on_step_end(self, attempt: Attempt, outcome: Outcome) -> None:
        self.see("on_step_end", *subject_of(attempt))


def subject_of(what: Activation | Attempt) -> tuple[Any, ...]:
    if isinstance(what, Attempt):
        return (*subject_of(what.run), what.step_key, what.number)
    return (what.function_id, what.run_id, what.worker, what.claimed_ms, what.offered_step)


async def check_middleware(make: Callable[[], Middleware]) -> None:
    """Run workloads that take every path through a middleware, and raise AssertionError where it breaks the contract. Rule S11.4.

        async def test_audit_keeps_the_contract() -> None:
            await check_middleware(Audit)

    `make` is the class, or a function that makes the middleware. The workloads have `async def` and `def` handlers; steps one after
    the other, side by side, raced, executed by another process, failing and retried; sleeps, waits, invokes, batches; runs that
    fail (with `on_failure`), are cancelled and are rerun. Then: whatever comes in goes on to what is inside, and comes back; values
    and errors pass through unchanged; hooks pair up; runs end as they would without the middleware; no hook raises.

    A middleware that changes values or hides errors on purpose can't pass, nor one that waits for long. Needs what Harness needs.
    """
    log: list[Seen] = []
    errors = Errors()
    app = TaskFlow(
        "contract", broker=None if "TASKFLOW_BROKER" in os.environ else "redis://localhost:6379/0",
        middleware=[Probe("outside", log), make(), Probe("inside", log)],
    )  # fmt: skip
    logger = logging.getLogger("taskflow.middleware")
    logger.addHandler(errors)
    try:
        failed = await run_workloads(app)
    finally:
        logger.removeHandler(errors)
    if problems := [*errors.problems, *problems_in(log), *failed]:
        lines = "\n".join(f"- {each}" for each in problems)
        raise AssertionError(f"the middleware breaks its contract:\n{lines}")


class Errors(logging.Handler):
    """Errors of hooks, which the engine logs."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.problems: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.problems.append(record.getMessage())


def problems_in(log: list[Seen]) -> list[str]:
    begun = {side: [each for each in log if each.probe == side and each.outcome is None] for side in PROBES}
    missing = counted(begun["outside"]) - counted(begun["inside"])
    problems = [
        f"{hook} did not reach what is inside, {times} times: of {told(subject)}"
        for (hook, subject), times in missing.items()
    ]
    for hook, subject in {(each.hook, each.subject): None for each in log if each.hook.startswith("wrap_")}:
        if (hook, subject) not in missing:
            calls = [each for each in log if (each.hook, each.subject) == (hook, subject)]
            problems += problems_of(hook, subject, calls)
    starts = Counter(each.subject for each in log if each.hook == "on_step_start")
    ends = Counter(each.subject for each in log if each.hook == "on_step_end")
    return problems + [f"on_step_start without on_step_end: of {told(subject)}" for subject in starts - ends]


def problems_of(hook: str, subject: tuple[Any, ...], calls: list[Seen]) -> list[str]:
    """What is wrong with the calls of one hook for one subject, which have to be an onion, with one outcome all the way."""
    order = [f"{each.probe} {'begins' if each.outcome is None else 'ends'}" for each in calls]
    if len(calls) % 4 or order != ["outside begins", "inside begins", "inside ends", "outside ends"] * (
        len(calls) // 4
    ):
        return [f"{hook} is no onion: {', '.join(order)}: of {told(subject)}"]
    problems = []
    for _, _, inner, outer in zip(*[iter(calls)] * 4, strict=True):
        came, left = inner.outcome, outer.outcome
        assert came is not None and left is not None
        if (came.status, came.value) != (left.status, left.value) or came.error is not left.error:
            problems.append(
                f"{hook} got {brief(came)} from inside, and gave {brief(left)}: of {told(subject)}"
            )
    return problems


def counted(seen: list[Seen]) -> Counter[tuple[str, tuple[Any, ...]]]:
    return Counter((each.hook, each.subject) for each in seen)


def told(subject: tuple[Any, ...]) -> str:
    parts = [str(subject[0])]
    if len(subject) > 5:
        parts.append(f"step {subject[5]!r} attempt {subject[6]}" if subject[5] else "the handler")
    return ", ".join(parts)


def brief(outcome: Outcome) -> str:
    return (
        f"{outcome.status} ({outcome.error!r})"
        if outcome.error is not None
        else f"{outcome.status} ({outcome.value!r:.60})"
    )


# --- the workloads ---


async def run_workloads(app: TaskFlow) -> list[str]:
    """Run all of them; what ended otherwise than it would without the middleware."""
    gate = Gate()
    results = define(app, gate)
    failed: list[str] = []
    async with Harness(app) as harness:
        for function_id, expected in results.items():
            run = await harness.run(app.functions[f"contract/{function_id}"], {"n": 1})
            view = await harness.view(run)
            if (view.status, view.output) != expected:
                failed.append(f"{function_id} ended as {view.status} with {view.output!r}, not {expected}")
        await harness.send([Event("contract/many", {"n": 1}), Event("contract/many", {"n": 2})])
        await harness.start(app.functions["contract/waits"])
        await harness.send("contract/more", {"n": 3})
        await harness.settled()
        sequence = await harness.run(app.functions["contract/sequence"])
        await harness.advance(seconds=1)
        await app.arerun(sequence.id, from_step="b")
        await harness.settled()
        for name, count in (("many", 1), ("waits", 1), ("sequence", 3)):
            statuses = [
                await harness.status(run) for run in await harness.runs(app.functions[f"contract/{name}"])
            ]
            if statuses != ["completed"] * count:
                failed.append(f"the runs of {name} ended as {', '.join(statuses)}")
        await cancel_one(app, harness, gate)
    async with Harness(app, workers=2, concurrency=1) as harness:
        meeting = await app.functions["contract/meets"].ainvoke()
        if await meeting.aresult(timeout=30) != [1, 2]:
            failed.append("a step that another process executes gave something else")
        await harness.settled()
    return failed


class Gate:
    """Holds a step until it may go on."""

    def __init__(self) -> None:
        self.came = asyncio.Event()
        self.is_open = asyncio.Event()

    async def pass_through(self) -> None:
        self.came.set()
        await self.is_open.wait()


async def cancel_one(app: TaskFlow, harness: Harness, gate: Gate) -> None:
    """Cancel a run whose step executes."""
    works = app.functions["contract/works"]
    await works.ainvoke()
    await gate.came.wait()
    await app.acancel_runs(works)
    gate.is_open.set()
    await harness.settled()


def define(app: TaskFlow, gate: Gate) -> dict[str, tuple[str, Any]]:
    """Define the functions; the status and output with which each ends that just runs."""
    tries: Counter[str] = Counter()

    async def double(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    def flaky(name: str) -> str:
        tries[name] += 1
        if tries[name] == 1:
            raise ValueError(f"{name} fails once")
        return name

    @app.function(id="sequence")
    async def sequence(ctx: Context[Step], step: Step) -> list[int]:
        first = await step.run("a", double, 1)
        await step.sleep("nap", "1h")
        return [first, await step.run("b", lambda: first + 1)]

    @app.function(id="blocking")
    def blocking(ctx: Context[BlockingStep], step: BlockingStep) -> list[Any]:
        both = step.parallel([lambda: step.run("a", double, 1), lambda: step.run("b", flaky, "x")])
        step.sleep("nap", "1h")
        return [*both, step.run("c", lambda: 3)]

    @app.function(id="plain")
    def plain(ctx: Context[BlockingStep]) -> int:
        return 7

    @app.function(id="wide", retries=RETRIES)
    async def wide(ctx: Context[Step], step: Step) -> list[Any]:
        both = await asyncio.gather(step.run("a", double, 1), step.run("b", flaky, "wide"))
        first = await step.parallel(
            [lambda: step.run("c", double, 2), lambda: step.sleep("d", "1h")], mode="race"
        )
        await step.send_event("tell", Event("contract/told"))
        return [*both, first, await step.invoke("child", function=plain)]

    define_failures(app, flaky)
    define_runs_that_wait(app, gate)
    define_meeting(app)
    return {
        "sequence": ("completed", [2, 3]),
        "blocking": ("completed", [2, "x", 3]),
        "plain": ("completed", 7),
        "wide": ("completed", [2, "wide", 4, 7]),
        "catches": ("completed", "always"),
        "retried": ("completed", "body"),
        "broken": ("failed", None),
    }


def define_meeting(app: TaskFlow) -> None:
    """Two steps that end only side by side: with one slot a process, the other process executes one of them."""
    meet = asyncio.Barrier(2)

    async def met(n: int) -> int:
        async with asyncio.timeout(20):
            await meet.wait()
        return n

    @app.function(id="meets", retries=0)
    async def meets(ctx: Context[Step], step: Step) -> list[int]:
        return list(await asyncio.gather(step.run("a", met, 1), step.run("b", met, 2)))


def define_runs_that_wait(app: TaskFlow, gate: Gate) -> None:
    @app.function(id="many", trigger="contract/many", batch_events=Batch(2, "1h"))
    async def many(ctx: Context[Step]) -> int:
        return len(ctx.events)

    @app.function(id="waits")
    async def waits(ctx: Context[Step], step: Step) -> Any:
        event = await step.wait_for_event("more", "contract/more", "1h")
        return event and event.data["n"]

    @app.function(id="works")
    async def works(ctx: Context[Step], step: Step) -> None:
        await step.run("work", gate.pass_through)
        await step.run("never", gate.pass_through)


def define_failures(app: TaskFlow, flaky: Callable[[str], str]) -> None:
    def fails() -> None:
        raise ValueError("always")

    @app.function(id="catches", retries=0)
    async def catches(ctx: Context[Step], step: Step) -> str:
        try:
            await step.run("fails", fails)
        except StepError as error:
            return error.message
        return "never"

    async def cleans_up(ctx: Context[Step]) -> None: ...

    @app.function(id="retried", retries=RETRIES)
    async def retried(ctx: Context[Step]) -> str:
        return flaky("body")

    @app.function(id="broken", retries=RETRIES, on_failure=cleans_up)
    async def broken(ctx: Context[Step]) -> None:
        raise ValueError("broken")
