"""Concurrency: how many steps execute at one time. Rule S7.1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from taskflow.errors import ConfigError
from taskflow.flow.checks import check_count, check_key

MAX_LIMIT = 1_000_000
MAX_LIMITS = 2

Scope: TypeAlias = Literal["fn", "app", "account"]


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most `limit` steps execute at one time; runs that sleep or wait don't count. Rule S7.1.

    With `key` (CEL over `event`) each value has a limit of its own. `scope` says who shares it: this function ("fn"), all
    functions of the app with that value ("app"), or all functions of all apps on this store ("account"); the latter two need a key.
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


def parse_concurrency(value: int | Concurrency | Sequence[Concurrency] | None) -> tuple[Concurrency, ...]:
    """The limits that `concurrency=value` means: a number for the function, a Concurrency, or two. Raises ConfigError."""
    if value is None:
        return ()
    if isinstance(value, Concurrency):
        return (value,)
    if isinstance(value, (list, tuple)):
        limits = tuple(value)
    elif isinstance(value, int):
        return (Concurrency(value),)
    else:
        limits = (value,)
    for limit in limits:
        if not isinstance(limit, Concurrency):
            raise ConfigError(
                f"concurrency must be an int, a Concurrency or a list of two, got {value!r:.80}; "
                "write Concurrency(10, key='event.data.customer')"
            )
    if len(limits) > MAX_LIMITS:
        raise ConfigError(f"concurrency takes at most {MAX_LIMITS} limits, got {len(limits)}")
    if len(limits) == MAX_LIMITS and (limits[0].scope, limits[0].key) == (limits[1].scope, limits[1].key):
        raise ConfigError("concurrency has two limits of the same scope and key; keep the lower one")
    return limits
