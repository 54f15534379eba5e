"""The step tools of `async def` handlers, and `StepEngine`, behind which each tool is written once. Rules S3."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar, Unpack, overload

from taskflow.event import AnyEvent, Event, ReceivedEvent
from taskflow.event_type import EventName, TypedEvent
from taskflow.signals import OnConflict, ReceivedSignal
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
from taskflow.values.shape import Shape

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
ParallelMode = Literal["all", "race"]


class StepEngine(Protocol):
    """The engine behind the tools. All its coroutines run on the worker's loop, inside the run's task tree."""

    async def run(
        self, step_id: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], output: Shape,
        settings: StepSettings,
    ) -> Any: ...  # fmt: skip

    async def map(
        self, step_id: str, fn: Callable[..., Any], items: Iterable[Any], concurrency: int, output: Shape, settings: StepSettings
    ) -> list[Any]: ...  # fmt: skip

    async def sleep(self, step_id: str, duration: Duration) -> None: ...

    async def sleep_until(self, step_id: str, when: When) -> None: ...

    async def wait_for_event(
        self, step_id: str, events: Sequence[EventName], timeout: Duration, match: str | None, if_exp: str | None,
        lookback: Duration | None,
    ) -> ReceivedEvent[Any] | None: ...  # fmt: skip

    async def wait_for_signal(
        self, step_id: str, signal: str, timeout: Duration, on_conflict: OnConflict
    ) -> ReceivedSignal | None: ...

    async def send_event(self, step_id: str, events: Sequence[AnyEvent]) -> list[str]: ...

    async def publish(self, step_id: str, topic: TopicRef[Any], data: Any) -> None: ...

    async def invoke(
        self,
        step_id: str,
        function_id: str,
        options: StepInvokeOptions,
        output: Shape,
    ) -> Any: ...

    async def parallel(self, branches: Sequence[Callable[[], Awaitable[Any]]], mode: ParallelMode) -> Any: ...

    def parallel_threads(
        self, branches: Sequence[Callable[[], Any]], mode: ParallelMode
    ) -> Coroutine[Any, Any, Any]: ...

    def block_on(self, work: Coroutine[Any, Any, R]) -> R:
        """Wait, on a handler's thread, for the result of a coroutine on the loop."""
        ...

    @property
    def parent(self) -> str | None:
        """The run that called the task, which this run is (S15.2)."""
        ...

    def reporter(self) -> Callable[[bytes], None]:
        """What takes reports (JSON) of the run's progress, in any thread (S15.2)."""
        ...


