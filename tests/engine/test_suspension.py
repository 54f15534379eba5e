"""When a run counts as stuck, and how its tasks are unwound. Rules S3.7, S4.3, S4.6."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import Context
from functools import wraps
from typing import Any

import pytest
import uvloop

from taskflow.engine.tasks.suspension import TaskTree
from taskflow.engine.tasks.tagging import detached, install_task_factory
from taskflow.errors import Suspend

DEADLINE_S = 10.0
HOUR_S = 3600.0


LOOPS = ["asyncio", "uvloop"] + ["asyncio, eager", "uvloop, eager"] * (sys.version_info >= (3, 12))


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in the loop of its `runner`, or in that of its `run`."""

    @wraps(test)
    def in_loop_of_fixture(**fixtures: Any) -> None:
        runner = fixtures.get("runner") or fixtures["run"].runner
        runner.run(test(**fixtures))

    return in_loop_of_fixture


@pytest.fixture(params=LOOPS)
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """An event loop of each kind, with the task factory installed."""
    kind: str = request.param
    new_loop = uvloop.new_event_loop if kind.startswith("uvloop") else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=new_loop) as runner:
        loop = runner.get_loop()
        if kind.endswith("eager"):
            loop.set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009
        install_task_factory(loop)
        yield runner


class Run:
    """A handler under a tree, with a step tool that parks until the test resolves it."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self.runner = runner
        self.loop = runner.get_loop()
        self.tree = TaskTree(self.loop, on_stuck=self.on_stuck, is_operation=self.is_operation)
        self.stuck_count = 0
        self.got_stuck = asyncio.Event()
        self.parked: dict[str, asyncio.Future[Any]] = {}
        self.executed: list[str] = []
        self.notes: list[str] = []
        self.spawned: Any = None

    def on_stuck(self) -> None:
        self.stuck_count += 1
        self.got_stuck.set()

    def is_operation(self, coro: Any) -> bool:
        return getattr(coro, "cr_code", None) is Run.step.__code__

    async def step(self, name: str) -> Any:
        if self.tree.suspending:
            await self.tree.refuse()
        self.parked[name] = future = self.tree.parked()
        return await future

    async def execute(self, name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        if self.tree.suspending:
            await self.tree.refuse()
        self.executed.append(name)
        self.tree.enter()
        try:
            with detached():
                return await work()
        finally:
            self.tree.leave()

    def start(self, handler: Callable[[Run], Any]) -> asyncio.Task[Any]:
        return self.tree.start(handler(self))

    async def stuck_within_deadline(self) -> None:
        await asyncio.wait_for(self.got_stuck.wait(), DEADLINE_S)

    async def unwind(self, *, grace_s: float = 5.0) -> list[asyncio.Task[Any]]:
        self.tree.unwind(grace_s=grace_s)
        return await asyncio.wait_for(self.tree.unwound(), DEADLINE_S)


async def settle(ticks: int = 40) -> None:
    for _ in range(ticks):
        await asyncio.sleep(0)


@pytest.fixture
def run(runner: asyncio.Runner) -> Iterator[Run]:
    """A run whose end must leave no task, no report to the loop's exception handler, and no warning."""
    loop = runner.get_loop()
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    run = Run(runner)
    yield run
    runner.run(end(run))
    run.tree.root = None
    gc.collect()
    assert reports == []


async def end(run: Run) -> None:
    if not run.tree.suspending:
        await run.unwind()
    assert run.tree.survivors == []
    root = run.tree.root
    if root is not None and not root.cancelled():
        root.exception()
    await settle(3)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def gather_steps(run: Run, *names: str) -> list[Any]:
    return await asyncio.gather(*(run.step(name) for name in names))


# Handlers that end up waiting for `last`, a leaf given by the test, next to parked steps.
Leaf = Callable[[], Awaitable[Any]]


async def plain(run: Run, last: Leaf) -> None:
    await last()


async def gather(run: Run, last: Leaf) -> None:
    await asyncio.gather(run.step("a"), last(), run.step("b"))


