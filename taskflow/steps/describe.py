"""Says in words what a step waits for; there is a line for each kind of operation that waits. Rule S10.5."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from taskflow.steps import invoke, wait_for_event, wait_for_signal
from taskflow.store.operation import Operation

DESCRIBE: Mapping[str, Callable[[Operation], str]] = {
    "event": wait_for_event.describe,
    "signal": wait_for_signal.describe,
    "invoke": invoke.describe,
}


def describe(op: Operation) -> str:
    """What the operation waits for: "event paid with data.order_id=7", "signal approve", "run 01J..."."""
    known = DESCRIBE.get(op.kind)
    return known(op) if known else op.kind
