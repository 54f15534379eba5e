"""S11.5: handlers and steps get what they need, set up when they execute, and taken down again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import pytest

from taskflow import BlockingStep, ConfigError, Context, Depends, RunFailed, Step, TaskFlow
from taskflow.testing import Harness

pytestmark = pytest.mark.usefixtures("no_bugs")

LOG: list[str] = []


@pytest.fixture(autouse=True)
def empty_log() -> None:
    LOG.clear()


async def get_pool() -> AsyncIterator[str]:
    LOG.append("pool opens")
    yield "pool"
    LOG.append("pool closes")


def get_client() -> Iterator[str]:
    LOG.append("client opens")
    yield "client"
    LOG.append("client closes")


async def get_session(pool: Annotated[str, Depends(get_pool, scope="process")]) -> AsyncIterator[str]:
    LOG.append(f"session of {pool} opens")
    try:
        yield "session"
    except ValueError as error:
        LOG.append(f"session rolls back: {error}")
        raise
    LOG.append("session commits")


def get_tenant(ctx: Context[Any]) -> str:
    return ctx.headers.get("tenant", "nobody")


async def charge(order: str, db: str = Depends(get_session)) -> str:
    LOG.append(f"charge {order} with {db}")
    return db


def charge_blocking(order: str, db: str = Depends(get_session), tenant: str = Depends(get_tenant)) -> str:
    LOG.append(f"charge {order} of {tenant} with {db}")
    return db


async def test_a_step_gets_what_its_function_needs_and_a_memo_nothing(app: TaskFlow) -> None:
    @app.function()
    async def buy(ctx: Context[Step], step: Step) -> str:
        paid: str = await step.run("charge", charge, "o-7")
        await step.sleep("a while", "1h")
        return paid

    async with Harness(app) as harness:
        run = await harness.run(buy)
        assert await run.aresult() == "session"
        assert LOG == ["pool opens", "session of pool opens", "charge o-7 with session", "session commits"]
    assert LOG[4:] == ["pool closes"]


async def test_a_handler_gets_what_it_needs_in_each_activation_async_or_not(app: TaskFlow) -> None:
    @app.function(trigger="order")
    async def on_loop(
        ctx: Context[Step], step: Step, tenant: Annotated[str, Depends(get_tenant)],
        client: Annotated[str, Depends(get_client)],
    ) -> str:  # fmt: skip
        await step.sleep("a while", "1h")
        return f"{tenant} {client}"

    @app.function(trigger="order")
    def in_thread(
        ctx: Context[BlockingStep], tenant: str = Depends(get_tenant), db: str = Depends(get_session)
    ) -> str:
        LOG.append("in thread")
        return f"{tenant} {db}"

    async with Harness(app) as harness:
        await harness.send("order", headers={"tenant": "acme"})
        await harness.settled()
        assert LOG.count("client opens") == LOG.count("client closes") == 1
        await harness.advance(hours=1)
        assert LOG.count("client opens") == LOG.count("client closes") == 2
        (first,), (second,) = await harness.runs(on_loop), await harness.runs(in_thread)
        assert (await first.aresult(), await second.aresult()) == ("acme client", "acme session")
    assert LOG.index("session of pool opens") < LOG.index("in thread") < LOG.index("session commits")


async def refund(order: str, db: Annotated[str, Depends(get_session)]) -> str:
    return f"{order} {db}"


async def test_a_step_may_mark_its_needs_by_annotation_too(app: TaskFlow) -> None:
    @app.function()
    async def buy(ctx: Context[Step], step: Step) -> str:
        # A type checker asks for what has no default.
        came: str = await step.run("refund", refund, "o-7")  # type: ignore[call-overload]
        return came

    async with Harness(app) as harness:
        run = await harness.run(buy)
        assert await run.aresult() == "o-7 session"


async def test_arguments_that_are_given_are_not_replaced(app: TaskFlow) -> None:
    @app.function()
    async def buy(ctx: Context[Step], step: Step) -> list[str]:
        return [
            await step.run("by place", charge, "o-7", "own"),
            await step.run("by name", charge_blocking, "o-7", db="own", tenant="me"),
        ]

    async with Harness(app) as harness:
        run = await harness.run(buy)
        assert await run.aresult() == ["own", "own"]
    assert LOG == ["charge o-7 with own", "charge o-7 of me with own"]


async def test_the_scopes_say_how_long_a_value_lasts(app: TaskFlow) -> None:
    made: dict[str, int] = {"process": 0, "run": 0, "attempt": 0}
    closed: list[str] = []

    def provider(scope: str) -> Any:
        async def give() -> AsyncIterator[int]:
            made[scope] += 1
            yield made[scope]
            closed.append(scope)

        return give

    process, run, attempt = provider("process"), provider("run"), provider("attempt")

    def work(
        a: int = Depends(process, scope="process"),
        b: int = Depends(run, scope="run"),
        c: int = Depends(attempt),
        again: int = Depends(attempt),
    ) -> list[int]:
        assert c == again
        return [a, b, c]

    @app.function()
    async def three(ctx: Context[Step], step: Step) -> list[list[int]]:
        both = await asyncio.gather(step.run("a", work), step.run("b", work))
        await step.sleep("a while", "1h")
        return [*both, await step.run("c", work)]

    async with Harness(app) as harness:
        first = await harness.run(three)
        assert await first.aresult() == [[1, 1, 1], [1, 1, 2], [1, 2, 3]]
        await harness.run(three)
        assert made == {"process": 1, "run": 4, "attempt": 6}
        assert "process" not in closed
    assert sorted(closed) == ["attempt"] * 6 + ["process"] + ["run"] * 4


async def test_an_error_in_setup_is_the_attempts_and_is_shown(app: TaskFlow) -> None:
    async def broken() -> str:
        raise ConnectionError("no database")

    def work(db: str = Depends(broken)) -> None: ...

    @app.function(retries=1)
    async def step_needs(ctx: Context[Step], step: Step) -> None:
        await step.run("work", work)

    @app.function(retries=0)
    async def handler_needs(ctx: Context[Step], db: str = Depends(broken)) -> None: ...

    async with Harness(app) as harness:
        run = await harness.run(step_needs)
        with pytest.raises(RunFailed, match="ConnectionError: no database"):
            await run.aresult()
        page = (await harness.view(run)).page
        assert page.count("ConnectionError: no database") >= 2
        run = await harness.run(handler_needs)
        with pytest.raises(RunFailed, match="ConnectionError: no database"):
            await run.aresult()


async def test_an_error_of_the_code_reaches_the_generator_and_one_in_its_end_fails_the_attempt(
    app: TaskFlow, caplog: pytest.LogCaptureFixture
) -> None:
    commits: list[str] = []

    def commit_fails() -> Iterator[str]:
        yield "session"
        commits.append("tried")
        if len(commits) == 1:
            raise OSError("commit failed")

    def fails_too() -> Iterator[str]:
        try:
            yield "session"
        except ValueError:
            raise OSError("rollback failed") from None

    def work(db: str = Depends(commit_fails)) -> str:
        return db

    async def bad(db: str = Depends(get_session), other: str = Depends(fails_too)) -> None:
        raise ValueError("no stock")

    @app.function(retries=1)
    async def buy(ctx: Context[Step], step: Step) -> str:
        await step.run("work", work)
        await step.run("bad", bad)
        return "never"

    with caplog.at_level(logging.ERROR, logger="taskflow.dependencies"):
        async with Harness(app) as harness:
            run = await harness.run(buy)
            with pytest.raises(RunFailed, match="ValueError: no stock"):
                await run.aresult()
            assert "attempt 1  OSError: commit failed" in (await harness.view(run)).page
    assert commits == ["tried", "tried"]
    assert LOG.count("session rolls back: no stock") == 2
    assert "rollback failed" in caplog.text


async def test_an_error_in_the_end_of_what_lasts_longer_is_logged_and_undoes_nothing(
    app: TaskFlow, caplog: pytest.LogCaptureFixture
) -> None:
    async def run_long() -> AsyncIterator[str]:
        yield "run"
        raise OSError("run's end failed")

    def process_long() -> Iterator[str]:
        yield "process"
        raise OSError("process's end failed")

    @app.function()
    async def buy(
        ctx: Context[Step], a: str = Depends(run_long, scope="run"), b: str = Depends(process_long, scope="process")
    ) -> str:  # fmt: skip
        return a + b

    with caplog.at_level(logging.ERROR, logger="taskflow.dependencies"):
        async with Harness(app) as harness:
            run = await harness.run(buy)
            assert await run.aresult() == "runprocess"
            assert "run's end failed" in caplog.text
    assert "process's end failed" in caplog.text


async def test_a_test_overrides_a_dependency_and_what_that_needs_is_not_set_up(app: TaskFlow) -> None:
    @app.function()
    async def buy(ctx: Context[Step], step: Step) -> str:
        return await step.run("charge", charge, "o-7")

    async with Harness(app) as harness:
        harness.override(get_session, lambda: "fake")
        run = await harness.run(buy)
        assert await run.aresult() == "fake"
    assert LOG == ["charge o-7 with fake"]
    assert app.dependency_overrides == {}


async def test_a_stubbed_function_keeps_its_dependencies(app: TaskFlow) -> None:
    @app.function()
    async def buy(ctx: Context[Step], step: Step, tenant: Annotated[str, Depends(get_tenant)]) -> str:
        return tenant + await step.run("charge", charge, "o-7")

    async with Harness(app) as harness:
        harness.stub("charge", returns=" stubbed")
        run = await harness.run(buy)
        assert await run.aresult() == "nobody stubbed"


# --- what is refused at the decorator ---


def circle_a(b: Annotated[str, Depends(lambda: circle_b())]) -> str:
    return b


def circle_b(a: Annotated[str, Depends(circle_a)]) -> str:
    return a


def needs_itself(me: Annotated[str, Depends(needs_itself)]) -> str:
    return me


def short() -> str:
    return "short"


def long_lived(x: Annotated[str, Depends(short)]) -> str:
    return x


def of_process(ctx: Context[Any]) -> str:
    return ctx.run_id


def unfilled(what: str) -> str:
    return what


@contextmanager
def refused(app: TaskFlow, text: str) -> Iterator[None]:
    with pytest.raises(ConfigError, match=text):
        yield
    assert not app.functions


def test_what_can_not_be_filled_in_is_refused_when_the_decorator_runs(app: TaskFlow) -> None:
    with refused(app, "in a circle: needs_itself -> needs_itself"):

        @app.function(id="f")
        async def circle(ctx: Context[Step], x: str = Depends(needs_itself)) -> None: ...

    with refused(app, "long_lived has scope 'process', but needs short of scope 'attempt'"):

        @app.function(id="f")
        async def too_short(ctx: Context[Step], x: str = Depends(long_lived, scope="process")) -> None: ...

    with refused(app, "can't get the context of one"):

        @app.function(id="f")
        async def no_context(ctx: Context[Step], x: str = Depends(of_process, scope="process")) -> None: ...

    with refused(app, "unfilled has a parameter what that nobody fills in"):

        @app.function(id="f")
        async def nobody(ctx: Context[Step], x: str = Depends(unfilled)) -> None: ...

    with refused(app, "its names must be known in the module|Its names must be known in the module"):

        def local() -> str:
            return ""

        @app.function(id="f")
        async def unreadable(ctx: Context[Step], x: Annotated[str, Depends(local)]) -> None: ...

    with pytest.raises(ConfigError, match="a scope is one of 'process', 'run', 'attempt'"):
        Depends(short, scope="request")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="takes a function that gives the value, got 'pool'"):
        Depends("pool")  # type: ignore[arg-type]


async def test_what_a_step_can_not_be_given_fails_its_attempt(app: TaskFlow) -> None:
    def work(x: str = Depends(needs_itself)) -> None: ...

    @app.function(retries=0)
    async def buy(ctx: Context[Step], step: Step) -> None:
        await step.run("work", work)

    async with Harness(app) as harness:
        run = await harness.run(buy)
        with pytest.raises(RunFailed, match="ConfigError: dependencies need each other in a circle"):
            await run.aresult()
