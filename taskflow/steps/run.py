"""`step.run`: calls a function of the user, and stores its outcome. Rules S3.1, S5.1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskflow.codecs.codecs import Codecs
from taskflow.step_options import StepSettings
from taskflow.steps.call import Done, StepCall, check_output_size
from taskflow.steps.host import StepHost
from taskflow.steps.settle import outcome
from taskflow.store.operation import STEP, WAIT, Operation
from taskflow.values.shape import Shape
from taskflow.values.stored import dump


async def run(
    host: StepHost, step_id: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], output: Shape,
    settings: StepSettings,
) -> Any:  # fmt: skip
    return await run_call(host, StepCall(await host.begin(step_id, STEP), fn, args, kwargs, output, settings))


async def run_call(host: StepHost, step: StepCall, kind: str = STEP) -> Any:
    call, known = step.call, step.call.known
    if known is not None and known.is_finished:
        return await outcome(host, call, await host.recall(call), step.output)
    if not callable(step.fn):
        raise TypeError(
            f"step.run({call.id!r}, fn, ...): fn must be callable, but is {type(step.fn).__name__}. "
            "Pass the function, not its result."
        )
    op = known or Operation(kind, WAIT, call.index)
    if known is not None and op.is_pending:  # it waits for its next attempt, or is offered to other processes
        op = await host.wait(call, op, is_stored=True)
    if step.settings.records_input and op.input is None:
        op.input = dump_input(step, host.codecs, max_bytes=host.config.max_step_output_bytes)
    while not op.is_finished:
        came = await host.execute(step, op)
        if isinstance(came, Done):
            return came.value
        op = came if came.is_finished else await host.wait(call, came)  # until the next attempt is due
    return await outcome(host, call, op, step.output)


def dump_input(step: StepCall, codecs: Codecs, *, max_bytes: int) -> bytes:
    """The arguments of a step's function, as stored. Raises SerializationError, or LimitExceeded as for its output (S3.10)."""
    data = dump(
        {"args": step.args, "kwargs": step.kwargs}, codec=codecs, what=f"the input of step {step.call.id!r}"
    )
    check_output_size(data, f"step {step.call.id!r}", max_bytes, verb="was given")
    return data
