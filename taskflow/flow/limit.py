"""Limit: the base of all limits of flow control. Rules S7.

A limit is one file: the option that users write, its checks, and the data that the store's scripts need to apply it to a run. The
decision itself is an include in `store/lua/includes`, whose `--@at` marks say at which stages of `admission.lua` its code runs. To
add a limit, write both files, and a line in `FlowOptions` and in `FlowControl`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Self

from taskflow.errors import ConfigError
from taskflow.types import EventFields, FunctionId


class Limit:
    """One limit of a function. Its manifest follows from its fields (`values.manifest`)."""

    __slots__ = ()

    option: ClassVar[str]
    """The keyword of `@app.function`."""

    example: ClassVar[str]
    """How to write the option, for errors."""

    entry: ClassVar[str] = ""
    """The limit's name in the table that the scripts get for a run."""

    picks_events: ClassVar[bool] = False
    """Whether the limit decides which events start a run; then it does not apply to runs of an invoke, a cron or a replay."""

    @classmethod
    def parse(cls, value: Any) -> Self | None:
        """Read the option's value; None means no limit. Raises ConfigError."""
        if value is not None and not isinstance(value, cls):
            raise ConfigError(
                f"{cls.option} must be a {cls.__name__}, got {value!r:.80}; write {cls.example}"
            )
        return value

    @property
    def keys(self) -> list[tuple[str, str]]:
        """The expressions of the limit's keys, each with its name in errors before it."""
        key: str | None = getattr(self, "key", None)
        return [] if key is None else [(f"{self.option}.key", key)]

    @property
    def of_one_event(self) -> str | None:
        """The part of the limit that looks at a single event, and so can't be used with a batch; None if there is no such part."""
        return None

    def check_beside(self, others: Iterable[Limit]) -> None:
        """Raise ConfigError when the limit can't be used with one of the function's other limits. Rule S7.9."""

    def plan(self, function_id: FunctionId, event: EventFields) -> Any:
        """The limit's entry in the table for a run that `event` starts; None or empty if there is none."""
        return None


class LaneLimit(Limit):
    """A limit that holds while a run waits for a place to execute: it is part of the run's lane (`flow.lane`)."""

    __slots__ = ()

    def lane(self, function_id: FunctionId, event: EventFields) -> str:
        """The limit's part of the run's lane."""
        raise NotImplementedError

    @property
    def settings(self) -> str:
        """The settings that claims need, as two words; they are registered with the function."""
        raise NotImplementedError
