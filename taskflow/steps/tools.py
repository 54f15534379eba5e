"""Tools: connects `Step` and `BlockingStep` of one run to the modules of the tools; a line for each tool."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from taskflow.channel import TopicRef
from taskflow.event import AnyEvent, ReceivedEvent
from taskflow.event_type import EventName
from taskflow.signals import OnConflict, ReceivedSignal
from taskflow.step import ParallelMode
from taskflow.step_options import StepInvokeOptions, StepSettings
from taskflow.steps.host import StepHost
from taskflow.steps.invoke import invoke
from taskflow.steps.map import map_items
from taskflow.steps.parallel import parallel, parallel_threads
from taskflow.steps.publish import publish
from taskflow.steps.run import run
from taskflow.steps.send_event import send_event
from taskflow.steps.sleep import sleep, sleep_until
from taskflow.steps.wait_for_event import wait_for_event
from taskflow.steps.wait_for_signal import wait_for_signal
from taskflow.types import Duration, When
from taskflow.values.shape import Shape

R = TypeVar("R")
Work = Coroutine[Any, Any, R]


class Tools:
    """Implements `StepEngine` for one run. Each method does the work of the `Step` method with the same name."""

    __slots__ = ("host",)

    def __init__(self, host: StepHost) -> None:
        self.host = host

    def run(
        self, step_id: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], output: Shape,
        settings: StepSettings,
    ) -> Work[Any]:  # fmt: skip
        return run(self.host, step_id, fn, args, kwargs, output, settings)

    def map(
        self, step_id: str, fn: Callable[..., Any], items: Iterable[Any], concurrency: int, output: Shape, settings: StepSettings
    ) -> Work[list[Any]]:  # fmt: skip
        return map_items(self.host, step_id, fn, items, concurrency, output, settings)

    def sleep(self, step_id: str, duration: Duration) -> Work[None]:
        return sleep(self.host, step_id, duration)

    def sleep_until(self, step_id: str, when: When) -> Work[None]:
        return sleep_until(self.host, step_id, when)

    def wait_for_event(
        self, step_id: str, events: Sequence[EventName], timeout: Duration, match: str | None, if_exp: str | None,
        lookback: Duration | None,
    ) -> Work[ReceivedEvent[Any] | None]:  # fmt: skip
        return wait_for_event(self.host, step_id, events, timeout, match, if_exp, lookback)

    def wait_for_signal(
        self, step_id: str, signal: str, timeout: Duration, on_conflict: OnConflict
    ) -> Work[ReceivedSignal | None]:
        return wait_for_signal(self.host, step_id, signal, timeout, on_conflict)

    def send_event(self, step_id: str, events: Sequence[AnyEvent]) -> Work[list[str]]:
        return send_event(self.host, step_id, events)

    def publish(self, step_id: str, topic: TopicRef[Any], data: Any) -> Work[None]:
        return publish(self.host, step_id, topic, data)

    def invoke(self, step_id: str, function_id: str, options: StepInvokeOptions, output: Shape) -> Work[Any]:
        return invoke(self.host, step_id, function_id, options, output)

    def parallel(self, branches: Sequence[Callable[[], Awaitable[Any]]], mode: ParallelMode) -> Work[Any]:
        return parallel(self.host, branches, mode)

    def parallel_threads(self, branches: Sequence[Callable[[], Any]], mode: ParallelMode) -> Work[Any]:
        return parallel_threads(self.host, branches, mode)

    @property
    def parent(self) -> str | None:
        return self.host.run.input.event_obj.get("parent")

    def reporter(self) -> Callable[[bytes], None]:
        return self.host.reporter()

    def block_on(self, work: Work[R]) -> R:
        return self.host.block_on(work)
