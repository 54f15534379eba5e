"""Priority: which of a function's runs go first. Rule S7.2."""

from __future__ import annotations

import math
from typing import ClassVar

from taskflow.expressions.cel import compile_expression
from taskflow.flow.checks import check_expression
from taskflow.flow.limit import Limit
from taskflow.types import EventFields, FunctionId, Json
from taskflow.values.record import record

MAX_PRIORITY_S = 600


@record
class Priority(Limit):
    """Move a run ahead of runs of its function that are older by up to so many seconds. Rule S7.2.

    `run` is CEL over `event` and gives the seconds, from -600 (behind younger runs) to 600. Numbers beyond are clipped; a value
    that is no number counts as 0. Raises ConfigError.

        @app.function(trigger="report/wanted", priority=Priority(run='event.data.plan == "paid" ? 300 : 0'))
    """

    run: str

    option: ClassVar[str] = "priority"
    example: ClassVar[str] = "Priority(run='event.data.rank')"
    entry: ClassVar[str] = "ahead"

    def __post_init__(self) -> None:
        check_expression("priority.run", self.run)

    @property
    def of_one_event(self) -> str:
        return self.option

    def plan(self, function_id: FunctionId, event: EventFields) -> int:
        """How far (ms) the run is moved ahead of others."""
        return ahead_ms(compile_expression(self.run, what="priority").value(event))


def ahead_ms(value: Json) -> int:
    """How far (ms) a run is moved ahead when its expression gave `value`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        return 0
    return int(max(-MAX_PRIORITY_S, min(MAX_PRIORITY_S, value)) * 1_000)
