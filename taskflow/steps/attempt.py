"""Records the outcome of an attempt in the operation of its step, and in the log. Rules S5.1, S5.3, S6.3."""

from __future__ import annotations

from taskflow.errors import StepTimeout
from taskflow.observability.failures import describe_error
from taskflow.observability.run_log import Facts, attempt_failed
from taskflow.retries import Retries, next_attempt_ms
from taskflow.store.operation import DONE, FAILED, RETRY, Operation


def succeed(op: Operation, data: bytes, *, started_ms: int, now_ms: int, worker: str) -> None:
    """Record that the step is done; `data` is its result as JSON."""
    op.state, op.data, op.due = DONE, data, None
    op.started, op.ended, op.worker = started_ms, now_ms, worker


def fail(
    op: Operation, error: BaseException, *, retries: Retries, started_ms: int, now_ms: int, worker: str, jitter: float
) -> None:  # fmt: skip
    """Record that the attempt failed: the step is in state RETRY with the time of the next attempt, or FAILED."""
    # A step that ran out of time may be tried again like any other; the StepTimeout that the handler gets in the end is final.
    cause = TimeoutError() if isinstance(error, StepTimeout) else error
    due_ms = next_attempt_ms(retries, len(op.attempts), now_ms=now_ms, error=cause, jitter=jitter)
    told = describe_error(error)
    op.attempts.append([started_ms, now_ms, worker, told["name"], told["message"], told["stack"]])
    if due_ms is not None:
        op.state, op.due, op.error = RETRY, due_ms, None
        return
    op.state, op.due, op.error = FAILED, None, told
    op.started, op.ended, op.worker = started_ms, now_ms, worker


def next_call_ms(
    error: BaseException, retries: Retries, attempt: int, *, now_ms: int, jitter: float
) -> int | None:
    """When (ms) to call the handler again after its code failed outside of steps; None for never. A failed step is final."""
    # As in `fail`: the time limit of the body, which is a StepTimeout of no step.
    cause = TimeoutError() if isinstance(error, StepTimeout) and not error.step_id else error
    return next_attempt_ms(retries, attempt, now_ms=now_ms, error=cause, jitter=jitter)


def step_failed(facts: Facts, step_id: str, op: Operation, *, retries: int, now_ms: int) -> None:
    """Log the attempt that `fail` has recorded."""
    _, _, _, name, message, _ = op.attempts[-1]
    delay_ms = op.due - now_ms if op.state == RETRY and op.due is not None else None
    attempt_failed(facts, {"name": name, "message": message}, step_id, len(op.attempts), retries, delay_ms)
