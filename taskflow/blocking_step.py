"""The step tools of `def` handlers: each blocks until it has its result. Rules S3."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, Unpack, overload

from taskflow.event import AnyEvent, Event, ReceivedEvent
from taskflow.event_type import EventName, TypedEvent
from taskflow.signals import OnConflict, ReceivedSignal
from taskflow.step import ParallelMode, StepEngine
from taskflow.step_options import (
    PLAIN,
    StepInvokeOptions,
    StepOptions,
    StepSettings,
    checked,
    invoked_output,
    target_id,
)
from taskflow.types import Duration, When
from taskflow.values.returns import output_of

if TYPE_CHECKING:
    from taskflow.channel import TopicRef
    from taskflow.function import Function

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
E = TypeVar("E", bound=TypedEvent)
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


class BlockingStep:
    """The step tools of a `def` handler: those of `Step`, but each call blocks until it has its result. Rules S3."""

    __slots__ = ("_engine", "_settings")

    def __init__(self, engine: StepEngine, settings: StepSettings = PLAIN) -> None:
        self._engine = engine
        self._settings = settings

    def with_options(self, **options: Unpack[StepOptions]) -> BlockingStep:
        """See `Step.with_options`."""
        return BlockingStep(self._engine, StepSettings.of(options))

    @overload
    def run(
        self, id: str, fn: Callable[..., Any], /, *args: Any, output_type: type[T], **kwargs: Any
    ) -> T: ...

    @overload
    def run(
        self, id: str, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...

    @overload
    def run(self, id: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    def run(
        self, id: str, fn: Callable[..., Any], /, *args: Any, output_type: Any = None, **kwargs: Any
    ) -> Any:
        """See `Step.run`."""
        output = output_of(fn, output_type)
        return self._engine.block_on(self._engine.run(id, fn, args, kwargs, output, self._settings))

    @overload
    def map(
        self,
        id: str,
        fn: Callable[..., Any],
        items: Iterable[Any],
        *,
        concurrency: int = 20,
        output_type: type[T],
    ) -> list[T]: ...

    @overload
    def map(
        self, id: str, fn: Callable[[A], Coroutine[Any, Any, R]], items: Iterable[A], *, concurrency: int = 20
    ) -> list[R]: ...

    @overload
    def map(self, id: str, fn: Callable[[A], R], items: Iterable[A], *, concurrency: int = 20) -> list[R]: ...

    def map(
        self, id: str, fn: Callable[[Any], Any], items: Iterable[Any], *, concurrency: int = 20, output_type: Any = None
    ) -> list[Any]:  # fmt: skip
        """See `Step.map`."""
        output = output_of(fn, output_type)
        return self._engine.block_on(self._engine.map(id, fn, items, concurrency, output, self._settings))

    def sleep(self, id: str, duration: Duration) -> None:
        """See `Step.sleep`."""
        self._engine.block_on(self._engine.sleep(id, duration))

    def sleep_until(self, id: str, when: When) -> None:
        """See `Step.sleep_until`."""
        self._engine.block_on(self._engine.sleep_until(id, when))

    @overload
    def wait_for_event(
        self, id: str, event: type[E] | Sequence[type[E]], timeout: Duration, match: str | None = None,
        if_exp: str | None = None, lookback: Duration | None = None,
    ) -> ReceivedEvent[E] | None: ...  # fmt: skip

    @overload
    def wait_for_event(
        self, id: str, event: str | Sequence[str], timeout: Duration, match: str | None = None,
        if_exp: str | None = None, lookback: Duration | None = None,
    ) -> ReceivedEvent | None: ...  # fmt: skip

    @overload
    def wait_for_event(
        self, id: str, event: Sequence[EventName], timeout: Duration, match: str | None = None,
        if_exp: str | None = None, lookback: Duration | None = None,
    ) -> ReceivedEvent[Any] | None: ...  # fmt: skip

    def wait_for_event(
        self,
        id: str,
        event: EventName | Sequence[EventName],
        timeout: Duration,
        match: str | None = None,
        if_exp: str | None = None,
        lookback: Duration | None = None,
    ) -> Any:
        """See `Step.wait_for_event`."""
        names = [event] if isinstance(event, (str, type)) else list(event)
        return self._engine.block_on(self._engine.wait_for_event(id, names, timeout, match, if_exp, lookback))

    def wait_for_signal(
        self, id: str, signal: str, timeout: Duration, *, on_conflict: OnConflict = "fail"
    ) -> ReceivedSignal | None:
        """See `Step.wait_for_signal`."""
        return self._engine.block_on(self._engine.wait_for_signal(id, signal, timeout, on_conflict))

    def send_event(self, id: str, events: AnyEvent | Sequence[AnyEvent]) -> list[str]:
        """See `Step.send_event`."""
        return self._engine.block_on(
            self._engine.send_event(id, [events] if isinstance(events, (Event, TypedEvent)) else list(events))
        )

    def publish(self, id: str, topic: TopicRef[T], data: T) -> None:
        """See `Step.publish`."""
        self._engine.block_on(self._engine.publish(id, topic, data))

    @overload
    def invoke(
        self,
        id: str,
        *,
        function: Function[..., Coroutine[Any, Any, R]],
        **options: Unpack[StepInvokeOptions],
    ) -> R: ...

    @overload
    def invoke(self, id: str, *, function: Function[..., R], **options: Unpack[StepInvokeOptions]) -> R: ...

    @overload
    def invoke(self, id: str, *, function_id: str, **options: Unpack[StepInvokeOptions]) -> Any: ...

    def invoke(
        self,
        id: str,
        *,
        function: Function[..., Any] | None = None,
        function_id: str | None = None,
        **options: Unpack[StepInvokeOptions],
    ) -> Any:
        """See `Step.invoke`."""
        output = invoked_output(function, options)
        return self._engine.block_on(
            self._engine.invoke(id, target_id(function, function_id), checked(options), output)
        )

    @overload
    def parallel(
        self, branches: tuple[Callable[[], A], Callable[[], B]], *, mode: Literal["all"] = "all"
    ) -> tuple[A, B]: ...

    @overload
    def parallel(
        self, branches: tuple[Callable[[], A], Callable[[], B], Callable[[], C]], *,
        mode: Literal["all"] = "all",
    ) -> tuple[A, B, C]: ...  # fmt: skip

    @overload
    def parallel(
        self, branches: Sequence[Callable[[], R]], *, mode: Literal["all"] = "all"
    ) -> tuple[R, ...]: ...

    @overload
    def parallel(self, branches: Sequence[Callable[[], R]], *, mode: Literal["race"]) -> R: ...

    def parallel(self, branches: Sequence[Callable[[], Any]], *, mode: ParallelMode = "all") -> Any:
        """See `Step.parallel`. A branch is a function without arguments; each runs in a thread of its own."""
        done = self._engine.block_on(self._engine.parallel_threads(branches, mode))
        return tuple(done) if mode == "all" else done
