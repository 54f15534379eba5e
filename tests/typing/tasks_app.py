"""What type checkers know of tasks and canvases. Nothing here runs: see test_types.py."""

from __future__ import annotations

import asyncio
from typing import Any, assert_type

from taskflow import (
    Context,
    GroupRuns,
    Retries,
    Run,
    Step,
    TaskContext,
    TaskFlow,
    chain,
    chord,
    current,
    group,
    task,
)

app = TaskFlow("shop")


@app.task
def add(x: int, y: int = 0) -> int:
    return x + y


@app.task(queue="slow", retries=Retries(2))
async def price(ctx: TaskContext, sku: str, *, count: int = 1) -> str:
    ctx.progress(1, 2)
    return sku * count


@task
def shared(name: str) -> bytes:
    return name.encode()


@task(id="other")
async def other(ctx: TaskContext, name: str) -> str:
    return name


@app.task
def total(numbers: list[int]) -> str:
    return str(sum(numbers))


def from_sync_code() -> None:
    assert_type(add(1, y=2), int)
    assert_type(add.delay(1, 2), Run[int])
    assert_type(add.delay(1).result(timeout="1m"), int)
    assert_type(price.delay("A7", count=2), Run[str])
    assert_type(price.options(countdown="10s", id="x").delay("A7"), Run[str])
    assert_type(add.apply_async((1, 2), countdown=10), Run[int])
    assert_type(add.many([(1, 2), {"x": 3}]), list[Run[int]])
    assert_type(shared.delay("x"), Run[bytes])
    assert_type(other.delay("x"), Run[str])
    assert_type(app.call("billing/charge", 7), Run[Any])
    assert_type(current().attempt, int)


async def from_async_code() -> None:
    assert_type(await price("A7"), str)
    assert_type(await add.adelay(1), Run[int])
    assert_type(await price.adelay("A7"), Run[str])
    assert_type(await price.options(priority="high").adelay("A7"), Run[str])
    assert_type(await price.amany([("A7",)]), list[Run[str]])


@app.function
async def report(ctx: Context[Step]) -> str:
    assert_type(await add.step(1, 2), int)
    assert_type(await price.step("A7"), str)
    both = await asyncio.gather(add.step(1), price.step("A7"))
    assert_type(both, tuple[int, str])
    return both[1]


def canvases() -> None:
    assert_type((add.s(1, 2) | price.s()).delay(), Run[str])
    assert_type(chain(add.s(1, 2), price.s(), total.s()).delay().result(), str)
    assert_type(group(add.s(n, n) for n in range(3)).delay(), GroupRuns[int])
    assert_type(group(add.s(1, 1), add.s(2)).delay().result(), list[int])
    assert_type(chord([add.s(1, 1)], total.s()).delay(), Run[str])
    assert_type((group(add.s(1, 1)) | total.s()).delay(), Run[str])


def mistakes() -> None:
    add.delay("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    add.delay(1, z=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    price.delay("A7", 3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    add.options(countdwn=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    add.options(priority="urgent")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.task(quue="slow")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    _: Run[str] = add.delay(1)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
