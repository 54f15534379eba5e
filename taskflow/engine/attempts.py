"""Records the attempts of steps: in their operations, in the log, and in metrics. Rules S5.1, S13.1."""

from __future__ import annotations

import random

from taskflow.engine.execution import Execution
from taskflow.steps.attempt import fail, step_failed, succeed
from taskflow.steps.call import StepCall
from taskflow.store.operation import Operation


def attempt_succeeded(run: Execution, op: Operation, data: bytes, *, started_ms: int) -> None:
    """Record what an attempt has returned; `data` is what is stored of it."""
    host = run.host
    now_ms = host.clock.now_ms()
    succeed(op, data, started_ms=started_ms, now_ms=now_ms, worker=host.child_id)
    if host.meter is not None:
        host.meter.step_ended(run.function_id, "completed", now_ms - started_ms)


def attempt_failed(
    run: Execution, step: StepCall, op: Operation, error: Exception, *, started_ms: int
) -> None:
    """Record and log the failure of an attempt."""
    host = run.host
    retries, now_ms = step.settings.over(run.function.spec.retries), host.clock.now_ms()
    told = fail(
        op, error, host.codecs, retries=retries, started_ms=started_ms, now_ms=now_ms, worker=host.child_id,
        jitter=random.random(),
    )  # fmt: skip
    step_failed(run.facts, step.call.id, op, told, retries=retries.attempts, now_ms=now_ms)
    if host.meter is not None:
        host.meter.step_ended(run.function_id, "failed", now_ms - started_ms)
        host.meter.attempt_failed(run.function_id, told["name"])
