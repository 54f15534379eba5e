"""S11.3: what a step or a function is annotated to return comes back as that type, at first execution and in replay alike."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum, IntEnum
from functools import partial, wraps
from typing import Any, Generic, NamedTuple, NotRequired, TypedDict, TypeVar
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from taskflow import BlockingStep, Context, RunFailed, Step, TaskFlow
from taskflow.errors import StepError
from taskflow.testing import Harness
from taskflow.values.returns import return_shape
from taskflow.values.shape import ANY
from tests.rules.crashes import Cut, Doomed, new_worker
from tests.rules.passing import pass_time

pytestmark = pytest.mark.usefixtures("no_bugs")

T = TypeVar("T")
WHEN = datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
ID = UUID(int=7)


class Colour(Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(IntEnum):
    HIGH = 3


@dataclass
class Line:
    sku: str
    price: Decimal
    due: date | None = None


@dataclass
class Order:
    id: UUID
    lines: list[Line] = field(default_factory=list)
    parts: list[Order] = field(default_factory=list)
    tags: set[str] = field(default_factory=set)
    size: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.size = len(self.lines)


@dataclass(frozen=True)
class Page(Generic[T]):
    items: tuple[T, ...]


class Point(NamedTuple):
    x: int
    when: date


class Note(TypedDict):
    at: datetime
    by: NotRequired[str]


class Paid(BaseModel):
    total: Decimal
    paid_at: datetime = Field(alias="paidAt")


ORDER = Order(ID, [Line("a", Decimal("1.50"), date(2030, 1, 2)), Line("b", Decimal(2))], [Order(ID)], {"x"})

TYPED: list[tuple[Any, Any]] = [
    (Order, ORDER),
    (Page[UUID], Page((ID, ID))),
    (Point, Point(1, date(2030, 1, 2))),
    (Note, {"at": WHEN, "by": "ann"}),
    (Paid, Paid(total=Decimal("9.90"), paidAt=WHEN)),
    (datetime, WHEN),
    (date, date(2030, 1, 2)),
    (time, time(1, 2, 3)),
    (UUID, ID),
    (Decimal, Decimal("0.10")),
    (Colour, Colour.PAIR),
    (Level, Level.HIGH),
    (tuple[int, date], (1, date(2030, 1, 2))),
    (tuple[int, ...], (1, 2)),
    (set[int], {1, 2}),
    (frozenset[UUID], frozenset({ID})),
    (list[Order], [ORDER]),
    (Sequence[date], [date(2030, 1, 2)]),
    (dict[str, set[int]], {"a": {1}}),
    (dict[int, Point], {1: Point(1, date(2030, 1, 2))}),
    (dict[Colour, UUID], {Colour.RED: ID}),
    (datetime | None, None),
    (datetime | None, WHEN),
    (Order | Paid | str, Paid(total=Decimal(1), paidAt=WHEN)),
    (Order | Paid | str, "neither"),
    (list[tuple[str, Decimal] | None], [None, ("a", Decimal(1))]),
]


def returning(hint: Any, value: Any, calls: list[str]) -> Callable[[], Any]:
    """A function that is annotated to return `hint`."""

    def give() -> Any:
        calls.append("called")
        return value

    give.__annotations__["return"] = hint
    return give


@pytest.mark.parametrize(("hint", "value"), TYPED, ids=lambda each: str(each)[:40])
async def test_a_step_gives_its_type_at_first_execution_in_replay_and_as_the_output(
    app: TaskFlow, hint: Any, value: Any
) -> None:
    calls: list[str] = []
    seen: list[Any] = []
    step_function = returning(hint, value, calls)

    @app.function(output_type=hint)
    async def work(ctx: Context[Step], step: Step) -> Any:
        result = await step.run("typed", step_function)
        seen.append(result)
        await step.sleep("suspend", "1h")
        return result

    async with Harness(app) as harness:
        run = await harness.run(work)
        assert await run.aresult() == value
        assert type(await run.aresult()) is type(value)
        invoked = await work.ainvoke()
        await harness.finish(invoked)
        output = await invoked.aresult()
    assert (output, type(output)) == (value, type(value))
    assert calls == ["called"] * 2
    assert seen == [value] * 4
    assert {type(each) for each in seen} == {type(value)}


@pytest.mark.parametrize("value", [1, "a", 1.5, True, None, [1, {"a": None}], {"a": [1]}])
async def test_without_an_annotation_a_result_stays_json(app: TaskFlow, value: Any) -> None:
    seen: list[Any] = []

    def plain():  # type: ignore[no-untyped-def]
        return value

    @app.function
    async def work(ctx: Context[Step], step: Step) -> None:
        seen.append(await step.run("plain", plain))
        seen.append(await step.run("order", lambda: ORDER.lines[0]))
        await step.sleep("suspend", "1h")

    async with Harness(app) as harness:
        await harness.run(work)
    assert seen == [value, {"sku": "a", "price": "1.50", "due": "2030-01-02"}] * 2


def make_order() -> Order:
    return ORDER


async def make_order_later(count: int) -> list[Order]:
    return [ORDER] * count


class Maker:
    def make(self) -> Order:
        return ORDER

    def __call__(self) -> Order:
        return ORDER


def test_the_annotation_is_found_behind_partials_methods_decorators_and_objects() -> None:
    for fn in (make_order, Maker().make, Maker(), partial(Maker().make), Order):
        assert return_shape(fn).name == "Order"
    assert return_shape(make_order_later).name == "list[tests.rules.test_s11_types.Order]"
    for plain in (str, print, len, lambda: 1, partial(int, "7")):
        assert return_shape(plain) is ANY
    assert return_shape(make_order) is return_shape(make_order)


async def test_a_class_of_the_moment_is_found_where_it_stands(app: TaskFlow) -> None:
    seen: list[Any] = []

    @dataclass
    class Local:
        when: date

    def make() -> Local:
        return Local(date(2030, 1, 2))

    @app.function
    def work(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        seen.append(step.run("make", make))
        step.sleep("suspend", "1h")

    async with Harness(app) as harness:
        await harness.run(work)
    assert seen == [Local(date(2030, 1, 2))] * 2


async def test_output_type_beats_the_annotation(app: TaskFlow) -> None:
    def give() -> dict[str, Any]:
        return {"sku": "a", "price": "2"}

    @app.function(id="child")
    async def child(ctx: Context[Step]) -> dict[str, Any]:
        return give()

    @app.function
    async def work(ctx: Context[Step], step: Step) -> list[bool]:
        line = await step.run("line", give, output_type=Line)
        typed = await step.invoke("child", function=child, output_type=Line)
        by_id = await step.invoke("by id", function_id="shop/child", output_type=Line)
        results: list[Any] = [line, typed, by_id]
        return [result == Line("a", Decimal(2)) for result in results]

    async with Harness(app) as harness:
        assert await (await harness.run(work)).aresult() == [True] * 3


async def test_an_invoked_function_gives_its_type_in_the_parent_and_to_who_invoked_it(app: TaskFlow) -> None:
    seen: list[Any] = []

    @app.function
    async def child(ctx: Context[Step]) -> Order:
        return ORDER

    @app.function
    async def parent(ctx: Context[Step], step: Step) -> int:
        order = await step.invoke("child", function=child)
        seen.append(order)
        await step.sleep("suspend", "1h")
        return order.size

    async with Harness(app) as harness:
        assert await (await harness.run(parent)).aresult() == 2
        assert await (await child.ainvoke()).aresult() == ORDER
        assert await (await app.ainvoke(child)).aresult() == ORDER
    assert seen == [ORDER, ORDER]


async def test_a_result_of_another_type_fails_the_step_at_once_with_the_path_and_both_types(
    app: TaskFlow,
) -> None:
    calls: list[str] = []

    def give() -> list[Line]:
        calls.append("called")
        return [{"sku": "a", "price": 1}]  # type: ignore[list-item]

    @app.function(retries=3)
    async def work(ctx: Context[Step], step: Step) -> None:
        try:
            await step.run("lines", give)
        except StepError as error:
            assert error.name == "SerializationError"
            raise

    async with Harness(app) as harness:
        with pytest.raises(
            RunFailed, match=r"step 'lines' .*\$\[0\]\.price is a int \(1\), expected Decimal"
        ):
            await (await harness.run(work)).aresult()
    assert calls == ["called"]


async def test_a_memo_that_does_not_fit_the_type_that_the_code_has_now_fails_the_run(app: TaskFlow) -> None:
    hints: list[Any] = [str, date]
    seen: list[Any] = []

    @app.function
    async def work(ctx: Context[Step], step: Step) -> None:
        seen.append(await step.run("day", returning(hints[min(len(seen), 1)], "tomorrow", [])))
        await step.sleep("suspend", "1h")

    async with Harness(app) as harness:
        with pytest.raises(
            RunFailed, match=r"SerializationError: .*step 'day' is no date: \$ is a str \('tomorrow'\)"
        ):
            await (await harness.run(work)).aresult()
    assert seen == ["tomorrow"]


async def test_an_annotation_that_can_not_be_read_is_said_once_and_the_result_stays_json(
    app: TaskFlow, caplog: pytest.LogCaptureFixture
) -> None:
    def give() -> Missing:  # type: ignore[name-defined]  # noqa: F821
        return {"a": 1}

    @app.function
    async def work(ctx: Context[Step], step: Step) -> list[Any]:
        return [await step.run("a", give), await step.run("b", give)]

    with caplog.at_level(logging.WARNING, "taskflow"):
        async with Harness(app) as harness:
            assert await (await harness.run(work)).aresult() == [{"a": 1}, {"a": 1}]
    assert (
        sum("is annotated to return 'Missing', which can't be read" in each for each in caplog.messages) == 1
    )


async def test_an_edited_result_of_a_rerun_comes_back_as_its_type(app: TaskFlow) -> None:
    seen: list[Any] = []

    @app.function
    async def work(ctx: Context[Step], step: Step) -> None:
        seen.append(await step.run("make", make_order))

    async with Harness(app) as harness:
        run = await harness.run(work)
        again = await app.arerun(run.id, from_step="make", output=Order(ID))
        await harness.finish(again)
    assert seen == [ORDER, Order(ID)]


def make_local(scale: int) -> tuple[type, Callable[[], Any]]:
    """A class, and a function that is annotated with it; both are made anew in each call."""

    @dataclass
    class Local:
        size: int

    def make():  # type: ignore[no-untyped-def]
        return {"size": scale}

    make.__annotations__["return"] = Local
    return Local, make


def test_a_function_that_is_made_anew_has_the_class_of_its_own_time() -> None:
    for scale in (1, 2):
        local, make = make_local(scale)
        load = return_shape(make).load
        assert load is not None
        assert load(make()) == local(scale)


def wrapped(fn: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(fn)
    def wrapper(*args: Any) -> Any:
        return fn(*args)

    return wrapper


def make_line() -> Line:
    return Line("a", Decimal(1))


def test_functions_that_share_a_decorator_have_types_of_their_own() -> None:
    assert [return_shape(wrapped(fn)).name for fn in (make_order, make_line, make_order)] == [
        "Order", "Line", "Order"
    ]  # fmt: skip


def test_a_handler_may_be_annotated_with_a_class_that_comes_later(app: TaskFlow) -> None:
    @app.function
    async def work(ctx: Context[Step]) -> Later: ...  # type: ignore[empty-body]

    assert work.output.name == "Later"
    assert return_shape(make_order) is return_shape(make_order)


@dataclass
class Later:
    n: int


@pytest.mark.parametrize(("hint", "value"), TYPED, ids=lambda each: str(each)[:40])
async def test_a_step_gives_its_type_after_a_crash_too(app: TaskFlow, hint: Any, value: Any) -> None:
    calls: list[str] = []
    seen: list[Any] = []
    doomed: list[Doomed] = []
    step_function = returning(hint, value, calls)

    def die() -> None:
        while doomed:
            doomed.pop().kill()

    @app.function
    async def work(ctx: Context[Step], step: Step) -> None:
        seen.append(await step.run("typed", step_function))
        await step.run("die", die)

    async with Harness(app, workers=0) as harness:
        dead = await Doomed.start(app, harness, cut=Cut(after=1_000))
        doomed.append(dead)
        harness.workers.append(dead.worker)
        run = await work.ainvoke()

        async def has_died() -> bool:
            return dead.cut.is_dead

        await pass_time(harness, has_died, description="the crash")
        harness.workers.remove(dead.worker)
        await dead.give_up()
        survivor = new_worker(app, harness)
        await survivor.start()
        harness.workers.append(survivor)
        await run.aresult("10s")
        harness.workers.remove(survivor)
        await survivor.stop()
        await dead.bury()
    assert (calls, seen) == (["called"], [value, value])
    assert {type(each) for each in seen} == {type(value)}