async def gather_with_exceptions(run: Run, last: Leaf) -> None:
    async def fail() -> None:
        raise ValueError("a result like others")

    await asyncio.gather(run.step("a"), fail(), last(), return_exceptions=True)
    run.notes.append("went on")


async def nested_gathers(run: Run, last: Leaf) -> None:
    await asyncio.gather(run.step("a"), asyncio.gather(run.step("b"), asyncio.gather(last(), run.step("c"))))


async def same_gather_twice(run: Run, last: Leaf) -> None:
    inner = asyncio.gather(run.step("a"), last())
    await asyncio.gather(inner, asyncio.shield(inner), inner)


async def task_group(run: Run, last: Leaf) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(run.step("a"))
        group.create_task(plain(run, last))


async def task_group_in_gather(run: Run, last: Leaf) -> None:
    await asyncio.gather(run.step("x"), task_group(run, last))


async def task_group_body(run: Run, last: Leaf) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(run.step("a"))
        await last()


async def wait_for_all(run: Run, last: Leaf) -> None:
    await asyncio.wait([asyncio.create_task(run.step("a")), asyncio.create_task(plain(run, last))])
    run.notes.append("went on")


async def wait_for_first(run: Run, last: Leaf) -> None:
    tasks = [asyncio.create_task(run.step("a")), asyncio.create_task(plain(run, last))]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    run.notes.append("went on")
    await run.step("after the first")


async def wait_for_exception(run: Run, last: Leaf) -> None:
    async def succeed() -> None:
        pass

    tasks = [asyncio.create_task(c) for c in (run.step("a"), plain(run, last), succeed())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    run.notes.append("went on")


async def wait_for_gathers(run: Run, last: Leaf) -> None:
    await asyncio.wait([asyncio.gather(run.step("a"), last()), asyncio.ensure_future(run.step("b"))])
    run.notes.append("went on")


async def as_completed(run: Run, last: Leaf) -> None:
    for next_one in asyncio.as_completed([run.step("a"), last(), run.step("b")]):
        await next_one
        run.notes.append("went on")


async def wait_for_forever(run: Run, last: Leaf) -> None:
    await asyncio.wait_for(plain(run, last), None)


async def shield(run: Run, last: Leaf) -> None:
    await asyncio.shield(plain(run, last))


async def gather_of_shields(run: Run, last: Leaf) -> None:
    await asyncio.gather(asyncio.shield(run.step("a")), asyncio.shield(plain(run, last)))


async def plain_task(run: Run, last: Leaf) -> None:
    await asyncio.create_task(plain(run, last))


async def never_awaited(run: Run, last: Leaf) -> None:
    run.spawned = asyncio.create_task(plain(run, last))
    await run.step("a")


async def gather_never_awaited(run: Run, last: Leaf) -> None:
    run.spawned = asyncio.gather(asyncio.gather(run.step("x"), plain(run, last)))
    await run.step("a")


async def async_generator(run: Run, last: Leaf) -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1
        await asyncio.gather(run.step("a"), last())
        yield 2

    async for _ in numbers():
        pass


async def context_manager(run: Run, last: Leaf) -> None:
    @asynccontextmanager
    async def managed() -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            group.create_task(run.step("a"))
            yield
            group.create_task(plain(run, last))

    async with managed():
        pass


async def timeout_of_none(run: Run, last: Leaf) -> None:
    async with asyncio.timeout(None):
        await last()


COMBINATORS = [
    plain, gather, gather_with_exceptions, nested_gathers, same_gather_twice, task_group,
    task_group_in_gather, task_group_body, wait_for_all, wait_for_first, wait_for_exception, wait_for_gathers,
    as_completed, wait_for_forever, shield, gather_of_shields, plain_task, never_awaited, async_generator,
    gather_never_awaited, context_manager, timeout_of_none,
]  # fmt: skip
combinators = pytest.mark.parametrize("combinator", COMBINATORS, ids=lambda c: c.__name__)


@combinators
@in_loop
async def test_run_whose_branches_all_wait_for_parked_steps_is_stuck_once(run: Run, combinator: Any) -> None:
    root = run.tree.start(combinator(run, lambda: run.step("last")))
    await settle()
    assert run.stuck_count == 1
    assert run.tree.stuck
    await run.unwind()
    assert root.done()
    assert run.notes == []  # no user code takes suspended members for results
    assert run.stuck_count == 1


@combinators
@in_loop
async def test_raw_io_in_one_branch_keeps_the_run_in_memory_until_it_ends(run: Run, combinator: Any) -> None:
    io = run.loop.create_future()

    async def last() -> None:
        await io
        await run.step("last")

    run.tree.start(combinator(run, last))
    await settle()
    assert run.stuck_count == 0
    assert run.tree.held_by is not None or not run.parked
    io.set_result(None)
    await settle()
    assert run.stuck_count == 1


@combinators
@in_loop
async def test_run_held_by_raw_io_can_be_unwound(run: Run, combinator: Any) -> None:
    io = run.loop.create_future()

    async def last() -> None:
        await io

    root = run.tree.start(combinator(run, last))
    await settle()
    await run.unwind()
    assert root.done()
    assert run.notes == []


@combinators
@in_loop
async def test_run_is_stuck_again_after_a_step_was_resolved_in_memory(run: Run, combinator: Any) -> None:
    async def last() -> None:
        await run.step("last")
        await run.step("next")

    run.tree.start(combinator(run, last))
    await settle()
    run.parked["last"].set_result(1)
    await settle()
    assert run.stuck_count == 2


# --- what holds a run ---


@in_loop
async def test_data_of_a_socket_lets_the_run_get_stuck_later(run: Run) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)

        async def read() -> None:
            await run.loop.sock_recv(ours, 1)
            await run.step("b")

        async def handler() -> None:
            await asyncio.gather(run.step("a"), read())

        run.tree.start(handler())
        await settle()
        assert run.stuck_count == 0
        theirs.send(b"x")
        await run.stuck_within_deadline()
        assert set(run.parked) == {"a", "b"}