class Step:
    """The step tools of an `async def` handler. Rules S3.

        async def fulfil(ctx: Context, step: Step) -> str:
            await step.run("reserve", reserve, ctx.event.data["sku"])
            await step.sleep("cool off", "1h")
            return "done"

    The first argument of each tool is the step's id, a str; a repeated id is numbered ("charge", "charge#1"; S3.8). All tools raise
    NestedStepError inside another step (S3.9).
    """

    __slots__ = ("_engine", "_settings")

    def __init__(self, engine: StepEngine, settings: StepSettings = PLAIN) -> None:
        self._engine = engine
        self._settings = settings

    def with_options(self, **options: Unpack[StepOptions]) -> Step:
        """The same tools, with options of their own for each `run`. Rules S5.1, S5.3, S6.3.

            await step.with_options(retries=1, timeout="5s", give_up_on=CardDeclined).run("charge", charge, order)

        Options that are left out are as for the function. Raises ConfigError for a wrong value.
        """
        return Step(self._engine, StepSettings.of(options))

    @overload
    async def run(
        self, id: str, fn: Callable[..., Any], /, *args: Any, output_type: type[T], **kwargs: Any
    ) -> T: ...

    @overload
    async def run(
        self, id: str, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...

    @overload
    async def run(self, id: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    async def run(
        self, id: str, fn: Callable[..., Any], /, *args: Any, output_type: Any = None, **kwargs: Any
    ) -> Any:
        """Call `fn(*args, **kwargs)`, store its result, and return that. Rule S3.1.

            total = await step.run("sum", add, 1, 2)

        In a replay `fn` is not called again. A `def` function runs in a thread. The result must have a JSON form (S2.6), and comes
        back as the type that `fn` is annotated to return, or as `output_type` (S11.3). `with_options` sets retries, a time limit
        and more for this step.
        Raises StepError when the retries are used up.
        """
        return await self._engine.run(id, fn, args, kwargs, output_of(fn, output_type), self._settings)

    @overload
    async def map(
        self,
        id: str,
        fn: Callable[..., Any],
        items: Iterable[Any],
        *,
        concurrency: int = 20,
        output_type: type[T],
    ) -> list[T]: ...

    @overload
    async def map(
        self, id: str, fn: Callable[[A], Coroutine[Any, Any, R]], items: Iterable[A], *, concurrency: int = 20
    ) -> list[R]: ...

    @overload
    async def map(
        self, id: str, fn: Callable[[A], R], items: Iterable[A], *, concurrency: int = 20
    ) -> list[R]: ...

    async def map(
        self, id: str, fn: Callable[[Any], Any], items: Iterable[Any], *, concurrency: int = 20, output_type: Any = None
    ) -> list[Any]:  # fmt: skip
        """Call `fn(item)` for each item, each in a step of its own, and return the results in the order of the items. Rule S3.7.

            thumbnails = await step.map("resize", resize, photos, concurrency=20)

        The steps are "resize:0", "resize:1", ... At most `concurrency` of them are under way, those that wait for a retry included:
        the next item begins when one is done. The first error is raised, and no more items begin then. With `with_options` each
        step has options of its own. Raises LimitExceeded for more items than a run may have steps (`max_steps`, S3.10).
        """
        return await self._engine.map(id, fn, items, concurrency, output_of(fn, output_type), self._settings)

    async def sleep(self, id: str, duration: Duration) -> None:
        """Suspend this branch for `duration`: "1h30m", seconds, or a timedelta; at most 1 year. Rule S3.2.

        The run holds no slot, memory or message meanwhile, unless other branches go on. Raises InvalidDuration.
        """
        await self._engine.sleep(id, duration)

    async def sleep_until(self, id: str, when: When) -> None:
        """Suspend this branch until `when`: an aware datetime, ISO-8601 text with an offset, or ms since the epoch. Rule S3.2.

        If `when` is in the past, the run goes on at once. Raises InvalidDuration, also for more than 1 year ahead.
        """
        await self._engine.sleep_until(id, when)

    @overload
    async def wait_for_event(
        self, id: str, event: type[E] | Sequence[type[E]], timeout: Duration, match: str | None = None,
        if_exp: str | None = None, lookback: Duration | None = None,
    ) -> ReceivedEvent[E] | None: ...  # fmt: skip

    @overload
    async def wait_for_event(
        self, id: str, event: str | Sequence[str], timeout: Duration, match: str | None = None,
        if_exp: str | None = None, lookback: Duration | None = None,
    ) -> ReceivedEvent | None: ...  # fmt: skip

    @overload
    async def wait_for_event(
        self, id: str, event: Sequence[EventName], timeout: Duration, match: str | None = None,
        if_exp: str | None = None, lookback: Duration | None = None,
    ) -> ReceivedEvent[Any] | None: ...  # fmt: skip

    async def wait_for_event(
        self,
        id: str,
        event: EventName | Sequence[EventName],
        timeout: Duration,
        match: str | None = None,
        if_exp: str | None = None,
        lookback: Duration | None = None,
    ) -> Any:
        """Wait for an event; return the first matching one that comes, or None after `timeout` (a duration). Rule S3.3.

            paid = await step.wait_for_event("paid", "shop/order.paid", timeout="7 days", match="data.order_id")

        `event` is a name or a list of names, which may end in `*`; or an EventModel, or several, whose instance is then the event's
        `data`: one that does not fit raises InvalidEvent (S11.2). `match="data.x"` asks for an event with the same value there as
        the event that started the run. `if_exp` is CEL over `event`, which started the run, and `async`, which may end the wait.
        With both, both must hold. With `lookback` (a duration) the oldest matching event of that time before the call counts first,
        unless this run has had it: so an event that comes just before the wait is not missed.
        Raises NonRetriableError for wrong arguments, InvalidDuration.
        """
        names = [event] if isinstance(event, (str, type)) else list(event)
        return await self._engine.wait_for_event(id, names, timeout, match, if_exp, lookback)

    async def wait_for_signal(
        self, id: str, signal: str, timeout: Duration, *, on_conflict: OnConflict = "fail"
    ) -> ReceivedSignal | None:
        """Wait for `app.send_signal(signal, data)`; return name and data, or None after `timeout` (a duration). Rule S3.4.

            approval = await step.wait_for_signal("approval", f"approve-{order_id}", timeout="3 days")
            if approval is not None and approval.data["ok"]: ...

        At most one run of the app waits for a signal. If another run does already, `on_conflict` decides: with "fail" this step
        raises a StepError whose `name` is SignalConflict; with "replace" the other run's step raises one whose `name` is
        SignalReplaced.
        Raises NonRetriableError for wrong arguments, InvalidDuration.
        """
        return await self._engine.wait_for_signal(id, signal, timeout, on_conflict)

    async def send_event(self, id: str, events: AnyEvent | Sequence[AnyEvent]) -> list[str]:
        """Send one or several events, and return their ids. Rule S3.5.

            await step.send_event("tell", Event("shop/order.shipped", {"order_id": 7}))
            await step.send_event("tell", OrderShipped(order_id=7))

        One set of events is sent, however often this step is tried. Raises InvalidEvent, and StepError when the retries are used
        up.
        """
        return await self._engine.send_event(
            id, [events] if isinstance(events, (Event, TypedEvent)) else list(events)
        )

    async def publish(self, id: str, topic: TopicRef[T], data: T) -> None:
        """Publish a message on a channel, once, however often this step is tried. Rule S17.1.

            await step.publish("tell", OrderChannel(order_id="A1").status, Status(percent=100))

        Raises StepError when the retries are used up.
        """
        await self._engine.publish(id, topic, data)

    @overload
    async def invoke(
        self,
        id: str,
        *,
        function: Function[..., Coroutine[Any, Any, R]],
        **options: Unpack[StepInvokeOptions],
    ) -> R: ...

    @overload
    async def invoke(
        self, id: str, *, function: Function[..., R], **options: Unpack[StepInvokeOptions]
    ) -> R: ...

    @overload
    async def invoke(self, id: str, *, function_id: str, **options: Unpack[StepInvokeOptions]) -> Any: ...

    async def invoke(
        self,
        id: str,
        *,
        function: Function[..., Any] | None = None,
        function_id: str | None = None,
        **options: Unpack[StepInvokeOptions],
    ) -> Any:
        """Run another function and return its output. Rule S3.6.

            receipt = await step.invoke("receipt", function=make_receipt, data={"order": 7})
            score = await step.invoke("score", function_id="risk-app/score", data={...}, timeout="1h")

        The other keywords are those of `StepInvokeOptions`. Raises StepError when the function fails, is cancelled, does not exist,
        or takes longer than `timeout`.
        """
        output = invoked_output(function, options)
        return await self._engine.invoke(id, target_id(function, function_id), checked(options), output)

    @overload
    async def parallel(
        self,
        branches: tuple[Callable[[], Awaitable[A]], Callable[[], Awaitable[B]]],
        *,
        mode: Literal["all"] = "all",
    ) -> tuple[A, B]: ...

    @overload
    async def parallel(
        self, branches: tuple[Callable[[], Awaitable[A]], Callable[[], Awaitable[B]], Callable[[], Awaitable[C]]], *,
        mode: Literal["all"] = "all",
    ) -> tuple[A, B, C]: ...  # fmt: skip

    @overload
    async def parallel(
        self, branches: Sequence[Callable[[], Awaitable[R]]], *, mode: Literal["all"] = "all"
    ) -> tuple[R, ...]: ...

    @overload
    async def parallel(
        self, branches: Sequence[Callable[[], Awaitable[R]]], *, mode: Literal["race"]
    ) -> R: ...

    async def parallel(
        self, branches: Sequence[Callable[[], Awaitable[Any]]], *, mode: ParallelMode = "all"
    ) -> Any:
        """Run branches side by side. Rule S3.7.

            a, b = await step.parallel((lambda: step.run("a", f), lambda: step.run("b", g)))

        A branch is a function without arguments that returns an awaitable. mode="all" returns a tuple of the results, in order, and
        raises the first error. mode="race" returns the result of the first branch that ends, and cancels the others. In an `async
        def` handler, `asyncio.gather` and `TaskGroup` work as well.
        """
        done = await self._engine.parallel(branches, mode)
        return tuple(done) if mode == "all" else done


def engine_of(step: Any) -> StepEngine:
    """What is behind the step tools of a handler, a Step or a BlockingStep."""
    engine: StepEngine = step._engine
    return engine


OPERATIONS = frozenset(
    method.__code__
    for method in (Step.sleep, Step.sleep_until, Step.wait_for_event, Step.wait_for_signal, Step.invoke)
)


def is_step_operation(coro: object) -> bool:
    """Whether a coroutine is the direct call of a waiting tool, without user code around it."""
    return getattr(coro, "cr_code", None) in OPERATIONS
