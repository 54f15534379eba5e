"""Scopes: set up what dependencies name, share it for as long as it lasts, and take it down. Rule S11.5."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context as ContextVars
from typing import Any, Protocol

from taskflow.dependencies.depends import Provider
from taskflow.dependencies.needs import Needs, Node, override_node
from taskflow.errors import Suspend
from taskflow.observability.failures import original_of
from taskflow.values.loops import is_being_cancelled

logger = logging.getLogger("taskflow.dependencies")


class Threads(Protocol):
    """Runs `def` providers."""

    def call(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> asyncio.Future[Any]: ...


Overrides = Mapping[Provider, Provider]


class Opened:
    """A value that a provider gave, and what is left of the provider: the generator that waits after its `yield`."""

    __slots__ = ("generator", "node", "threads", "value")

    def __init__(self, node: Node, threads: Threads) -> None:
        self.node = node
        self.threads = threads
        self.generator: Any = None
        self.value: Any = None

    async def open(self, arguments: Mapping[str, Any]) -> Any:
        """Call the provider. Raises what it raises."""
        provider = self.node.provider
        match self.node.kind:
            case "async function":
                self.value = await provider(**arguments)
            case "function":
                value = await self.threads.call(provider, (), arguments)
                self.value = await value if inspect.isawaitable(value) else value
            case "async generator":
                generator = provider(**arguments)
                try:
                    self.value = await anext(generator)
                except StopAsyncIteration:
                    raise self.yielded_nothing() from None
                self.generator = generator
            case "generator":
                generator = provider(**arguments)
                has_yielded, self.value = await self.threads.call(advance, (generator, None), {})
                if not has_yielded:
                    raise self.yielded_nothing()
                self.generator = generator
        return self.value

    async def close(self, error: BaseException | None) -> None:
        """Let the generator take down what it has set up; `error` is raised at its `yield`. Raises only errors of its own."""
        generator, self.generator = self.generator, None
        if generator is None:
            return
        try:
            if self.node.kind == "async generator":
                has_yielded = await advance_async(generator, error)
            else:
                has_yielded, _ = await self.threads.call(advance, (generator, error), {})
        except BaseException as raised:
            if original_of(raised) is error:
                return
            raise
        finally:
            del error
        if has_yielded:
            raise RuntimeError(f"the provider {self.node} yielded a second time")

    def yielded_nothing(self) -> RuntimeError:
        return RuntimeError(f"the provider {self.node} ended without a yield")


def advance(generator: Any, error: BaseException | None) -> tuple[bool, Any]:
    """Go on to the next `yield`, in a thread; return whether there was one, and its value."""
    try:
        return True, next(generator) if error is None else generator.throw(error)
    except StopIteration as stop:
        if stop is error:
            raise
        return False, None
    finally:
        del error


async def advance_async(generator: Any, error: BaseException | None) -> bool:
    try:
        await (anext(generator) if error is None else generator.athrow(error))
    except StopAsyncIteration:
        return False
    finally:
        del error
    return True


class Lasting:
    """The dependencies of a process, or of one activation. Each is set up at its first use, by a task that takes it down too."""

    def __init__(self, threads: Threads) -> None:
        self.threads = threads
        self.kept: dict[Provider, Kept] = {}

    async def get(self, node: Node, arguments: Callable[[], Awaitable[Mapping[str, Any]]]) -> Any:
        """The value; all who ask meanwhile share it. Raises what the provider raises, and then the next who asks tries again."""
        kept = self.kept.get(node.provider)
        if kept is None:
            kept = self.kept[node.provider] = Kept(Opened(node, self.threads))
            kept.start(arguments)
        try:
            return await asyncio.shield(kept.ready)
        except BaseException:
            if kept.has_failed and self.kept.get(node.provider) is kept:
                del self.kept[node.provider]
            raise

    async def close(self) -> None:
        """Take all of it down, the last first. Errors are logged: what was done with it is done."""
        kept, self.kept = list(self.kept.values()), {}
        for each in reversed(kept):
            await each.close()


class Kept:
    """One value of a `Lasting`."""

    __slots__ = ("closing", "opened", "ready", "task")

    def __init__(self, opened: Opened) -> None:
        loop = asyncio.get_running_loop()
        self.opened = opened
        self.ready: asyncio.Future[Any] = loop.create_future()
        self.closing: asyncio.Future[None] = loop.create_future()
        self.task: asyncio.Task[None] | None = None

    def start(self, arguments: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
        # In a context of its own: the task belongs to no run, and what it sets is nobody else's.
        loop = asyncio.get_running_loop()
        self.task = loop.create_task(self.keep(arguments), context=ContextVars())
        self.ready.add_done_callback(lambda ready: ready.cancelled() or ready.exception())

    @property
    def has_failed(self) -> bool:
        return self.ready.done() and (self.ready.cancelled() or self.ready.exception() is not None)

    async def keep(self, arguments: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
        try:
            value = await self.opened.open(await arguments())
        except BaseException as error:
            self.ready.set_exception(as_error(error))
            return
        self.ready.set_result(value)
        await self.closing
        await close_logged(self.opened, None)

    async def close(self) -> None:
        if not self.closing.done():
            self.closing.set_result(None)
        if self.task is not None:
            await asyncio.shield(self.task)


class AttemptScope:
    """The dependencies of one execution of user code. Set up and taken down in its own task."""

    __slots__ = ("opened", "run", "values")

    def __init__(self, run: RunScopes) -> None:
        self.run = run
        self.opened: list[Opened] = []
        self.values: dict[Provider, Any] = {}

    async def fill(self, needs: Needs, args: int = 0, given: Mapping[str, Any] = {}) -> dict[str, Any]:
        """The arguments that are needed besides `args` positional ones and the `given` names."""
        return {
            need.name: await self.value(need.node) for need in needs if need.place >= args and need.name not in given
        }  # fmt: skip

    async def value(self, node: Node) -> Any:
        override = self.run.overrides.get(node.provider)
        if override is not None:
            node = override_node(override, node.scope)
        if node.scope != "attempt":
            lasting = self.run.process if node.scope == "process" else self.run.lasting
            return await lasting.get(node, lambda: self.arguments(node))
        if node.provider not in self.values:
            opened = Opened(node, self.run.threads)
            self.values[node.provider] = await opened.open(await self.arguments(node))
            self.opened.append(opened)
        return self.values[node.provider]

    async def arguments(self, node: Node) -> dict[str, Any]:
        arguments = await self.fill(node.needs)
        if node.context_names:
            context = await self.run.context()
            arguments.update(dict.fromkeys(node.context_names, context))
        return arguments

    async def close(self, error: BaseException | None = None) -> None:
        """Take down what was set up, the last first; `error` is that of the user code.

        The outcome is not recorded yet: without an `error`, the first of these is raised, and is the attempt's; others are logged.
        """
        first: BaseException | None = None
        try:
            for opened in reversed(self.opened):
                try:
                    await opened.close(error or first)
                except (Suspend, GeneratorExit):
                    raise
                except BaseException as raised:
                    if is_cancelled(raised):
                        raise
                    if error is None and first is None:
                        first = raised
                    else:
                        report(opened.node, raised)
            if first is not None:
                raise first
        finally:
            self.opened, self.values = [], {}
            del first, error


class RunScopes:
    """The scopes that the user code of one activation has."""

    __slots__ = ("context", "lasting", "overrides", "process", "threads")

    def __init__(
        self,
        *,
        process: Lasting,
        overrides: Overrides,
        threads: Threads,
        context: Callable[[], Awaitable[Any]],
    ) -> None:
        """`context` makes the Context that providers get."""
        self.process = process
        self.overrides = overrides
        self.threads = threads
        self.context = context
        self.lasting = Lasting(threads)

    def attempt(self) -> AttemptScope:
        return AttemptScope(self)


async def close_logged(opened: Opened, error: BaseException | None) -> None:
    try:
        await opened.close(error)
    except (Suspend, GeneratorExit):
        raise
    except BaseException as raised:
        if is_cancelled(raised):
            raise
        report(opened.node, raised)


def report(node: Node, error: BaseException) -> None:
    logger.error(
        "taking down %s raised %s: %s; what was recorded stays",
        node, type(error).__name__, error, exc_info=error,
    )  # fmt: skip


def is_cancelled(error: BaseException) -> bool:
    return isinstance(error, asyncio.CancelledError) and is_being_cancelled()


def as_error(error: BaseException) -> BaseException:
    """The error in a form that a future takes."""
    if isinstance(error, StopIteration) or not isinstance(error, Exception):
        wrapped = RuntimeError(f"{type(error).__name__}: {error}")
        wrapped.__cause__ = error
        return wrapped
    return error
