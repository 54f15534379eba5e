"""What every limit of flow control is to the rest of taskflow. Rules S7.

A limit is one file: the option that users write, its checks, and what the store's scripts need of it for one run. The decision
itself is an include of the same name in `store/lua`. To add a limit: write both, and a line in `FlowOptions` and in `FlowControl`.
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
    """How to write it, for errors."""

    entry: ClassVar[str] = ""
    """Its name in the table that the scripts get for a run."""

    picks_events: ClassVar[bool] = False
    """Whether it decides which events start a run; then it is not applied to what an invoke, a cron or a replay starts."""

    @classmethod
    def parse(cls, value: Any) -> Self | None:
        """The limit that the option's value means; None is none. Raises ConfigError."""
        if value is not None and not isinstance(value, cls):
            raise ConfigError(
                f"{cls.option} must be a {cls.__name__}, got {value!r:.80}; write {cls.example}"
            )
        return value

    @property
    def keys(self) -> list[tuple[str, str]]:
        """The expressions of its keys, each with what an error calls it."""
        key: str | None = getattr(self, "key", None)
        return [] if key is None else [(f"{self.option}.key", key)]

    @property
    def of_one_event(self) -> str | None:
        """What of it looks at a single event, and so can't be used with a batch; None: nothing."""
        return None

    def check_beside(self, others: Iterable[Limit]) -> None:
        """Raise ConfigError when it can't be used with one of the function's other limits. Rule S7.9."""

    def plan(self, function_id: FunctionId, event: EventFields) -> Any:
        """Its entry in the table for a run that `event` starts; None or empty: there is none."""
        return None


class LaneLimit(Limit):
    """A limit that holds while a run waits for a place to execute: it is part of the run's lane (`flow.lane`)."""

    __slots__ = ()

    def lane(self, function_id: FunctionId, event: EventFields) -> str:
        """Its part of the run's lane."""
        raise NotImplementedError

    @property
    def settings(self) -> str:
        """What claims must know of it, as two words, which are registered with the function."""
        raise NotImplementedError
