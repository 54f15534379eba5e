"""What `start_calls` needs to make the runs of calls of a task. Apart from `routing`, as a sender needs no event loop for it."""

from __future__ import annotations

from typing import NamedTuple

from taskflow.types import RunId


class PlannedCall(NamedTuple):
    """A call of a task, and the run that is to be made for it. The script takes these fields in this order."""

    run_id: RunId
    flow: bytes
    event: bytes  # JSON, as on the wire
    digest: str = ""  # of the arguments, when the caller has chosen an id


class CallPlan(NamedTuple):
    """What all calls of one task have in common that are made together. Times are ms since the epoch, 0 for none."""

    function_id: str
    queue: str
    start_at_ms: int
    start_timeout_ms: int
    finish_timeout_ms: int
    expires_at_ms: int
    keep: str  # as `FunctionSpec.keep`, if the call says it; else empty
    chosen_id: str = ""