@pytest.mark.parametrize("primitive", [asyncio.Event, asyncio.Lock, asyncio.Semaphore, asyncio.Queue])
@in_loop
async def test_primitives_between_branches_are_not_proved(run: Run, primitive: type) -> None:
    shared = primitive()

    async def handler() -> None:
        if primitive is asyncio.Event:
            await shared.wait()
        elif primitive is asyncio.Queue:
            await shared.get()
        else:
            await shared.acquire()
            await shared.acquire()
        await run.step("b")

    async def both() -> None:
        await asyncio.gather(run.step("a"), handler())

    run.tree.start(both())
    await settle()
    assert run.stuck_count == 0
    {asyncio.Event: lambda: shared.set(), asyncio.Queue: lambda: shared.put_nowait(1)}.get(
        primitive, lambda: shared.release()
    )()
    await settle()
    assert run.stuck_count == 1


@in_loop
async def test_task_that_outlives_its_io_by_some_ticks_is_looked_at_until_it_rests(run: Run) -> None:
    io = run.loop.create_future()

    async def busy() -> None:
        await io
        await settle(7)

    async def handler() -> None:
        run.spawned = asyncio.create_task(busy())
        await run.step("a")

    run.tree.start(handler())
    await settle()
    assert run.stuck_count == 0
    io.set_result(None)
    await settle()
    assert run.stuck_count == 1


@in_loop
async def test_branch_that_leaves_raw_io_for_an_old_task_is_seen_without_a_new_step(run: Run) -> None:
    io = run.loop.create_future()

    async def handler() -> None:
        waiting = asyncio.create_task(run.step("a"))
        try:
            await asyncio.gather(io, run.step("fails"))
        except ValueError:
            await waiting

    run.tree.start(handler())
    await settle()
    assert run.stuck_count == 0
    run.parked["fails"].set_exception(ValueError())
    await settle()
    assert not io.done()
    assert run.stuck_count == 1
    io.cancel()


