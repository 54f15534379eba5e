"""S3.1: `def` steps run in threads, which are few, reused, and end when there is nothing to do."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import pytest

from taskflow.engine.thread_pool import ThreadPool
from taskflow.observability.failures import Raised
from tests.waiting import until


@contextmanager
def pool_of(max_threads: int = 8, *, idle_s: float = 30.0) -> Iterator[ThreadPool]:
    pool = ThreadPool(asyncio.get_running_loop(), max_threads=max_threads, idle_s=idle_s)
    try:
        yield pool
    finally:
        pool.close()


async def all_idle(pool: ThreadPool) -> None:
    await until(lambda: len(pool.idle) == len(pool.threads), description="all threads at rest")


async def test_calls_that_block_run_beside_one_another() -> None:
    barrier = threading.Barrier(8)
    with pool_of(8) as pool:
        await asyncio.gather(*[pool.call(barrier.wait, (10,), {}) for _ in range(8)])
        assert len(pool.threads) == 8


async def test_more_calls_than_threads_wait_for_one() -> None:
    barrier = threading.Barrier(2)
    with pool_of(2) as pool:
        await asyncio.gather(*[pool.call(barrier.wait, (10,), {}) for _ in range(40)])
        assert len(pool.threads) <= 2


async def test_short_calls_in_a_row_use_one_thread() -> None:
    with pool_of() as pool:
        idents = set()
        for _ in range(50):
            idents.add(await pool.call(threading.get_ident, (), {}))
            await all_idle(pool)
    assert len(idents) == 1


async def test_the_thread_that_ran_last_goes_on_first() -> None:
    barrier = threading.Barrier(4)
    with pool_of() as pool:
        await asyncio.gather(*[pool.call(barrier.wait, (10,), {}) for _ in range(4)])
        await all_idle(pool)
        last = pool.idle[-1].ident
        assert await pool.call(threading.get_ident, (), {}) == last


async def test_a_thread_without_work_ends() -> None:
    with pool_of(idle_s=0.01) as pool:
        assert await pool.call(int, ("7",), {}) == 7
        await until(lambda: not pool.threads, description="the thread to end")
        assert await pool.call(int, ("8",), {}) == 8, "another one is started"


async def test_no_call_is_left_lying_while_threads_come_to_rest_and_end() -> None:
    """A thread that ends, one that comes to rest and a call that comes just then."""
    with pool_of(2, idle_s=0.001) as pool:
        for number in range(300):
            calls = [pool.call(time.sleep, (0.0005 * (number % 5),), {}) for _ in range(1 + number % 4)]
            async with asyncio.timeout(10):
                await asyncio.gather(*calls)


async def test_a_call_has_the_context_variables_of_its_caller() -> None:
    name: ContextVar[str] = ContextVar("name", default="")
    name.set("caller")

    def change() -> str:
        was = name.get()
        name.set("thread")
        return was

    with pool_of() as pool:
        assert await pool.call(change, (), {}) == "caller"
        assert name.get() == "caller"


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("k")])
async def test_an_error_reaches_who_waits(error: Exception) -> None:
    def fail() -> None:
        raise error

    with pool_of() as pool, pytest.raises(type(error)) as caught:
        await pool.call(fail, (), {})
    assert caught.value is error


@pytest.mark.parametrize("error", [StopIteration(1), SystemExit(3), KeyboardInterrupt()])
async def test_what_no_future_can_carry_comes_as_raised(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pool_of() as pool:
        with pytest.raises(Raised) as caught:
            await pool.call(fail, (), {})
        assert caught.value.original is error
        assert await pool.call(int, ("7",), {}) == 7, "the thread lives on"


async def test_a_call_that_is_cancelled_before_it_begins_never_does() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        go_on.wait(10)

    ran: list[int] = []
    with pool_of(1) as pool:
        first = pool.call(wait, (), {})
        await asyncio.to_thread(begun.wait, 10)
        second = pool.call(ran.append, (2,), {})
        second.cancel()
        third = pool.call(ran.append, (3,), {})
        go_on.set()
        await asyncio.gather(first, third)
    assert ran == [3]


async def test_a_closed_pool_begins_nothing_and_its_threads_end() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        go_on.wait(10)

    with pool_of(1) as pool:
        pool.call(wait, (), {})
        await asyncio.to_thread(begun.wait, 10)
        waiting = pool.call(int, ("7",), {})
        pool.close()
        assert waiting.cancelled()
        go_on.set()
        await until(lambda: not pool.threads, description="its threads to end")


class Thing:
    """Something that a weak reference may point to."""


@pytest.mark.parametrize("fails", [False, True])
async def test_a_call_leaves_nothing_behind_that_needs_the_cyclic_collector(fails: bool) -> None:
    def work(thing: Thing) -> Thing:
        if fails:
            raise ValueError(thing)
        return thing

    async def call(pool: ThreadPool) -> weakref.ref[Any]:
        thing = Thing()
        with suppress(ValueError):
            await pool.call(work, (thing,), {})
        return weakref.ref(thing)

    gc.disable()
    try:
        with pool_of() as pool:
            held = await call(pool)
            await all_idle(pool)
            # The loop's turn in which the call ended holds its future.
            await asyncio.sleep(0)
            assert held() is None
    finally:
        gc.enable()
