"""Records the outcome of an attempt in the operation of its step, and in the log. Rules S5.1, S5.3, S6.3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskflow.codecs.codecs import Codecs
from taskflow.errors import DecodeError, StepTimeout
from taskflow.observability.failures import describe_error
from taskflow.observability.run_log import Facts, attempt_failed
from taskflow.retries import Retries, next_attempt_ms
from taskflow.store.operation import DONE, FAILED, RETRY, Operation

DECODE_WAIT_MS = 60_000


def succeed(op: Operation, data: bytes, *, started_ms: int, now_ms: int, worker: str) -> None:
    """Record that the step is done; `data` is its result as JSON."""
    op.state, op.data, op.due = DONE, data, None
    op.started, op.ended, op.worker = started_ms, now_ms, worker


def fail(
    op: Operation, error: BaseException, codecs: Codecs, *, retries: Retries, started_ms: int, now_ms: int, worker: str,
    jitter: float,
) -> dict[str, Any]:  # fmt: skip
    """Record that an attempt failed: the step is in state RETRY with the time of the next attempt, or FAILED. Returns its error."""
    # A step that ran out of time may be tried again like any other; the StepTimeout that the handler gets in the end is final.
    cause = TimeoutError() if isinstance(error, StepTimeout) else error
    due_ms = next_attempt_ms(retries, len(op.attempts), now_ms=now_ms, error=cause, jitter=jitter)
    told = describe_error(error)
    sealed = codecs.sealed_error(told)
    op.attempts.append([started_ms, now_ms, worker, sealed["name"], sealed["message"], sealed["stack"]])
    if due_ms is not None:
        op.state, op.due, op.error = RETRY, due_ms, None
        return told
    op.state, op.due, op.error = FAILED, None, sealed
    op.started, op.ended, op.worker = started_ms, now_ms, worker
    return told


def next_call_ms(
    error: BaseException, retries: Retries, attempt: int, *, now_ms: int, jitter: float
) -> int | None:
    """When (ms) to call the handler again after its code failed outside of steps; None for never. A failed step is final."""
    if isinstance(error, DecodeError):
        return now_ms + wait_ms(jitter) if error.passes else None
    # As in `fail`: the time limit of the body, which is a StepTimeout of no step.
    cause = TimeoutError() if isinstance(error, StepTimeout) and not error.step_id else error
    return next_attempt_ms(retries, attempt, now_ms=now_ms, error=cause, jitter=jitter)


def wait_ms(jitter: float) -> int:
    """How long (ms) a run waits before it tries again to read what it can't decode: some minute, so that not all come at once."""
    return int(DECODE_WAIT_MS * (0.5 + jitter))


def step_failed(
    facts: Facts, step_id: str, op: Operation, told: Mapping[str, Any], *, retries: int, now_ms: int
) -> None:
    """Log the attempt that `fail` has recorded; `told` is its error."""
    delay_ms = op.due - now_ms if op.state == RETRY and op.due is not None else None
    attempt_failed(facts, told, step_id, len(op.attempts), retries, delay_ms)