@in_loop
async def test_any_of_several_ios_that_ends_a_gather_brings_the_next_look(run: Run) -> None:
    first, second = run.loop.create_future(), run.loop.create_future()

    async def handler() -> None:
        waiting = asyncio.create_task(run.step("a"))
        try:
            await asyncio.gather(asyncio.gather(first, second), run.loop.create_future())
        except ValueError:
            await waiting

    run.tree.start(handler())
    await settle()
    assert run.stuck_count == 0
    first.set_exception(ValueError())
    await settle()
    assert run.stuck_count == 1


async def first_of_wait(run: Run) -> None:
    tasks = [asyncio.create_task(run.step(name)) for name in "ab"]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    run.spawned = tasks
    assert isinstance(tasks[0].exception(), ValueError)


async def exception_of_wait(run: Run) -> None:
    tasks = [asyncio.create_task(run.step(name)) for name in "ab"]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    run.spawned = tasks
    assert isinstance(tasks[0].exception(), ValueError)


async def failed_gather(run: Run) -> None:
    await gather_steps(run, *"ab")


async def failed_group(run: Run) -> None:
    async with asyncio.TaskGroup() as group:
        for name in "ab":
            group.create_task(run.step(name))


async def failed_as_completed(run: Run) -> None:
    for next_one in asyncio.as_completed([run.step("a"), run.step("b")]):
        await next_one


@pytest.mark.parametrize(
    "join", [first_of_wait, exception_of_wait, failed_gather, failed_group, failed_as_completed]
)
@in_loop
async def test_join_whose_member_has_just_ended_is_about_to_move(run: Run, join: Any) -> None:
    """The member is done, its callbacks are scheduled, and a look comes in between."""

    async def handler() -> str:
        try:
            await join(run)
        except* ValueError:
            pass
        return "moved"

    root = run.tree.start(handler())
    await settle()
    assert run.stuck_count == 1
    run.parked["a"].set_exception(ValueError())
    await settle()
    assert root.result() == "moved"
    assert run.stuck_count == 1


@in_loop
async def test_task_outside_the_tree_holds_the_run(run: Run) -> None:
    io = run.loop.create_future()
    foreign = run.loop.create_task(asyncio.wait_for(io, None), context=Context())

    async def handler() -> None:
        await asyncio.gather(run.step("a"), asyncio.shield(foreign))

    run.tree.start(handler())
    await settle()
    assert run.stuck_count == 0
    io.set_result(None)
    await settle()
    assert run.stuck_count == 1


@in_loop
async def test_foreign_member_of_a_wait_is_not_overlooked(run: Run) -> None:
    """The waiter can be reached from a parked member too; that alone proves nothing."""
    io = run.loop.create_future()

    async def handler() -> None:
        await asyncio.wait([asyncio.create_task(run.step("a")), io], return_when=asyncio.FIRST_COMPLETED)
        await run.step("b")

    run.tree.start(handler())
    await settle()
    assert run.stuck_count == 0
    io.set_result(None)
    await settle()
    assert set(run.parked) == {"a", "b"}
    assert run.stuck_count == 1


@in_loop
async def test_queue_fed_by_callbacks_of_a_task_and_by_io_is_not_proved(run: Run) -> None:
    queue: asyncio.Queue[int] = asyncio.Queue()

    async def handler() -> None:
        task = asyncio.create_task(run.step("a"))
        task.add_done_callback(lambda _: queue.put_nowait(1))
        await queue.get()
        await run.step("b")

    run.tree.start(handler())
    await settle()
    assert run.stuck_count == 0
    queue.put_nowait(2)
    await settle()
    assert run.stuck_count == 1


@in_loop
async def test_step_that_executes_is_never_stuck(run: Run) -> None:
    io = run.loop.create_future()

    async def handler() -> None:
        await asyncio.gather(run.step("a"), run.execute("x", lambda: asyncio.wait_for(io, None)))

    run.tree.start(handler())
    await settle()
    assert (run.stuck_count, run.tree.executing) == (0, 1)
    io.set_result(None)
    await settle()
    assert (run.stuck_count, run.tree.executing) == (1, 0)


