"""Singleton: one live run at a time. Rule S7.7."""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias, get_args

from taskflow.errors import ConfigError
from taskflow.flow.checks import check_key
from taskflow.flow.keys import key_id
from taskflow.flow.limit import Limit
from taskflow.types import EventFields, FunctionId
from taskflow.values.record import record

Mode: TypeAlias = Literal["skip", "cancel"]


@record
class Singleton(Limit):
    """Allow one live run of the function at a time, or one for each value of `key` (CEL over `event`). Rule S7.7.

    While a run is live, a new one is skipped (mode "skip"), or the live run is cancelled and the new one starts once that has
    ended (mode "cancel"). Raises ConfigError.

        @app.function(trigger=TriggerCron("*/5 * * * *"), singleton=Singleton())
    """

    key: str | None = None
    mode: Mode = "skip"

    option: ClassVar[str] = "singleton"
    example: ClassVar[str] = "Singleton()"
    entry: ClassVar[str] = "single"

    def __post_init__(self) -> None:
        check_key("singleton.key", self.key)
        if self.mode not in get_args(Mode):
            raise ConfigError(f"singleton.mode must be one of {get_args(Mode)}, got {self.mode!r:.80}")

    def plan(self, function_id: FunctionId, event: EventFields) -> list[str]:
        """The singleton's id and mode."""
        return [key_id(function_id, self.key, event), self.mode]


def singleton_reason(run_id: str) -> str:
    """The reason why a run that takes the place of a live one does not execute yet."""
    return f"scheduled: after run {run_id}, which is being cancelled"
