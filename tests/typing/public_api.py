"""What type checkers know of the public names. Nothing here runs: mypy and pyright read it (see test_types.py)."""

from __future__ import annotations

import asyncio
from typing import Any, assert_type

from taskflow import BlockingStep, Context, Event, Function, Run, RunStatus, Step, TaskFlow
from taskflow.run import RunView
from taskflow.testing import Harness

app = TaskFlow("shop", retention="1h", max_steps=5)


@app.function(trigger="shop/order", retries=2)
async def fulfil(ctx: Context[Step], step: Step) -> str:
    assert_type(await step.run("reserve", reserve, "A7"), int)
    assert_type(await step.run("price", price, sku="A7"), float)
    assert_type(await step.with_options(retries=1).run("price", price, sku="A7"), float)
    assert_type(await step.with_options(record_input=True).run("reserve", reserve, "A7"), int)
    assert_type(await step.run("text", price, sku="A7", output_type=str), str)
    assert_type(await step.invoke("receipt", function=receipt), bytes)
    assert_type(await step.invoke("again", function=fulfil, data={"n": 1}), str)
    assert_type(await step.invoke("elsewhere", function_id="risk/score"), Any)
    assert_type(await step.map("reserve", reserve, ["A7", "B1"], concurrency=2), list[int])
    assert_type(await step.map("slowly", slowly, ["A7"]), list[float])
    assert_type(await step.map("text", reserve, ["A7"], output_type=str), list[str])
    branches = [lambda n=n: step.run(f"part {n}", reserve, "A7") for n in range(3)]
    assert_type(await step.parallel(branches), tuple[int, ...])
    assert_type(await step.parallel(branches, mode="race"), int)
    both = await asyncio.gather(step.run("a", reserve, "A7"), step.run("b", price, sku="A7"))
    assert_type(both, tuple[int, float])
    return "done"


@app.function
def receipt(ctx: Context[BlockingStep], step: BlockingStep) -> bytes:
    assert_type(step.run("reserve", reserve, "A7"), int)
    assert_type(step.run("price", price, sku="A7"), float)
    assert_type(step.with_options(timeout="5s").run("reserve", reserve, "A7"), int)
    assert_type(step.invoke("fulfil", function=fulfil), str)

    assert_type(step.map("reserve", reserve, ["A7"]), list[int])
    assert_type(step.map("slowly", slowly, ["A7"]), list[float])

    def one() -> int:
        return step.run("one", reserve, "A7")

    def two() -> float:
        return step.run("two", price, sku="A7")

    assert_type(step.parallel((one, two)), tuple[int, float])
    assert_type(step.parallel([one, one]), tuple[int, ...])
    return b""


def reserve(sku: str) -> int:
    return len(sku)


async def price(*, sku: str) -> float:
    return len(sku) / 2


async def slowly(sku: str) -> float:
    return len(sku) / 2


def from_sync_code() -> None:
    assert_type(fulfil.invoke({"n": 1}), Run[str])
    assert_type(fulfil.invoke().result(), str)
    assert_type(receipt.invoke().result(timeout="1m"), bytes)
    assert_type(app.invoke(fulfil, {"n": 1}).result(), str)
    assert_type(app.invoke(receipt).result(), bytes)
    assert_type(app.invoke("risk/score").result(), Any)
    assert_type(app.run("01M7").status(), RunStatus)
    assert_type(app.run("01M7").view(), RunView)
    assert_type(app.send("shop/order", {"n": 1}), list[str])
    assert_type(app.send([Event("shop/order")]), list[str])


async def from_async_code(run: Run) -> None:
    assert_type(await (await fulfil.ainvoke()).aresult(), str)
    assert_type(await (await app.ainvoke(receipt)).aresult(), bytes)
    assert_type(await run.aresult(), Any)


async def in_a_test() -> None:
    async with Harness(app) as harness:
        run = await harness.start(fulfil)
        assert_type((await harness.view(run)).step("reserve").attempts, int)


def mistakes(function: Function[..., int]) -> None:
    app.function(triger="shop/order")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    TaskFlow("shop", retention_s=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    app.send("shop/order", dta={})  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    app.replay(function)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    app.cancel_runs(function, statuses="queued")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    _: Run[str] = function.invoke()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
