"""What a handler gets: the event, facts of the run, the step tools and a logger."""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from taskflow.event import ReceivedEvent
from taskflow.headers import Headers

StepT = TypeVar("StepT")

logger = logging.getLogger("taskflow.run")  # of handlers; asking for it again takes a lock each time


@dataclass(slots=True)
class Context(Generic[StepT]):
    """The first argument of every handler. Rule S2.4.

    @app.function(trigger="shop/order.created")
    async def fulfil(ctx: Context[Step]) -> str:
        return await ctx.step.run("reserve", reserve, ctx.event.data["sku"])
    """

    event: ReceivedEvent
    events: list[ReceivedEvent]  # all of a batch; otherwise just `event`
    run_id: str
    function_id: str  # "app/slug"
    attempt: int  # of the code between the steps, from 0
    started_at: datetime  # of the first attempt; the same in every replay
    step: StepT
    logger: RunLogger

    @property
    def headers(self) -> Headers:
        """The headers of the run, which are those of its event; what it sends, invokes or starts inherits them (S11.1)."""
        return self.event.headers


def run_facts(run_id: str, function_id: str, attempt: int, headers: Headers) -> dict[str, object]:
    """What every log record of a run carries; `headers` only where there are some."""
    facts: dict[str, object] = {"run_id": run_id, "function_id": function_id, "attempt": attempt}
    if headers:
        facts["headers"] = dict(headers)
    return facts


class RunLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds run, function and attempt to every line, and is silent during replay. Rule S10.6."""

    def __init__(self, facts: dict[str, object], is_replaying: Callable[[], bool]) -> None:
        super().__init__(logger, facts)
        self.is_replaying = is_replaying

    def isEnabledFor(self, level: int) -> bool:
        return not self.is_replaying() and self.logger.isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs
