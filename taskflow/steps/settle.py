"""The common part of all tools that wait: take the outcome if it is known, else wait for it."""

from __future__ import annotations

from typing import Any

from taskflow.errors import DecodeError
from taskflow.steps.call import Call
from taskflow.steps.host import StepHost
from taskflow.store.claims import InvokedRun
from taskflow.store.operation import Operation
from taskflow.values.shape import ANY, Shape


async def settle(
    host: StepHost, call: Call, op: Operation, child: InvokedRun | None = None, output: Shape = ANY
) -> Any:
    """The result of an operation that time, an event or another run resolves. `op` is stored if nothing is known of the call."""
    known = call.known
    if known is None:
        resolved = await host.wait(call, op, child=child)
    elif known.is_finished:
        resolved = await host.recall(call)
    else:
        resolved = await host.wait(call, known, is_stored=True)
    return await take_outcome(host, call, resolved, output)


async def take_outcome(host: StepHost, call: Call, op: Operation, output: Shape = ANY) -> Any:
    """The outcome for the handler. Outcomes from outside are checked here; those of steps were checked before they were stored."""
    if op.data is not None:
        host.check_outcome(call, op.data)
    return await outcome(host, call, op, output)


async def outcome(host: StepHost, call: Call, op: Operation, output: Shape) -> Any:
    """The result of a finished operation, in the type `output` (S11.3). Raises StepError for a failed one, SerializationError."""
    try:
        return op.outcome(call.id, output, host.codecs)
    except DecodeError as error:
        await host.decode_failed(error)
