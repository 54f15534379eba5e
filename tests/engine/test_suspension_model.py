"""The verdict "stuck" on random trees of combinators, against a model without asyncio. Rule S4.3."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskflow.engine.tasks.suspension import TaskTree
from taskflow.engine.tasks.tagging import install_task_factory
from taskflow.errors import Suspend

Spec: TypeAlias = tuple[Any, ...]
HOUR_S = 3600.0
LOOPS = ["asyncio", "uvloop"] + ["asyncio, eager"] * (sys.version_info >= (3, 12))

# A leaf is ("step" | "io", n), or ("ready",), which ends after n loop iterations; all else holds other specs.
ALL_OF = [
    "gather",
    "gather results",
    "group",
    "wait all",
    "wait exception",
    "as completed",
    "sequence",
    "generator",
]
ONE_OF = ["wait first"]
WRAPPERS = ["task", "shield", "wait_for", "timeout", "managed", "queue", "spawn"]
TIMED = ["timed wait_for", "timed timeout", "timed managed", "timed wait"]


def specs() -> st.SearchStrategy[Spec]:
    leaves = st.one_of(
        st.tuples(st.sampled_from(["step", "step", "io"]), st.just(0)),
        st.tuples(st.just("ready"), st.integers(0, 3)),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(st.sampled_from(ALL_OF + ONE_OF), st.lists(inner, min_size=1, max_size=3)),
            st.tuples(st.sampled_from(WRAPPERS + TIMED), st.lists(inner, min_size=1, max_size=1)),
        ),
        max_leaves=9,
    )


def numbered(spec: Spec, counter: list[int]) -> Spec:
    """The same spec, with a number of its own for each leaf that somebody has to resolve."""
    if spec[0] in ("step", "io"):
        counter[0] += 1
        return (spec[0], counter[0])
    if spec[0] == "ready":
        return spec
    return (spec[0], [numbered(inner, counter) for inner in spec[1]])


# --- the model ---


def pending(spec: Spec, resolved: set[int]) -> tuple[bool, set[Any]]:
    """Whether `spec` ends, and what is still waited for inside it: ("step", n), ("io", n) or a timer."""
    kind = spec[0]
    if kind == "ready":
        return True, set()
    if kind in ("step", "io"):
        return (True, set()) if spec[1] in resolved else (False, {spec})
    if kind in ("sequence", "generator"):
        left: set[Any] = set()
        for inner in spec[1]:
            ends, waits = pending(inner, resolved)
            left |= waits
            if not ends:
                return False, left
        return True, left
    outcomes = [pending(inner, resolved) for inner in spec[1]]
    left = set().union(*(waits for _, waits in outcomes))
    if kind == "spawn":
        return True, left
    ends = any(ends for ends, _ in outcomes) if kind in ONE_OF else all(ends for ends, _ in outcomes)
    if not ends and kind in (*TIMED, "queue"):
        left = left | {("held", kind)}
    return ends, left


def is_stuck(spec: Spec, resolved: set[int]) -> bool:
    ends, waits = pending(spec, resolved)
    return not ends and {kind for kind, _ in waits} == {"step"}


# --- the same, played ---


class Player:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.stuck_count = 0
        self.tree = TaskTree(loop, on_stuck=self.on_stuck)
        self.leaves: dict[int, asyncio.Future[None]] = {}
        self.resolved: set[int] = set()
        self.spawned: list[asyncio.Task[None]] = []
        self.entered = self.left = 0
        self.wrongly_went_on: list[str] = []

    def on_stuck(self) -> None:
        self.stuck_count += 1

    def resolve(self, leaf: int) -> None:
        self.resolved.add(leaf)
        if leaf in self.leaves:
            self.leaves[leaf].set_result(None)

    async def play(self, spec: Spec) -> None:
        self.entered += 1
        try:
            await self.dispatch(spec)
            if self.tree.suspending:
                self.wrongly_went_on.append(spec[0])
        finally:
            self.left += 1
            if self.tree.suspending:
                with pytest.raises(Suspend):
                    self.tree.parked()

    def task(self, spec: Spec) -> asyncio.Task[None]:
        return asyncio.create_task(self.play(spec))

    async def dispatch(self, spec: Spec) -> None:
        kind: str = spec[0]
        if kind == "ready":
            for _ in range(spec[1]):
                await asyncio.sleep(0)
        elif kind in ("step", "io"):
            if spec[1] not in self.resolved:
                future = self.tree.parked() if kind == "step" else self.loop.create_future()
                self.leaves[spec[1]] = future
                await future
        elif len(spec[1]) == 1 and kind in WRAPPERS + TIMED:
            await self.wrap(kind.removeprefix("timed "), spec[1][0], HOUR_S if kind in TIMED else None)
        else:
            await self.combine(kind, spec[1])

    async def combine(self, kind: str, inner: list[Spec]) -> None:
        if kind in ("gather", "gather results"):
            await asyncio.gather(*map(self.play, inner), return_exceptions=kind == "gather results")
        elif kind == "group":
            async with asyncio.TaskGroup() as group:
                for spec in inner[1:]:
                    group.create_task(self.play(spec))
                await self.play(inner[0])
        elif kind.startswith("wait "):
            until = {"all": asyncio.ALL_COMPLETED, "first": asyncio.FIRST_COMPLETED}.get(kind.split()[1])
            tasks = list(map(self.task, inner))
            self.spawned += tasks
            await asyncio.wait(tasks, return_when=until or asyncio.FIRST_EXCEPTION)
        elif kind == "as completed":
            for next_one in asyncio.as_completed(list(map(self.play, inner))):
                await next_one
        elif kind == "generator":
            async for _ in self.generate(inner):
                pass
        else:
            for spec in inner:
                await self.play(spec)

    async def generate(self, inner: list[Spec]) -> AsyncIterator[None]:
        for spec in inner:
            await self.play(spec)
            yield

    async def wrap(self, kind: str, inner: Spec, limit_s: float | None) -> None:
        if kind == "task":
            await self.task(inner)
        elif kind == "shield":
            await asyncio.shield(self.play(inner))
        elif kind == "wait_for":
            await asyncio.wait_for(self.play(inner), limit_s)
        elif kind == "wait":
            await asyncio.wait([self.task(inner)], timeout=limit_s)
        elif kind == "timeout":
            async with asyncio.timeout(limit_s):
                await self.play(inner)
        elif kind == "managed":
            async with self.limited(limit_s):
                await self.play(inner)
        elif kind == "queue":
            queue: asyncio.Queue[None] = asyncio.Queue()
            self.task(inner).add_done_callback(lambda _: queue.put_nowait(None))
            await queue.get()
        else:
            self.spawned.append(self.task(inner))

    @asynccontextmanager
    async def limited(self, limit_s: float | None) -> AsyncIterator[None]:
        async with asyncio.timeout(limit_s):
            yield


async def settle() -> None:
    for _ in range(80):
        await asyncio.sleep(0)


async def check(player: Player, spec: Spec, order: list[int], unwind_after: int) -> None:
    root = player.tree.start(player.play(spec))
    expected_calls = 0
    was_stuck = False
    for turn, leaf in enumerate([0, *order]):
        was_parked = leaf in player.leaves
        if leaf:
            player.resolve(leaf)
        await settle()
        ends, _ = pending(spec, player.resolved)
        stuck = is_stuck(spec, player.resolved)
        expected_calls += stuck and (not was_stuck or was_parked)
        assert root.done() == ends
        assert player.stuck_count == expected_calls
        was_stuck = stuck
        if turn == unwind_after:
            break
    ended_before = root.done()
    player.tree.unwind()
    assert await player.tree.unwound() == []
    assert root.done()
    assert player.wrongly_went_on == []
    assert player.entered == player.left
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert ended_before or root.cancelled() or root.exception() is not None


def play(kind: str, test: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> list[Any]:
    reports: list[Any] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    if kind.endswith("eager"):
        loop.set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009
    install_task_factory(loop)
    loop.run_until_complete(test)
    return reports


@pytest.mark.parametrize("kind", LOOPS)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spec=specs(), data=st.data())
def test_verdict_is_that_of_the_model_and_unwinding_ends_everything(
    kind: str, spec: Spec, data: st.DataObject
) -> None:
    counter = [0]
    spec = numbered(spec, counter)
    order = data.draw(st.permutations(range(1, counter[0] + 1)), label="order of resolution")
    unwind_after = data.draw(st.integers(0, counter[0]), label="unwound after")
    loop = uvloop.new_event_loop() if kind == "uvloop" else asyncio.new_event_loop()
    try:
        reports = play(kind, check(Player(loop), spec, order, unwind_after), loop)
        gc.collect(0)
    finally:
        loop.close()
    assert reports == []
