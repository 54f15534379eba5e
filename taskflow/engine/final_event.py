"""The event that tells how a run ended, if it did not complete: `taskflow/function.failed` or `.cancelled`. Rules S5.5, S6.2."""

from __future__ import annotations

from typing import Any

from taskflow.event import Event, encode_event
from taskflow.ids import derive_ulid


def final_event(
    status: str, *, run_id: str, function_id: str, event: dict[str, Any], error: dict[str, Any], now_ms: int
) -> tuple[str, bytes]:
    """Its uid and its wire form. `event` is what started the run, `error` its name, message and stack."""
    uid = derive_ulid(f"{run_id}:{status}", now_ms)
    data = {"function_id": function_id, "run_id": run_id, "error": error, "event": event}
    told = Event(f"taskflow/function.{status}", data)
    _, encoded = encode_event(told, now_ms=now_ms, max_bytes=1 << 30, uid=uid, internal=True)
    return uid, encoded