@in_loop
async def test_background_task_of_a_step_belongs_to_no_run(run: Run) -> None:
    pool: list[asyncio.Task[Any]] = []
    never = run.loop.create_future()

    async def open_pool() -> None:
        pool.append(asyncio.create_task(asyncio.wait_for(never, None)))

    async def handler() -> None:
        await run.execute("open", open_pool)
        await run.step("a")

    run.tree.start(handler())
    await settle()
    assert run.stuck_count == 1
    await run.unwind()
    assert not pool[0].done()
    pool[0].cancel()
    await asyncio.wait(pool)


@in_loop
async def test_tasks_that_await_each_other_end_the_search_and_nothing_parked_is_no_reason_to_suspend(
    run: Run,
) -> None:
    tasks: list[asyncio.Task[Any]] = []

    async def other(index: int) -> None:
        await asyncio.sleep(0)
        await asyncio.shield(tasks[index])

    async def handler() -> None:
        tasks.extend(asyncio.create_task(other(1 - i)) for i in range(2))
        await asyncio.wait(tasks)

    run.tree.start(handler())
    await settle()
    run.tree.check_soon()
    await settle()
    assert run.stuck_count == 0
    for task in tasks:
        task.cancel()


@in_loop
async def test_finished_handler_is_not_stuck_whatever_it_left_behind(run: Run) -> None:
    async def handler() -> str:
        run.spawned = asyncio.create_task(run.step("left"))
        await asyncio.sleep(0)
        return "done"

    root = run.tree.start(handler())
    await settle()
    assert root.result() == "done"
    assert run.stuck_count == 0


@in_loop
async def test_task_spawned_by_a_timer_of_the_handler_belongs_to_the_run(run: Run) -> None:
    async def handler() -> None:
        run.loop.call_soon(lambda: run.loop.create_task(asyncio.wait_for(io, None)))
        await asyncio.sleep(0)
        await run.step("a")

    io = run.loop.create_future()
    run.tree.start(handler())
    await settle()
    assert run.stuck_count == 0
    io.set_result(None)
    await settle()
    assert run.stuck_count == 1


@in_loop
async def test_many_short_tasks_are_forgotten(run: Run) -> None:
    async def handler() -> None:
        for _ in range(1000):
            await asyncio.create_task(asyncio.sleep(0))
        await run.step("a")

    run.tree.start(handler())
    await settle(4000)
    assert run.stuck_count == 1
    assert len(run.tree._tasks) < 200


@in_loop
async def test_on_stuck_runs_outside_the_handlers_context(run: Run) -> None:
    spawned: list[asyncio.Task[Any]] = []
    run.tree._on_stuck = lambda: spawned.append(run.loop.create_task(asyncio.sleep(0)))
    run.start(lambda run: run.step("a"))
    await settle()
    assert spawned and spawned[0] not in run.tree._tasks


@in_loop
async def test_loop_without_the_task_factory_is_refused(runner: asyncio.Runner) -> None:
    loop = runner.get_loop()
    loop.set_task_factory(None)
    tree = TaskTree(loop, on_stuck=lambda: None)
    with pytest.raises(RuntimeError, match="install_task_factory"):
        tree.start(asyncio.sleep(0))
    await settle(2)


@in_loop
async def test_task_factory_goes_on_top_of_the_one_that_is_there_and_only_once(
    runner: asyncio.Runner,
) -> None:
    loop = runner.get_loop()
    made: list[asyncio.Task[Any]] = []

    def theirs(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(asyncio.Task(coro, loop=loop, **options))
        return made[-1]

    loop.set_task_factory(theirs)
    install_task_factory(loop)
    install_task_factory(loop)
    run = Run(runner)
    root = run.start(lambda run: gather_steps(run, "a", "b"))
    await settle()
    assert run.stuck_count == 1
    assert made[0] is root and len(made) == 3
    await run.unwind()
    root.exception()


# --- timers ---


async def in_timeout(run: Run, limit: float) -> None:
    async with asyncio.timeout(limit):
        await run.step("a")


async def in_managed_timeout(run: Run, limit: float) -> None:
    @asynccontextmanager
    async def limited() -> AsyncIterator[None]:
        async with asyncio.timeout(limit):
            yield

    async with limited():
        await run.step("a")


async def in_timeout_on_a_stack(run: Run, limit: float) -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(limit))
        await run.step("a")


