"""Context: the first argument of a handler, with the event, facts of the run, the step tools and a logger."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from datetime import datetime
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, Protocol

from taskflow.event import DataT, ReceivedEvent
from taskflow.headers import Headers
from taskflow.observability.run_log import current_step

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from taskflow.channel import TopicRef

    StepT = TypeVar("StepT", default=Any)
else:
    from typing import TypeVar

    StepT = TypeVar("StepT")
T = TypeVar("T")

logger = logging.getLogger("taskflow.run")  # for handlers; kept, since getLogger takes a lock


class Publisher(Protocol):
    """What an app does for `Context.publish`."""

    def _publish_of_run(self, topic: TopicRef[Any], data: Any, *, run_id: str) -> Awaitable[None]:
        """Publish a message of a run: on a loop once it is awaited, in a thread at once."""
        ...


class Published:
    """Awaiting it gives nothing, at once: the message is out already, or never goes."""

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


class Context(Generic[StepT, DataT]):
    """The first argument of every handler. Rule S2.4.

        @app.function(trigger="shop/order.created")
        async def fulfil(ctx: Context[Step]) -> str:
            return await ctx.step.run("reserve", reserve, ctx.event.data["sku"])

    `Context[Step, OrderCreated]` is that of a function whose trigger is the model OrderCreated (S11.2).

    event        the event that started the run: a ReceivedEvent
    events       all events of a batch; otherwise only `event`
    run_id       the id of this run
    function_id  the full id of the function: "app/slug"
    started_at   when the first attempt began: an aware datetime, the same in every replay
    step         the step tools, which are also the second argument of the handler
    logger       a logger that adds run, function and attempt to every line, and is silent during replay (S10.6)
    """

    __slots__ = (
        "_app",
        "_attempt",
        "event",
        "events",
        "function_id",
        "logger",
        "run_id",
        "started_at",
        "step",
    )

    if not TYPE_CHECKING:
        # `Generic` wants both parameters before Python 3.13.
        __class_getitem__ = classmethod(GenericAlias)

    def __init__(
        self, event: ReceivedEvent[DataT], events: list[ReceivedEvent[DataT]], run_id: str, function_id: str, attempt: int,
        started_at: datetime, step: StepT, logger: RunLogger, app: Publisher | None = None,
    ) -> None:  # fmt: skip
        self.event = event
        self.events = events
        self.run_id = run_id
        self.function_id = function_id
        self._attempt = attempt
        self.started_at = started_at
        self.step = step
        self.logger = logger
        self._app = app

    @property
    def attempt(self) -> int:
        """The number of the present attempt, from 0: inside a step the attempt at the step, else at the code between the steps."""
        step = current_step.get()
        return self._attempt if step is None else step.attempt

    @property
    def headers(self) -> Headers:
        """The headers of the run, which are its event's. The events and runs that it sends and starts inherit them (S11.1)."""
        return self.event.headers

    def publish(self, topic: TopicRef[T], data: T) -> Awaitable[None]:
        """Publish a message from this run: awaited on the loop, while a `def` handler or step blocks. Rule S17.1.

            await ctx.publish(OrderChannel(order_id="A1").status, Status(percent=50))

        It is silent in replay, like `logger`, and costs no step: after a crash a message may come twice, which it never does with
        `step.publish`. Raises SerializationError, LimitExceeded, StoreUnavailable.
        """
        if self._app is None or self.logger.is_replaying():
            # Without an app it is the context of a unit test.
            return Published()
        return self._app._publish_of_run(topic, data, run_id=self.run_id)


def run_facts(run_id: str, function_id: str, attempt: int, headers: Headers) -> dict[str, object]:
    """The fields of every log record of a run; `headers` only if there are any."""
    facts: dict[str, object] = {"run_id": run_id, "function_id": function_id, "attempt": attempt}
    if headers:
        facts["headers"] = dict(headers)
    return facts


class RunLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds run, function and attempt to every line, and is silent during replay. Rule S10.6."""

    def __init__(self, facts: dict[str, object], is_replaying: Callable[[], bool]) -> None:
        # What LoggerAdapter's own does, without its call: each run makes one of these.
        self.logger = logger
        self.extra = facts
        self.is_replaying = is_replaying

    def isEnabledFor(self, level: int) -> bool:
        return not self.is_replaying() and self.logger.isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs
