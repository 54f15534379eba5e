"""S15.3: chains, groups and chords are durable runs; nothing hangs, and every failure is told."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.errors import ConfigError, RunCancelled, RunFailed
from taskflow.run import RunStatus
from taskflow.tasks.canvas import WIDEST
from taskflow.tasks.signature import chain, chord, group
from taskflow.tasks.task import Task
from taskflow.testing import Harness
from tests.rules.passing import all_final


class Sums:
    """Tasks that add, and note what they were called with."""

    def __init__(self, app: TaskFlow, *, retries: int = 0) -> None:
        self.calls: list[tuple[str, Any]] = []
        calls = self.calls

        @app.task(id="sums.add", retries=retries)
        async def add(x: int, y: int) -> int:
            calls.append(("add", (x, y)))
            if y < 0:
                raise ValueError(f"{y} is negative")
            return x + y

        @app.task(id="sums.total", retries=retries)
        async def total(numbers: list[int], plus: int = 0) -> int:
            calls.append(("total", numbers))
            return sum(each for each in numbers if isinstance(each, int)) + plus

        @app.task(id="sums.raw", retries=retries)
        async def raw(numbers: Any) -> Any:
            return numbers

        @app.task(id="sums.report", retries=retries)
        async def report(failure: dict[str, Any], to: str) -> None:
            calls.append(("report", (failure, to)))
            if to == "nobody":
                raise ValueError("nobody is there")

        self.add, self.total, self.raw, self.report = add, total, raw, report

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


async def result_of(harness: Harness, canvas: Any, **options: Any) -> Any:
    run = await canvas.adelay(**options)
    await harness.settled()
    return await run.aresult("2s")


# --- chains ---


async def test_each_link_of_a_chain_gets_the_result_before_it(app: TaskFlow) -> None:
    """S15.3: as its first argument; `si` ignores it."""
    sums = Sums(app)
    async with Harness(app) as harness:
        assert await result_of(harness, sums.add.s(1, 2) | sums.add.s(10) | sums.add.s(100)) == 113
        assert await result_of(harness, chain(sums.add.s(1, 2), sums.add.si(5, 6))) == 11
        assert await result_of(harness, chain(sums.add.s(1, 2) | sums.add.s(y=4))) == 7


async def test_a_chain_ends_with_the_link_that_fails(app: TaskFlow) -> None:
    """S15.3: the rest is not reached, and the run says so: nothing waits for ever."""
    sums = Sums(app)
    async with Harness(app) as harness:
        run = await (sums.add.s(1, 2) | sums.add.s(-1) | sums.total.s()).adelay()
        await harness.settled()
        with pytest.raises(RunFailed, match="-1 is negative"):
            await run.aresult("2s")
        view = await harness.view(run)
        assert list(view.steps) == ["0:add", "1:add"]
        page = await (await harness.runs(app.functions["shop/canvas"]))[0].apage()
        assert "2:total" in page and "not reached" in page
    assert sums.names() == ["add", "add"]


async def test_a_result_keeps_its_type_on_the_way(app: TaskFlow) -> None:
    """S11.3, S15.3"""

    @app.task(id="day")
    def day(n: int) -> date:
        return date(2030, 1, n)

    @app.task(id="next_day")
    def next_day(day: date) -> date:
        return day.replace(day=day.day + 1)

    async with Harness(app) as harness:
        assert await result_of(harness, day.s(3) | next_day.s() | next_day.s()) == date(2030, 1, 5)
        run = await group(day.s(1), day.s(2)).adelay()
        await harness.settled()
        assert await run.aresult("2s") == [date(2030, 1, 1), date(2030, 1, 2)]


async def test_a_link_may_wait_and_go_to_another_queue(app: TaskFlow) -> None:
    """S15.3"""
    sums = Sums(app)
    async with Harness(app) as harness:
        run = await (
            sums.add.s(1, 2) | sums.add.s(3).set(countdown="10m", headers={"tenant": "acme"})
        ).adelay()
        await harness.advance(minutes=9)
        assert await run.astatus() is RunStatus.WAITING
        await harness.advance(minutes=2)
        assert await run.aresult("2s") == 6
        second = (await harness.runs(sums.add))[1]
        assert (await second.aview()).event["headers"] == {"tenant": "acme"}


# --- groups and chords ---


async def test_a_group_alone_is_a_run_for_each_member(app: TaskFlow) -> None:
    """S15.3: and none for the whole."""
    sums = Sums(app)
    async with Harness(app) as harness:
        runs = await group(sums.add.s(n, n) for n in range(7)).adelay()
        await harness.settled()
        assert await runs.aresult("2s") == [0, 2, 4, 6, 8, 10, 12]
        assert len(runs) == 7 and [run.id for run in runs] == [run.id for run in runs.runs]
        assert await harness.runs(app.functions["shop/canvas"]) == []
        mixed = await group(sums.add.s(1, 1), sums.add.s(2, 2) | sums.add.s(1)).adelay(countdown="1m")
        await harness.advance(minutes=2)
        assert await mixed.aresult("2s") == [2, 5]


async def test_a_body_gets_the_list_of_the_results_in_order(app: TaskFlow) -> None:
    """S15.3: always a list: of one member, of none."""
    sums = Sums(app)
    async with Harness(app) as harness:
        assert await result_of(harness, chord([sums.add.s(n, 1) for n in range(5)], sums.raw.s())) == [
            1,
            2,
            3,
            4,
            5,
        ]
        assert await result_of(harness, chord([sums.add.s(1, 1)])(sums.raw.s())) == [2]
        assert await result_of(harness, chord([], sums.raw.s())) == []
        assert (
            await result_of(harness, group(sums.add.s(1, 1), sums.add.s(2, 2)) | sums.total.s(plus=10)) == 16
        )


async def test_canvases_nest(app: TaskFlow) -> None:
    """S15.3: a group behind a link gives its result to each member."""
    sums = Sums(app)
    inner = chord([sums.add.s(1, 1), sums.add.s(2, 2) | sums.add.s(3)], sums.total.s())
    async with Harness(app) as harness:
        assert await result_of(harness, inner | sums.add.s(100)) == 109
        assert await result_of(
            harness, sums.add.s(1, 1) | group(sums.add.s(1), sums.add.s(2)) | sums.raw.s()
        ) == [3, 4]
        assert await result_of(harness, chord([inner, inner], sums.raw.s())) == [9, 9]
        assert await result_of(harness, sums.add.s(1, 1) | group(sums.add.s(1), sums.add.s(2))) == [3, 4]


async def test_all_failures_of_a_group_are_told(app: TaskFlow) -> None:
    """S15.3, on_error="wait": the others end first; the body is not called."""
    sums = Sums(app)
    async with Harness(app) as harness:
        run = await chord([sums.add.s(n, y) for n, y in enumerate([1, -2, 3, -4])], sums.total.s()).adelay()
        await harness.settled()
        with pytest.raises(RunFailed) as error:
            await run.aresult("2s")
    assert error.value.name == "ChordError"
    assert error.value.message == (
        "2 of 4 members of the group failed: 0.1:add: ValueError: -2 is negative; 0.3:add: ValueError: -4 is negative"
    )
    assert sums.names() == ["add"] * 4


async def test_failures_may_be_values(app: TaskFlow) -> None:
    """S15.3, on_error="collect": the body judges."""
    sums = Sums(app)
    async with Harness(app) as harness:
        canvas = chord([sums.add.s(1, 1), sums.add.s(2, -1)], sums.raw.s(), on_error="collect")
        assert await result_of(harness, canvas) == [
            2, {"error": {"node": "0.1:add", "name": "ValueError", "message": "-1 is negative"}}
        ]  # fmt: skip


async def test_the_others_may_be_stopped(app: TaskFlow) -> None:
    """S15.3, on_error="stop": at once, those too that have not begun."""
    sums = Sums(app)

    @app.task(id="slow")
    async def slow(n: int) -> int:
        return n

    async with Harness(app) as harness:
        waiting = [slow.s(n).set(queue="nobody") for n in range(3)]
        run = await chord([*waiting, sums.add.s(1, -1)], sums.total.s(), on_error="stop").adelay()
        await harness.settled()
        with pytest.raises(RunFailed, match="1 of 4 members of the group failed: 0.3:add"):
            await run.aresult("2s")
        statuses = {await each.astatus() for each in await harness.runs(slow)}
        assert statuses == {RunStatus.CANCELLED}


async def test_a_call_is_made_once_when_a_canvas_fails(app: TaskFlow) -> None:
    """S15.3: it gets the run, the node and the error; its own failure changes nothing."""
    sums = Sums(app)
    async with Harness(app) as harness:
        for to in ("ann", "nobody"):
            run = await (sums.add.s(1, -1) | sums.add.s(2)).adelay(on_failure=sums.report.s(to))
            await harness.settled()
            with pytest.raises(RunFailed, match="-1 is negative"):
                await run.aresult("2s")
            failure, told = sums.calls[-1][1]
            assert told == to
            assert failure == {
                "run_id": run.id,
                "node": "0:add",
                "name": "ValueError",
                "message": "-1 is negative",
            }


async def test_who_cancels_a_canvas_cancels_all_of_it(app: TaskFlow) -> None:
    """S15.3: unlike S6.2; canvases inside too."""

    @app.task(id="slow")
    async def slow(n: int) -> int:
        return n

    Sums(app)
    async with Harness(app) as harness:
        wide: list[Any] = [slow.s(n).set(queue="nobody") for n in range(WIDEST + 2)]
        run = await chord([*wide, slow.s(1).set(queue="nobody") | slow.s()], slow.s()).adelay()
        await harness.settled()
        assert await run.astatus() is RunStatus.WAITING
        assert await run.acancel()
        await harness.settled()
        with pytest.raises(RunCancelled):
            await run.aresult("2s")
        runs = await harness.runs(slow)
        assert len(runs) == WIDEST + 3 and await all_final(runs)
        assert await all_final(await harness.runs(app.functions["shop/canvas"]))


async def test_a_wide_group_is_split_into_canvases(app: TaskFlow) -> None:
    """S15.3: of 500 members each, so that no limit of a run is met; failures are told all the same."""
    sums = Sums(app)
    async with Harness(app) as harness:
        assert await result_of(
            harness, chord([sums.add.s(n, 1) for n in range(WIDEST + 200)], sums.total.s())
        ) == sum(range(1, WIDEST + 201))
        assert len(await harness.runs(app.functions["shop/canvas"])) == 3
        failing = [sums.add.s(n, -1 if n == WIDEST + 1 else 1) for n in range(WIDEST + 2)]
        run = await chord(failing, sums.total.s()).adelay()
        await harness.settled()
        with pytest.raises(RunFailed, match="1 of 502 members of the group failed"):
            await run.aresult("2s")


async def test_a_canvas_runs_again_from_the_node_that_failed(app: TaskFlow) -> None:
    """S15.3, S10.3"""
    broken = [True]
    calls: list[str] = []

    @app.task(id="first")
    async def first() -> int:
        calls.append("first")
        return 1

    @app.task(id="second", retries=0)
    async def second(n: int) -> int:
        calls.append("second")
        if broken:
            raise ValueError("broken")
        return n + 1

    async with Harness(app) as harness:
        run = await (first.s() | second.s()).adelay()
        await harness.settled()
        assert await run.astatus() is RunStatus.FAILED
        broken.clear()
        again = await app.arerun(run.id, from_step="1:second")
        await harness.settled()
        assert await again.aresult("2s") == 2
    assert calls == ["first", "second", "second"]


async def test_a_known_id_gives_the_canvas_that_it_had(app: TaskFlow) -> None:
    """S15.2"""
    sums = Sums(app)
    async with Harness(app) as harness:
        first = await (sums.add.s(1, 2) | sums.add.s(3)).adelay(id="once")
        again = await (sums.add.s(1, 2) | sums.add.s(3)).adelay(id="once")
        assert again.id == first.id
        await harness.settled()
        with pytest.raises(ConfigError, match="other arguments"):
            await (sums.add.s(1, 2) | sums.add.s(4)).adelay(id="once")


# --- errors are in the sender ---


async def test_calls_that_do_not_fit_their_place_are_refused_in_the_sender(app: TaskFlow) -> None:
    """S15.3: nothing is made."""
    sums = Sums(app)

    @app.task(id="alone")
    async def alone() -> None: ...

    nothing: Task[..., Any] = alone
    with pytest.raises(TypeError, match=r"shop/alone takes \(\), but was called with 1 positional"):
        await (sums.add.s(1, 2) | nothing.s()).adelay()
    with pytest.raises(TypeError, match="gives nothing for 'y'"):
        await (sums.add.s(1) | sums.add.s(1)).adelay()
    with pytest.raises(ConfigError, match="at least one call"):
        chain()
    with pytest.raises(ConfigError, match="on_error must be one of"):
        group(sums.add.s(1, 2), on_error="ignore")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="takes signatures"):
        group([1])  # type: ignore[arg-type]
