"""Plans the run that is to be made of a function for an event. Rules S6.3, S7."""

from __future__ import annotations

from taskflow.event import WireEvent
from taskflow.function import FunctionSpec
from taskflow.store.routing import RunPlan
from taskflow.types import RunId
from taskflow.values.ids import run_id_for


def plan_run(
    spec: FunctionSpec,
    event: WireEvent,
    *,
    run_id: RunId | None = None,
    queue: str | None = None,
    start_at_ms: int = 0,
    is_direct: bool = True,
    is_claimable: bool = False,
) -> RunPlan:
    """The run of a function for an event. Its id derives from both, so that planning twice makes one run, unless `run_id` is given.

    `queue` is the function's unless given.
    `start_at_ms` (0: at once) is when it is due. `is_direct`: an invoke, a cron, a rerun or a test starts it rather than its event,
    so the flow control that picks among events is not applied (S7). `is_claimable`: this process may execute it at once.
    Raises ExpressionError when a key can't be evaluated.
    """
    return RunPlan(
        spec.id,
        queue or spec.queue,
        run_id_for(event["uid"], spec.id) if run_id is None else run_id,
        start_at_ms,
        # A task expires wherever it is started from; a call may say when by itself (S15.2).
        spec.timeouts.start_ms or spec.expires_ms or 0,
        spec.timeouts.finish_ms or 0,
        spec.flow.plan(spec.id, event, is_direct=is_direct, keep=spec.keep),
        is_claimable,
    )
