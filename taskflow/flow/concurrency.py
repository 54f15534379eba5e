"""Concurrency: how many steps execute at one time. Rule S7.1."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self, TypeAlias, get_args

from taskflow.errors import ConfigError
from taskflow.flow.checks import check_count, check_key
from taskflow.flow.keys import key_token
from taskflow.flow.lane import LIMIT_SEPARATOR
from taskflow.flow.limit import LaneLimit
from taskflow.types import EventFields, FunctionId
from taskflow.values.record import record

MAX_LIMIT = 1_000_000
MAX_LIMITS = 2

Scope: TypeAlias = Literal["fn", "app", "account"]


@record
class Concurrency:
    """Let at most `limit` steps execute at one time; runs that sleep or wait don't count. Rule S7.1.

    With `key` (CEL over `event`) each value has a limit of its own. `scope` says which functions share the limit: this one ("fn"),
    all of the app with the same key value ("app"), or all of all apps on this store ("account"); "app" and "account" need a key.
    Raises ConfigError.

        @app.function(trigger="pdf/requested", concurrency=Concurrency(5, key="event.data.customer"))
    """

    limit: int
    key: str | None = None
    scope: Scope = "fn"

    def __post_init__(self) -> None:
        check_count("concurrency.limit", self.limit, at_most=MAX_LIMIT)
        if self.scope not in get_args(Scope):
            raise ConfigError(f"concurrency.scope must be one of {get_args(Scope)}, got {self.scope!r:.80}")
        check_key("concurrency.key", self.key)
        if self.scope != "fn" and self.key is None:
            raise ConfigError(
                f"concurrency with scope={self.scope!r} needs a key: other functions share the limit by its value; "
                "for one limit for all write key='\"all\"'"
            )

    def limit_id(self, function_id: FunctionId, place: int, event: EventFields) -> str:
        """The limit's id in the store: it names the sharers (the function, its app, or all apps) and the value of the key."""
        token = key_token(self.key, event)
        if self.scope == "fn":
            return f"fn:{function_id}:{place}:{token}"
        if self.scope == "app":
            return f"app:{function_id.partition('/')[0]}:{token}"
        return f"account:{token}"

    def level(self, limit_id: str, held: int) -> ConcurrencyLevel:
        """The state of the limit while `held` steps execute under it."""
        parts = {"fn": 3, "app": 2, "account": 1}[limit_id.partition(":")[0]]
        return ConcurrencyLevel(limit_id.split(":", parts)[-1], held, self.limit)


@record
class ConcurrencyLevel:
    """The state of a concurrency limit: how many steps execute, how many may. `key` is the value of its key as JSON, or empty."""

    key: str
    held: int
    most: int

    def reason(self, now_ms: int) -> str | None:
        """The reason why a run waits for the limit; None if it need not wait."""
        if self.held < self.most:
            return None
        key = f" key {self.key}" if self.key else ""
        return f"concurrency{key} is at {self.held:,} of {self.most:,}"


@record
class ConcurrencyLimits(LaneLimit):
    """The one or two concurrency limits of a function."""

    limits: tuple[Concurrency, ...]

    option: ClassVar[str] = "concurrency"

    def __post_init__(self) -> None:
        limits = self.limits
        if len(limits) > MAX_LIMITS:
            raise ConfigError(f"concurrency takes at most {MAX_LIMITS} limits, got {len(limits)}")
        if len(limits) == MAX_LIMITS and (limits[0].scope, limits[0].key) == (limits[1].scope, limits[1].key):
            raise ConfigError("concurrency has two limits of the same scope and key; keep the lower one")

    @classmethod
    def parse(cls, value: Any) -> Self | None:
        """Read the option `concurrency`: a number for the function, a Concurrency, or a list of up to two. Raises ConfigError."""
        if value is None:
            return None
        if isinstance(value, int):
            value = Concurrency(value)
        limits = tuple(value) if isinstance(value, (list, tuple)) else (value,)
        for limit in limits:
            if not isinstance(limit, Concurrency):
                raise ConfigError(
                    f"concurrency must be an int, a Concurrency or a list of two, got {value!r:.80}; "
                    "write Concurrency(10, key='event.data.customer')"
                )
        return cls(limits) if limits else None

    @property
    def of_one_event(self) -> str | None:
        return "a keyed concurrency" if any(limit.key is not None for limit in self.limits) else None

    @property
    def keys(self) -> list[tuple[str, str]]:
        return [("concurrency.key", limit.key) for limit in self.limits if limit.key is not None]

    def lane(self, function_id: FunctionId, event: EventFields) -> str:
        return LIMIT_SEPARATOR.join(
            [limit.limit_id(function_id, place, event) for place, limit in enumerate(self.limits)]
        )

    @property
    def settings(self) -> str:
        return " ".join([*(str(limit.limit) for limit in self.limits), "-"][:2])