async def in_timeout_of_a_generator(run: Run, limit: float) -> None:
    async def numbers() -> AsyncIterator[int]:
        async with asyncio.timeout(limit):
            yield 1
            await run.step("a")

    async for _ in numbers():
        pass


async def in_wait_for(run: Run, limit: float) -> None:
    await asyncio.wait_for(run.step("a"), limit)


async def in_wait(run: Run, limit: float) -> None:
    task = asyncio.create_task(run.step("a"))
    _, pending = await asyncio.wait([task], timeout=limit)
    if pending:
        raise TimeoutError


async def in_as_completed(run: Run, limit: float) -> None:
    for next_one in asyncio.as_completed([run.step("a")], timeout=limit):
        await next_one


async def in_timeout_around_a_task(run: Run, limit: float) -> None:
    async with asyncio.timeout(limit):
        await asyncio.create_task(run.step("a"))


TIMED = [
    in_timeout, in_managed_timeout, in_timeout_on_a_stack, in_timeout_of_a_generator, in_wait_for, in_wait,
    in_as_completed, in_timeout_around_a_task,
]  # fmt: skip
timed = pytest.mark.parametrize("handler", TIMED, ids=lambda h: h.__name__)


@timed
@in_loop
async def test_pending_timeout_keeps_the_run_in_memory(run: Run, handler: Any) -> None:
    root = run.tree.start(handler(run, HOUR_S))
    await settle()
    assert run.stuck_count == 0
    await run.unwind()
    assert root.done()


@timed
@in_loop
async def test_timeout_fires_in_memory_and_the_run_gets_stuck_after_it(run: Run, handler: Any) -> None:
    async def recover() -> None:
        try:
            await handler(run, 0.01)
        except TimeoutError:
            await run.step("recovered")

    run.tree.start(recover())
    await run.stuck_within_deadline()
    assert "recovered" in run.parked


@timed
@in_loop
async def test_timeout_that_was_left_holds_nothing(run: Run, handler: Any) -> None:
    async def go_on() -> None:
        await handler(run, HOUR_S)
        await run.step("b")

    run.tree.start(go_on())
    await settle()
    run.parked["a"].set_result(None)
    await settle()
    assert run.stuck_count == 1


@in_loop
async def test_timeout_swallowed_by_an_inner_task_leads_to_another_look(run: Run) -> None:
    async def stubborn(old: asyncio.Task[Any]) -> None:
        try:
            await run.loop.create_future()
        except asyncio.CancelledError:
            await old

    async def handler() -> None:
        old = asyncio.create_task(run.step("old"))
        async with asyncio.timeout(0.01):
            await asyncio.create_task(stubborn(old))

    run.tree.start(handler())
    await run.stuck_within_deadline()


# --- unwinding ---


@in_loop
async def test_finally_blocks_run_but_get_no_step(run: Run) -> None:
    async def branch(name: str) -> None:
        try:
            await run.step(name)
        finally:
            run.notes.append(f"finally {name}")
            try:
                await run.execute(f"clean {name}", lambda: asyncio.sleep(0))
            finally:
                await run.step(f"more {name}")

    async def handler() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(branch("a"))
                await branch("b")
        finally:
            await run.step("last")

    root = run.tree.start(handler())
    await settle()
    await run.unwind()
    assert sorted(run.notes) == ["finally a", "finally b"]
    assert run.executed == []
    assert set(run.parked) == {"a", "b"}
    assert isinstance(root.exception(), Suspend)


