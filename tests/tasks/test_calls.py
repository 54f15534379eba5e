"""S15.1, S15.2: a task is a function; calls are checked where they are made, and their runs exist at once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest

from taskflow.app import TaskFlow
from taskflow.errors import ConfigError, InvalidEvent, RunFailed, SerializationError
from taskflow.redis.address import parse_server_url
from taskflow.redis.client import StoreClient
from taskflow.run import RunStatus
from taskflow.tasks.adoption import ADOPTION
from taskflow.tasks.calls import CALLS_PAGE
from taskflow.tasks.context import TaskContext, current
from taskflow.tasks.shared import task
from taskflow.tasks.task import Task
from taskflow.testing import Harness
from tests.conftest import MakeApp
from tests.waiting import until


class Colour(Enum):
    RED = "red"


@dataclass
class Size:
    width: int
    height: int


WHEN = datetime(2030, 5, 1, 12, tzinfo=UTC)
ID = UUID("12345678-1234-5678-1234-567812345678")


# --- a task is the function ---


async def test_a_task_that_is_called_is_the_function(app: TaskFlow) -> None:
    """S15.1"""

    @app.task
    def add(x: int, y: int = 1) -> int:
        """Adds."""
        return x + y

    @app.task(queue="slow")
    async def double(x: int) -> int:
        return 2 * x

    assert add(2, y=3) == 5
    assert await double(4) == 8
    assert (add.__doc__, vars(add)["__name__"]) == ("Adds.", "add")
    assert add.id == "shop/tests.tasks.test_calls.add"


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "def"])
async def test_a_worker_calls_the_task_with_the_arguments(app: TaskFlow, is_async: bool) -> None:
    """S15.1"""
    if is_async:

        @app.task
        async def join(first: str, *rest: str, sep: str = "-", **more: str) -> str:
            return sep.join([first, *rest, *more.values()])

        joined: Task[..., Any] = join
    else:

        @app.task
        def blocking(first: str, *rest: str, sep: str = "-", **more: str) -> str:
            return sep.join([first, *rest, *more.values()])

        joined = blocking
    async with Harness(app) as harness:
        runs = [
            await joined.adelay("a"),
            await joined.adelay("a", "b", "c"),
            await joined.adelay("a", sep="+", x="d"),
            await joined.adelay("a", "b", sep="+", x="d", y="e"),
        ]
        await harness.settled()
        assert [await run.aresult("1s") for run in runs] == ["a", "a-b-c", "a+d", "a+b+d+e"]


async def test_arguments_by_place_only_and_defaults_are_those_of_the_worker(app: TaskFlow) -> None:
    """S15.1: what the call leaves out is not in the event."""

    @app.task
    def power(base: int, exponent: int = 2, /, *, plus: int = 0) -> int:
        return int(base**exponent) + plus

    async with Harness(app) as harness:
        run = await power.adelay(3, plus=1)
        await harness.settled()
        assert await run.aresult("1s") == 10
        assert (await harness.view(run)).event["data"] == {"base": 3, "plus": 1}


# --- errors are in the sender ---


@pytest.mark.parametrize(
    ("args", "kwargs", "told"),
    [
        ((), {}, "gives nothing for 'sku'"),
        (("A7", 1, 2), {}, "takes (sku, count=...), but was called with 3 positional arguments"),
        (("A7",), {"sku": "B1"}, "two values for 'sku'"),
        (("A7",), {"cuont": 2}, "has no parameter 'cuont'; did you mean 'count'?"),
    ],
    ids=["missing", "too many", "twice", "unknown"],
)
async def test_arguments_that_do_not_fit_are_refused_in_the_sender(
    app: TaskFlow, args: tuple[Any, ...], kwargs: dict[str, Any], told: str
) -> None:
    """S15.1: a TypeError that names the parameter; nothing is stored."""

    @app.task(id="reserve")
    def reserve(sku: str, count: int = 1) -> None: ...

    call: Callable[..., Any] = reserve.adelay
    async with Harness(app) as harness:
        with pytest.raises(TypeError) as error:
            await call(*args, **kwargs)
        assert told in str(error.value) and "shop/reserve" in str(error.value)
        assert await harness.runs(reserve) == []


async def test_arguments_without_a_json_form_are_refused_in_the_sender(app: TaskFlow) -> None:
    """S15.1, S2.6: the error names the task and the parameter."""

    @app.task(id="keep")
    def keep(blob: Any, by_id: dict[UUID, int]) -> None: ...

    call: Callable[..., Any] = keep.adelay

    with pytest.raises(
        SerializationError, match=r"a call of shop/keep has no JSON form: \$\.data\.blob is a bytes"
    ):
        await call(b"x", {})
    with pytest.raises(TypeError, match=r"shop/keep: argument 'by_id' .* at \$"):
        await call(1, by_id=[ID])


async def test_a_call_with_too_much_data_is_refused_in_the_sender(make_app: MakeApp) -> None:
    """S1.5"""
    app = make_app(max_event_bytes=1_000)

    @app.task(id="keep")
    def keep(text: str) -> None: ...

    with pytest.raises(InvalidEvent, match=r"a call of shop/keep has 1,\d+ bytes of JSON"):
        await keep.adelay("x" * 1_000)


# --- types ---


async def test_arguments_come_in_the_types_of_the_annotations(app: TaskFlow) -> None:
    """S15.1, S11.3"""
    got: list[Any] = []

    @app.task
    def take(
        when: datetime, id: UUID, price: Decimal, colour: Colour, size: Size, *others: Size, by_id: dict[UUID, int], **more: Decimal
    ) -> None:  # fmt: skip
        got.extend([when, id, price, colour, size, others, by_id, more])

    async with Harness(app) as harness:
        await take.adelay(
            WHEN, ID, Decimal("1.50"), Colour.RED, Size(1, 2), Size(3, 4), by_id={ID: 1}, fee=Decimal("0.10")
        )
        await harness.settled()
    assert got == [
        WHEN, ID, Decimal("1.50"), Colour.RED, Size(1, 2), (Size(3, 4),), {ID: 1}, {"fee": Decimal("0.10")}
    ]  # fmt: skip


async def test_an_argument_that_does_not_fit_its_annotation_fails_the_run_at_once(app: TaskFlow) -> None:
    """S15.1: whoever sent it did not know the type; the error names the parameter."""

    @app.task(id="take")
    def take(when: datetime) -> None: ...

    async with Harness(app) as harness:
        run = await take.adelay("tomorrow")  # type: ignore[arg-type]
        await harness.settled()
        with pytest.raises(RunFailed, match="a call of shop/take: argument 'when' is no datetime"):
            await run.aresult("1s")
        assert len((await harness.view(run)).failed_attempts) == 1


async def test_the_result_comes_in_the_type_of_the_annotation(app: TaskFlow) -> None:
    """S11.3"""

    @app.task
    async def double(size: Size) -> Size:
        return Size(2 * size.width, 2 * size.height)

    async with Harness(app) as harness:
        run = await double.adelay(Size(1, 2))
        await harness.settled()
        assert await run.aresult("1s") == Size(2, 4)


# --- the run exists ---


async def test_the_run_exists_when_the_call_returns(app: TaskFlow) -> None:
    """S15.2: no worker is up, and nothing is on its way."""

    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    run = await add.adelay(2, 3)
    assert await run.astatus() is RunStatus.QUEUED
    async with Harness(app) as harness:
        await harness.settled()
        assert await run.aresult("1s") == 5


async def test_sync_code_calls_a_task_too(app: TaskFlow) -> None:
    """S15.1"""

    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    def call() -> list[Any]:
        return [
            add.delay(1, 2), add.options(queue="other").delay(1, 3), add.apply_async((1, 4)), *add.many([(1, 5), {"x": 1, "y": 6}])
        ]  # fmt: skip

    runs = await asyncio.to_thread(call)
    views = [await run.aview() for run in runs]
    assert [view.event["data"]["y"] for view in views] == [2, 3, 4, 5, 6]
    assert [view.queue for view in views] == ["default", "other", "default", "default", "default"]


async def test_a_known_id_gives_the_run_that_it_had(app: TaskFlow) -> None:
    """S15.2"""

    @app.task(id="charge", keep="1h")
    def charge(order: str) -> str:
        return f"paid {order}"

    async with Harness(app) as harness:
        first = await charge.options(id="order-7").adelay("A7")
        assert (await charge.options(id="order-7").adelay("A7")).id == first.id
        await harness.settled()
        assert (await charge.options(id="order-7").adelay(order="A7")).id == first.id
        assert len(await harness.runs(charge)) == 1
        with pytest.raises(ConfigError, match=r"id='order-7' and other arguments than before"):
            await charge.options(id="order-7").adelay("B1")
        # As long as the run is kept, and no longer.
        await harness.advance(hours=2)
        assert (await charge.options(id="order-7").adelay("B1")).id != first.id


async def test_a_thousand_calls_are_two_scripts(app: TaskFlow, valkey_url: str) -> None:
    """S15.1: a page of calls is one request, however many these are."""

    @app.task(id="double")
    async def double(n: int) -> int:
        return 2 * n

    await double.adelay(0)  # connects
    client = StoreClient(parse_server_url(valkey_url, what="store"))
    await client.connect()
    try:
        before = await scripts_executed(client)
        runs = await double.amany((n,) for n in range(2 * CALLS_PAGE))
        assert await scripts_executed(client) - before == 2
        assert len({run.id for run in runs}) == 2 * CALLS_PAGE
    finally:
        await client.close()


async def scripts_executed(client: StoreClient) -> int:
    told = (await client.call("INFO", "commandstats")).decode()
    counts = re.findall(r"cmdstat_(?:evalsha|eval|fcall):calls=(\d+)", told)
    return sum(map(int, counts))


async def test_many_calls_are_made_in_pages(app: TaskFlow) -> None:
    """S15.1: each with its own arguments, in order; a generator will do."""

    @app.task
    async def double(n: int) -> int:
        return 2 * n

    async with Harness(app) as harness:
        runs = await double.amany((n,) for n in range(1_203))
        assert len({run.id for run in runs}) == 1_203
        await harness.settled()
        assert [await runs[n].aresult("1s") for n in (0, 499, 500, 1_202)] == [0, 998, 1_000, 2_404]
        with pytest.raises(TypeError, match="write \\(value,\\) for a single one"):
            await double.amany([1])  # type: ignore[list-item]
        with pytest.raises(ConfigError, match="an id stands for one call"):
            await double.options(id="x").amany([(1,)])


async def test_a_task_whose_code_is_not_here_is_called_by_name(make_app: MakeApp) -> None:
    """S15.1: arguments are bound by the parameters that its workers have registered."""
    owner, caller = make_app("billing"), make_app("web")

    @owner.task(id="charge")
    def charge(order: str, /, *, cents: int = 100) -> str:
        return f"{order}: {cents}"

    @owner.function(id="other")
    async def other(ctx: object) -> None: ...

    async with Harness(owner) as harness:
        run = await caller.acall("billing/charge", "A7", cents=5)
        await harness.settled()
        assert await run.aresult("1s") == "A7: 5"
        with pytest.raises(TypeError, match="billing/charge has no parameter 'cent'"):
            await caller.acall("billing/charge", "A7", cent=5)
        with pytest.raises(ConfigError, match="there is no function 'billing/refund'"):
            await caller.acall("billing/refund")
        with pytest.raises(ConfigError, match="is a function and no task"):
            await caller.acall("billing/other")


# --- what can't be a task ---


def test_what_cannot_be_a_task_is_refused_when_the_decorator_runs(app: TaskFlow) -> None:
    """S2.5"""

    def generator() -> Any:
        yield 1

    def late(x: int, ctx: TaskContext) -> None: ...

    class Thing:
        def method(self) -> None: ...

    with pytest.raises(ConfigError, match="must not have a `yield`"):
        app.task(generator)
    with pytest.raises(ConfigError, match="must be the first parameter"):
        app.task(late)
    with pytest.raises(ConfigError, match="not a method"):
        app.task(Thing.method)
    with pytest.raises(ConfigError, match="pass id="):
        app.task(lambda: None)
    with pytest.raises(TypeError, match="did you mean 'queue'"):
        app.task(quue="x")  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match="the id of a task must have"):
        app.task(id="a b")(lambda: None)
    app.task(id="twice")(lambda: None)
    with pytest.raises(ConfigError, match="'shop/twice' exists already"):
        app.task(id="twice")(lambda: None)


# --- tasks of packages ---


@pytest.fixture
def no_first_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """The apps of other tests of this process are forgotten."""
    monkeypatch.setattr(ADOPTION, "home", None)
    monkeypatch.setattr(ADOPTION, "waiting", [])


@pytest.mark.usefixtures("no_first_app")
async def test_a_task_of_a_package_belongs_to_the_app_that_adopts_it(make_app: MakeApp) -> None:
    """S15.1: before that a call raises, and goes nowhere."""

    @task
    def add(x: int, y: int) -> int:
        return x + y

    assert add(1, 2) == 3
    with pytest.raises(ConfigError, match=r"'tests\.tasks\.test_calls\.add' belongs to no app yet"):
        await add.adelay(1, 2)
    app = make_app()

    @task(id="later")
    def later(x: int) -> int:
        return -x

    other = make_app()
    assert add.id == "shop/tests.tasks.test_calls.add" and later.id == "shop/later"
    with pytest.raises(ConfigError, match="belongs to app 'shop' already"):
        other.adopt(add)
    app.adopt(add)
    async with Harness(app) as harness:
        runs = [await add.adelay(1, 2), await later.adelay(3)]
        await harness.settled()
        assert [await run.aresult("1s") for run in runs] == [3, -3]


# --- the context ---


async def test_the_context_says_who_calls(app: TaskFlow) -> None:
    """S15.2: headers are inherited, and the caller is the parent."""
    seen: list[tuple[Any, ...]] = []

    @app.task(id="inner")
    def inner() -> None:
        here = current()
        seen.append((here.id, here.parent, dict(here.headers), here.attempt))

    @app.task(id="outer")
    async def outer(ctx: TaskContext, name: str) -> str:
        assert current() is ctx and ctx.task == "shop/outer" and ctx.parent is None
        await inner.options(headers={"trace": "t2"}).adelay()
        return f"{name} {ctx.id}"

    async with Harness(app) as harness:
        run = await outer.options(headers={"tenant": "acme", "trace": "t1"}).adelay("ann")
        await harness.settled()
        assert await run.aresult("1s") == f"ann {run.id}"
        (inner_run,) = await harness.runs(inner)
    assert seen == [(inner_run.id, run.id, {"tenant": "acme", "trace": "t2"}, 0)]


async def test_a_task_that_is_called_as_a_function_has_a_context_too(app: TaskFlow) -> None:
    """S15.2"""

    @app.task
    def who(ctx: TaskContext) -> tuple[str, int]:
        ctx.progress(1, 2)
        ctx.logger.info("here")
        return ctx.id, ctx.attempt

    assert who() == ("", 0)
    with pytest.raises(RuntimeError, match="outside of a task"):
        current()


async def test_progress_is_seen_by_whoever_looks(app: TaskFlow) -> None:
    """S15.2: the last report counts, whatever the pace."""

    @app.task(id="work")
    def work(ctx: TaskContext) -> None:
        for done in range(50):
            ctx.progress(done + 1, 50, file="a.csv")

    async with Harness(app) as harness:
        run = await work.adelay()
        assert await run.aprogress() is None
        await harness.settled()
        await run.aresult("1s")

        async def is_last() -> bool:
            return (await run.aprogress() or {}).get("done") == 50

        await until(is_last, description="the last report")
        assert (await harness.view(run)).progress == {"done": 50, "total": 50, "file": "a.csv"}
        assert "50 of 50 (100%), file=a.csv" in await (await harness.runs(work))[0].apage()
