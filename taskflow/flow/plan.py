"""What the store must know to apply a function's flow control to one run: keys evaluated, limits as numbers. Rules S7.

The scripts get it as a packed table; `Lane` and settings are read again by those that claim. Its fields:

    ahead     ms by which the run goes ahead of others (priority)
    lane      the limits that its execution needs: see `lane_of`
    rate      {id, period_ms, limit}
    idem      id
    single    {id, mode}
    debounce  {id, period_ms, timeout_ms or 0, ts and uid of the event}
    batch     {id, max_size, timeout_ms}
    cancels   the events that cancel the run: {events, path, token, condition, timeout_ms}, without what is not set
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack

from taskflow.expressions.cel import compile_expression
from taskflow.expressions.matching import NOTHING_EQUAL, place_wait
from taskflow.flow.cancel import Cancel
from taskflow.flow.concurrency import Concurrency
from taskflow.flow.keys import key_token
from taskflow.flow.options import NO_FLOW_CONTROL, FlowControl
from taskflow.flow.priority import ahead_ms
from taskflow.types import EventFields, FunctionId

LIMIT_SEPARATOR = "\x1e"  # between the limits of a lane; includes/lanes.lua reads it
THROTTLE_SEPARATOR = "\x1d"  # before the throttle of a lane


def plan_flow(
    function_id: FunctionId, flow: FlowControl, event: EventFields, *, is_direct: bool = False
) -> bytes:
    """The packed table for a run that `event` is to start; empty for a function without flow control.

    `is_direct`: the run is started by an invoke, a cron or a replay. What picks among events (rate limit, idempotency, debounce,
    batch) is not applied to it; what limits how runs live and execute is.
    """
    if flow is NO_FLOW_CONTROL or flow.is_none:
        return b""
    table: dict[str, Any] = {}
    lane = lane_of(function_id, flow, event)
    if lane:
        table["lane"] = lane
    if flow.priority is not None:
        ahead = ahead_ms(compile_expression(flow.priority.run, what="priority").value(event))
        if ahead:
            table["ahead"] = ahead
    if flow.singleton is not None:
        table["single"] = [f"{function_id}:{key_token(flow.singleton.key, event)}", flow.singleton.mode]
    if flow.cancel and (cancels := plan_cancels(flow.cancel, event)):
        table["cancels"] = cancels
    if not is_direct:
        table |= plan_admission(function_id, flow, event)
    packed: bytes = msgpack.packb(table, use_bin_type=False)
    return packed


def plan_cancels(cancels: Sequence[Cancel], event: EventFields) -> list[dict[str, Any]]:
    """How the events that cancel a run are to stand in the index; those that nothing can meet are left out."""
    entries = []
    for cancel in cancels:
        place = place_wait([cancel.event], cancel.match, cancel.if_exp, event=event)
        if place.token == NOTHING_EQUAL:
            continue
        entry = {
            "events": place.events,
            "path": place.path,
            "token": place.token,
            "condition": place.condition,
            "timeout_ms": cancel.timeout_ms,
        }
        entries.append({name: value for name, value in entry.items() if value is not None})
    return entries


def plan_admission(function_id: FunctionId, flow: FlowControl, event: EventFields) -> dict[str, Any]:
    """What decides whether, and with which others, an event starts a run."""
    table: dict[str, Any] = {}
    rate, debounce, batch = flow.rate_limit, flow.debounce, flow.batch
    if rate is not None:
        table["rate"] = [f"{function_id}:{key_token(rate.key, event)}", rate.period_ms, rate.limit]
    if flow.idempotency is not None:
        table["idem"] = f"{function_id}:{key_token(flow.idempotency, event)}"
    if debounce is not None:
        table["debounce"] = [
            f"{function_id}:{key_token(debounce.key, event)}",
            debounce.period_ms,
            debounce.timeout_ms or 0,
            event["ts"],
            event["uid"],
        ]
    if batch is not None and (
        batch.if_exp is None or compile_expression(batch.if_exp, what="batch_events.if_exp").matches(event)
    ):
        table["batch"] = [f"{function_id}:{key_token(batch.key, event)}", batch.max_size, batch.timeout_ms]
    return table


def lane_of(function_id: FunctionId, flow: FlowControl, event: EventFields) -> str:
    """The limits that apply when the run executes, as one text; runs of a function with the same lane are limited alike.

    The ids of its concurrency limits, then that of its throttle, which counts until the run has started.
    """
    lane = LIMIT_SEPARATOR.join(
        limit_id(function_id, place, limit, event) for place, limit in enumerate(flow.concurrency)
    )
    if flow.throttle is not None:
        lane += f"{THROTTLE_SEPARATOR}{function_id}:{key_token(flow.throttle.key, event)}"
    return lane


def limit_id(function_id: FunctionId, place: int, limit: Concurrency, event: EventFields) -> str:
    """Who shares a concurrency limit: the function, its app, or all apps, with the value of the key."""
    token = key_token(limit.key, event)
    if limit.scope == "fn":
        return f"fn:{function_id}:{place}:{token}"
    if limit.scope == "app":
        return f"app:{function_id.partition('/')[0]}:{token}"
    return f"account:{token}"


def flow_settings(flow: FlowControl) -> str:
    """What claims must know of a function, whatever the run: "limit limit interval_us tolerance_us", - for none; empty for nothing.

    It is registered with the function, so a deploy changes it for runs that are queued already.
    """
    if not flow.concurrency and flow.throttle is None:
        return ""
    limits = [str(limit.limit) for limit in flow.concurrency] + ["-", "-"]
    interval = tolerance = "-"
    if flow.throttle is not None:
        interval_us = flow.throttle.interval_us
        interval, tolerance = str(interval_us), str(interval_us * (flow.throttle.burst - 1))
    return " ".join([*limits[:2], interval, tolerance])