@in_loop
async def test_except_exception_does_not_see_the_suspension(run: Run) -> None:
    async def handler() -> None:
        try:
            await asyncio.gather(run.step("a"), run.step("b"))
        except Exception as error:
            run.notes.append(repr(error))

    root = run.tree.start(handler())
    await settle()
    await run.unwind()
    assert run.notes == []
    assert isinstance(root.exception(), Suspend)


@in_loop
async def test_bare_except_gets_no_further_step(run: Run) -> None:
    async def handler() -> str:
        try:
            await run.step("a")
        except:  # noqa: E722
            run.notes.append("caught")
        await run.execute("b", lambda: asyncio.sleep(0))
        return "finished"

    root = run.tree.start(handler())
    await settle()
    await run.unwind()
    assert run.notes == ["caught"]
    assert run.executed == []
    assert isinstance(root.exception(), Suspend)


@in_loop
async def test_handler_that_catches_suspend_and_waits_is_cancelled(run: Run) -> None:
    async def handler() -> None:
        for _ in range(2):
            try:
                await run.step("a")
            except BaseException:
                await run.loop.create_future()

    root = run.tree.start(handler())
    await settle()
    assert await run.unwind(grace_s=0.01) == []
    assert root.cancelled()


@in_loop
async def test_endless_retry_with_bare_except_neither_blocks_the_loop_nor_the_unwinding(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    stop = False

    async def handler() -> None:
        while not stop:
            try:
                await run.step("a")
            except:  # noqa: E722
                run.notes.append("caught")

    root = run.tree.start(handler())
    await settle()
    survivors = await run.unwind(grace_s=0.01)
    assert survivors == [root]
    assert "bare `except:`" in caplog.text
    assert len(run.notes) < 200
    stop = True
    root.cancel()
    await asyncio.wait([root])
    run.tree.survivors = []


@in_loop
async def test_clean_up_that_takes_time_may_end(run: Run) -> None:
    async def handler() -> None:
        try:
            await run.step("a")
        finally:
            await asyncio.create_task(asyncio.sleep(0.01))
            run.notes.append("closed")

    run.tree.start(handler())
    await settle()
    await run.unwind()
    assert run.notes == ["closed"]


@in_loop
async def test_context_managers_and_generators_are_closed(run: Run) -> None:
    @asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        try:
            yield
        finally:
            run.notes.append("released")

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            await run.step("a")
        finally:
            run.notes.append("generator closed")

    async def handler() -> None:
        async with resource():
            async for _ in numbers():
                pass

    root = run.tree.start(handler())
    await settle()
    await run.unwind()
    assert run.notes == ["generator closed", "released"]
    assert isinstance(root.exception(), Suspend)


@in_loop
async def test_children_of_a_group_meet_suspend_not_the_cancellation_by_their_parent(run: Run) -> None:
    async def child(name: str) -> None:
        try:
            await run.step(name)
        except BaseException as error:
            run.notes.append(type(error).__name__)
            raise

    async def handler() -> None:
        async with asyncio.TaskGroup() as group:
            for name in "ab":
                group.create_task(child(name))
            await asyncio.sleep(0)
            await child("body")

    run.tree.start(handler())
    await settle()
    await run.unwind()
    assert run.notes == ["Suspend"] * 3


@in_loop
async def test_own_task_may_unwind_the_rest_when_it_finishes(run: Run) -> None:
    async def handler() -> str:
        left = asyncio.create_task(run.step("left"))
        await asyncio.sleep(0)
        run.tree.unwind()
        await asyncio.wait([left])
        return "finished"

    root = run.tree.start(handler())
    await settle()
    assert root.result() == "finished"
    assert await run.tree.unwound() == []


@in_loop
async def test_unwinding_twice_and_an_empty_tree_are_fine(run: Run) -> None:
    root = run.tree.start(asyncio.sleep(0))
    await root
    run.tree.unwind()
    run.tree.unwind()
    assert await run.tree.unwound() == []
    with pytest.raises(Suspend):
        run.tree.parked()
    with pytest.raises(Suspend):
        run.tree.enter()


@in_loop
async def test_an_error_from_before_the_suspension_is_still_reported(run: Run) -> None:
    reports: list[BaseException] = []
    run.loop.set_exception_handler(lambda _, context: reports.append(context["exception"]))

    async def fail() -> None:
        raise ValueError("nobody fetches this")

    async def handler() -> None:
        asyncio.create_task(fail())
        await run.step("a")

    run.tree.start(handler())
    await settle()
    await run.unwind()
    gc.collect()
    assert [str(error) for error in reports] == ["nobody fetches this"]


# --- joins ---


def groups_by_name(run: Run) -> list[set[str]]:
    names = {future: name for name, future in run.parked.items()}
    return sorted(({names[f] for f in group} for group in run.tree.join_groups()), key=sorted)


async def joins(run: Run, handler: Awaitable[Any]) -> list[set[str]]:
    run.tree.start(handler)  # type: ignore[arg-type]
    await settle()
    assert run.stuck_count == 1
    return groups_by_name(run)


@in_loop
async def test_steps_of_a_gather_form_one_group(run: Run) -> None:
    assert await joins(run, gather_steps(run, *"abc")) == [set("abc")]


@in_loop
async def test_steps_of_a_group_and_of_a_wait_form_groups(run: Run) -> None:
    async def grouped() -> None:
        async with asyncio.TaskGroup() as group:
            for name in "ab":
                group.create_task(run.step(name))

    async def waited(names: str, until: str) -> None:
        await asyncio.wait([asyncio.create_task(run.step(n)) for n in names], return_when=until)

    async def handler() -> None:
        await asyncio.gather(
            grouped(),
            waited("cd", asyncio.ALL_COMPLETED),
            waited("ef", asyncio.FIRST_EXCEPTION),
            waited("gh", asyncio.FIRST_COMPLETED),
        )

    assert await joins(run, handler()) == [set("ab"), set("cd"), set("ef")]


@in_loop
async def test_gathers_of_gathers_are_one_group(run: Run) -> None:
    async def handler() -> None:
        await asyncio.gather(asyncio.gather(run.step("a"), run.step("b")), run.step("c"), run.step("d"))

    assert await joins(run, handler()) == [set("abcd")]


@in_loop
async def test_member_with_user_code_is_in_no_group(run: Run) -> None:
    async def user(name: str) -> None:
        await run.step(name)
        run.notes.append("moved")

    async def handler() -> None:
        await asyncio.gather(run.step("a"), user("b"), run.step("c"))

    assert await joins(run, handler()) == [set("ac")]
    run.parked["a"].set_result(1)
    run.parked["c"].set_result(1)
    await settle()
    assert run.stuck_count == 2 and run.notes == []


@in_loop
async def test_member_that_somebody_else_observes_is_in_no_group(run: Run) -> None:
    async def handler() -> None:
        tasks = [asyncio.create_task(run.step(name)) for name in "abcd"]
        tasks[0].add_done_callback(lambda _: run.notes.append("seen"))
        gathered = asyncio.gather(*tasks)
        tasks[1].add_done_callback(lambda _: run.notes.append("seen"))
        await gathered

    assert await joins(run, handler()) == [set("cd")]


@in_loop
async def test_as_completed_and_lone_steps_form_no_group(run: Run) -> None:
    async def completed() -> None:
        for next_one in asyncio.as_completed([run.step("a"), run.step("b")]):
            await next_one

    async def handler() -> None:
        await asyncio.gather(completed(), run.step("c"))

    assert await joins(run, handler()) == []


@in_loop
async def test_tasks_awaited_one_after_the_other_leave_only_the_first_to_move(run: Run) -> None:
    async def handler() -> None:
        for task in [asyncio.create_task(run.step(name)) for name in "abc"]:
            await task

    assert await joins(run, handler()) == [set("bc")]


@in_loop
async def test_gathered_parked_futures_form_a_group(run: Run) -> None:
    async def handler() -> None:
        run.parked.update({name: run.tree.parked() for name in "ab"})
        await asyncio.gather(*run.parked.values())

    assert await joins(run, handler()) == [set("ab")]
