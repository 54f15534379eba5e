"""What all tools that wait have in common: the outcome is known, or comes from outside later."""

from __future__ import annotations

from typing import Any

from taskflow.steps.call import Call
from taskflow.steps.host import StepHost
from taskflow.store.claims import InvokedRun
from taskflow.store.operation import Operation
from taskflow.values.shape import ANY, Shape


async def settle(
    host: StepHost, call: Call, op: Operation, child: InvokedRun | None = None, output: Shape = ANY
) -> Any:
    """The result of an operation that something else resolves. `op` is what to store if nothing is known of it."""
    known = call.known
    if known is None:
        resolved = await host.wait(call, op, child=child)
    elif known.is_finished:
        resolved = await host.recall(call)
    else:
        resolved = await host.wait(call, known, is_stored=True)
    return take_outcome(host, call, resolved, output)


def take_outcome(host: StepHost, call: Call, op: Operation, output: Shape = ANY) -> Any:
    """What the handler gets. What came from outside is checked here; what steps return, before it is stored."""
    if op.data is not None:
        host.check_outcome(call, op.data)
    return op.outcome(call.id, output)
