"""Priority: which of a function's runs go first. Rule S7.2."""

from __future__ import annotations

import math
from dataclasses import dataclass

from taskflow.flow.checks import check_expression
from taskflow.types import Json

MAX_PRIORITY_S = 600


@dataclass(frozen=True, slots=True)
class Priority:
    """Move a run ahead of those of its function that were made up to so many seconds before it. Rule S7.2.

    `run` is CEL over `event` and gives the seconds, from -600 (behind) to 600; what is beyond is clipped, anything but a
    number is 0. Raises ConfigError.

        @app.function(trigger="report/wanted", priority=Priority(run='event.data.plan == "paid" ? 300 : 0'))
    """

    run: str

    def __post_init__(self) -> None:
        check_expression("priority.run", self.run)


def ahead_ms(value: Json) -> int:
    """How far (ms) a run is moved ahead when its expression gave `value`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        return 0
    return int(max(-MAX_PRIORITY_S, min(MAX_PRIORITY_S, value)) * 1_000)
