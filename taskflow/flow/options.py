"""All flow control of one function: its limits, and the data that the store needs to apply them to a run. Rules S7, S7.9."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, fields
from functools import cache
from typing import Any, TypedDict, Unpack, get_args, get_type_hints

import msgpack

from taskflow.flow.batch import Batch
from taskflow.flow.cancel import Cancel, Cancels
from taskflow.flow.concurrency import Concurrency, ConcurrencyLimits
from taskflow.flow.debounce import Debounce
from taskflow.flow.idempotency import Idempotency
from taskflow.flow.limit import LaneLimit, Limit
from taskflow.flow.priority import Priority
from taskflow.flow.rate_limit import RateLimit
from taskflow.flow.singleton import Singleton
from taskflow.flow.throttle import Throttle
from taskflow.types import EventFields, FunctionId
from taskflow.values.record import record


class FlowOptions(TypedDict, total=False):
    """The options of `@app.function` that are flow control (S7) or cancel runs (S6.1); None counts as left out.

    concurrency   how many steps execute at one time: a number, a `Concurrency`, or a list of two
    priority      which run goes first: a `Priority`
    throttle      how often runs start; the excess waits: a `Throttle`
    rate_limit    how often events start runs; the excess is skipped: a `RateLimit`
    debounce      one run once no event has come for a while: a `Debounce`
    batch_events  one run for many events: a `Batch`
    singleton     one live run at a time: a `Singleton`
    idempotency   one run for each value in 24 h: CEL over `event`
    cancel        events that cancel runs: a `Cancel`, or a list of up to 5
    """

    concurrency: int | Concurrency | Sequence[Concurrency] | None
    priority: Priority | None
    throttle: Throttle | None
    rate_limit: RateLimit | None
    debounce: Debounce | None
    batch_events: Batch | None
    singleton: Singleton | None
    idempotency: str | None
    cancel: Cancel | Sequence[Cancel] | None


@record(kw_only=True)
class FlowControl:
    """The limits of one function; None if there is no such limit. Raises ConfigError for limits that exclude each other.

    They are planned in the order of the fields; in the lane, concurrency comes before throttle.
    """

    concurrency: ConcurrencyLimits | None = None
    priority: Priority | None = None
    throttle: Throttle | None = None
    rate_limit: RateLimit | None = None
    debounce: Debounce | None = None
    batch_events: Batch | None = None
    singleton: Singleton | None = None
    idempotency: Idempotency | None = None
    cancel: Cancels | None = None
    limits: tuple[Limit, ...] = field(init=False, repr=False, compare=False)
    lane_limits: tuple[LaneLimit, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        held = [getattr(self, each.name) for each in fields(self) if each.init]
        limits = tuple(limit for limit in held if limit is not None)
        object.__setattr__(self, "limits", limits)
        object.__setattr__(
            self, "lane_limits", tuple(limit for limit in limits if isinstance(limit, LaneLimit))
        )
        for limit in limits:
            limit.check_beside(other for other in limits if other is not limit)

    @classmethod
    def of(cls, **options: Unpack[FlowOptions]) -> FlowControl:
        """Read and check the options of `@app.function`. Raises ConfigError, which names option, value and remedy."""
        given: dict[str, Any] = {
            option: kind.parse(options.get(option)) for option, kind in limit_kinds().items()
        }
        return cls(**given)

    def plan(
        self, function_id: FunctionId, event: EventFields, *, is_direct: bool = False, keep: str = "",
        ahead_ms: int | None = None,
    ) -> bytes:  # fmt: skip
        """The packed table that the scripts need for a run that `event` is to start: keys evaluated, limits as numbers.

        It has the `entry` of each limit, the `lane` (see `flow.lane`) and `keep`; without any of these the result is empty.
        `is_direct`: an invoke, a cron or a replay starts the run, so limits that pick among events are not applied. `keep` is how
        long the run is kept, if not as long as its app says: see `FunctionSpec.keep`. `ahead_ms` beats the function's priority.
        """
        if not self.limits and not keep and not ahead_ms:
            return b""
        table: dict[str, Any] = {"keep": keep} if keep else {}
        for limit in self.limits:
            if not (limit.picks_events and is_direct) and (entry := limit.plan(function_id, event)):
                table[limit.entry] = entry
        if ahead_ms is not None:
            table["ahead"] = ahead_ms
        if lane := "".join([limit.lane(function_id, event) for limit in self.lane_limits]):
            table["lane"] = lane
        packed: bytes = msgpack.packb(table, use_bin_type=False)
        return packed

    @property
    def keys(self) -> list[tuple[str, str]]:
        """The expressions of all keys, each with its name in errors before it."""
        return [key for limit in self.limits for key in limit.keys]

    @property
    def settings(self) -> str:
        """The function's settings that claims need for any run: "limit limit interval_us tolerance_us", with "-" for none.

        Empty when the function has no limit on execution. The settings are registered with the function, so a deploy changes them
        for runs that are queued already.
        """
        if not self.lane_limits:
            return ""
        return " ".join([limit.settings if limit else "- -" for limit in (self.concurrency, self.throttle)])


NO_FLOW_CONTROL = FlowControl()


@cache
def limit_kinds() -> dict[str, type[Limit]]:
    """Option -> class of its limit, from the fields of FlowControl."""
    hints = get_type_hints(FlowControl)
    return {each.name: get_args(hints[each.name])[0] for each in fields(FlowControl) if each.init}
