"""S2.6: what steps and handlers may return."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, StrEnum
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.errors import RunFailed
from taskflow.function import Function
from taskflow.step import Step
from taskflow.testing import Harness

pytestmark = pytest.mark.usefixtures("no_bugs")


class Colour(Enum):
    RED = "red"


class Level(StrEnum):
    HIGH = "high"


@dataclass
class Address:
    street: str
    lines: tuple[int, ...] = (1, 2)
    when: date = date(2030, 1, 2)
    nested: list[Colour] = field(default_factory=lambda: [Colour.RED])


class Model(BaseModel):
    price: Decimal
    address: Address
    at: datetime | None = None


ID = UUID("12345678-1234-5678-1234-567812345678")
ADDRESS = {"street": "Main", "lines": [1, 2], "when": "2030-01-02", "nested": ["red"]}
VALUES: list[tuple[Any, Any]] = [
    (None, None),
    (True, True),
    (0, 0),
    (-(2**63), -(2**63)),
    (1.5, 1.5),
    ("täxt ✓", "täxt ✓"),
    ("", ""),
    ([1, [2, {"a": None}]], [1, [2, {"a": None}]]),
    ({"a": {"b": [True]}}, {"a": {"b": [True]}}),
    ((1, (2, 3)), [1, [2, 3]]),
    ({"t": (1,)}, {"t": [1]}),
    (datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC), "2030-01-02T03:04:05+00:00"),
    (
        datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=2))),
        "2030-01-02T03:04:05.000006+02:00",
    ),
    (date(2030, 1, 2), "2030-01-02"),
    (ID, str(ID)),
    (Decimal("1.10"), "1.10"),
    (Colour.RED, "red"),
    (Level.HIGH, "high"),
    ([Colour.RED, Level.HIGH], ["red", "high"]),
    (Address("Main"), ADDRESS),
    (
        Model(price=Decimal("9.90"), address=Address("Main")),
        {"price": "9.90", "address": ADDRESS, "at": None},
    ),
]


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "def"])
async def test_what_steps_and_handlers_return_comes_back_as_json(app: TaskFlow, is_async: bool) -> None:
    """S2.6: the same value when the step has just run, after a replay, and to who waits for the run."""
    passes: list[list[Any]] = []

    async def coroutine(value: Any) -> Any:
        return value

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> Any:
        got = [await step.run("value", coroutine, value) for value, _ in VALUES]
        passes.append(got)
        await step.sleep("then", "1h")
        return [value for value, _ in VALUES]

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        got = [step.run("value", partial(identity, value)) for value, _ in VALUES]
        passes.append(got)
        step.sleep("then", "1h")
        return [value for value, _ in VALUES]

    expected = [value for _, value in VALUES]
    functions: tuple[Function[..., Any], ...] = (in_async, in_def)
    async with Harness(app) as harness:
        run = await harness.start(functions[not is_async])
        await harness.advance(hours=1)
        assert await run.aresult("1s") == expected
    assert passes == [expected, expected]
    assert [[type(value) for value in got] for got in passes] == [[type(value) for value in expected]] * 2


def identity(value: Any) -> Any:
    return value


class Plain:
    pass


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({1, 2}, r"\$ is a set; turn it into a sorted list"),
        ({"a": [b"x"]}, r"\$\.a\[0\] is a bytes; turn it into text"),
        (Plain(), r"\$ is a Plain; return only JSON"),
        ({"at": {"deep": object}}, r"\$\.at\.deep is a type"),
        (float("inf"), r"\$ is inf, which JSON can't express"),
        ({1: "a"}, r"\$ is a dict with a key of type int; JSON has only str keys"),
        (1 << 64, r"\$ is an int beyond 64 bits"),
        (lambda: 1, r"\$ is a function"),
    ],
)  # fmt: skip
async def test_a_step_that_returns_no_json_fails_at_once(app: TaskFlow, value: Any, text: str) -> None:
    """S2.6: a SerializationError that names the step and the type, without a retry."""
    calls: list[int] = []

    def make() -> Any:
        calls.append(1)
        return value

    @app.function(id="run")
    async def function(ctx: Context[Step], step: Step) -> None:
        await step.run("make it", make)

    async with Harness(app) as harness:
        run = await harness.start(function)
        with pytest.raises(
            RunFailed, match=f"SerializationError: step 'make it' has no JSON form: {text}"
        ) as caught:
            await run.aresult("1s")
        await harness.advance(days=1)
    assert caught.value.name == "SerializationError"
    assert len(calls) == 1


async def test_a_handler_that_returns_no_json_fails_at_once(app: TaskFlow) -> None:
    """S2.6"""
    calls: list[int] = []

    @app.function()
    async def wrong(ctx: Context[Step]) -> Any:
        calls.append(1)
        return {"x": Plain()}

    async with Harness(app) as harness:
        run = await harness.start(wrong)
        with pytest.raises(
            RunFailed,
            match=r"SerializationError: the result of shop/wrong has no JSON form: \$\.x is a Plain",
        ):
            await run.aresult("1s")
    assert len(calls) == 1
