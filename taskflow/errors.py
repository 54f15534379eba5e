"""Every exception of taskflow, in one tree.

TaskFlowError
├── ConfigError               an option, URL, trigger or function definition is wrong (S2.5)
├── ExpressionError           a CEL expression has no value for an event (S2.2)
├── InvalidEvent              an event breaks S1.5; nothing was published
├── InvalidDuration           a duration or a point in time can't be read or is out of range (S3.2)
├── BrokerUnavailable         the broker took nothing within its deadline (S1.2)
├── StoreUnavailable          the store gave no answer within its deadline
│   └── StoreVersionMismatch  the store holds data of another major version
├── RunNotFound               no such run, or its retention is over (S10.1)
├── EventNotFound             no such event, or none that a worker has routed so far (S10.1)
├── RunFailed                 `Run.result()` of a failed run; carries the run's error
├── RunCancelled              `Run.result()` of a cancelled run
├── RunSkipped                `Run.result()` of a run that flow control did not let be (S7)
├── RerunRefused              a run can't be rerun, or not like that (S10.3)
├── RetryAfterError           raised by user code: try again then (S5.3)
├── NonRetriableError         raised by user code, or by a subclass here: don't try again (S5.3)
│   ├── StepError             a step is out of retries, or an invoked function failed (S5.4, S3.6)
│   │   └── StepTimeout       a step ran into `timeouts.step` (S6.3)
│   ├── NestedStepError       a step inside a step (S3.9)
│   ├── SerializationError    a value that is no JSON (S2.6)
│   ├── LimitExceeded         too many steps, or too much state (S3.10)
│   ├── NonDeterminismError   the replay met the steps in another order (S4.5)
│   └── WorkerLost            the worker process died under the same step again and again (S9.8)
BaseException
└── Suspend                   unwinds a handler whose run goes to sleep (S4.6); never catch it
"""

from __future__ import annotations

from datetime import datetime, timedelta


class TaskFlowError(Exception):
    """Base of every error that taskflow raises."""


class ConfigError(TaskFlowError):
    """An option, URL, trigger or function definition is wrong. Rule S2.5."""


class ExpressionError(TaskFlowError):
    """A CEL expression has no value for this event: a field is missing, or the types don't fit. Rule S2.2."""


class InvalidEvent(TaskFlowError):
    """An event breaks a limit of S1.5. Nothing was published."""


class InvalidDuration(TaskFlowError, ValueError):
    """A duration or a point in time can't be read, is negative, or is too far off. Rule S3.2."""


class BrokerUnavailable(TaskFlowError):
    """The broker took nothing within the deadline. Rule S1.2."""


class StoreUnavailable(TaskFlowError):
    """The store gave no answer within the deadline."""


class StoreVersionMismatch(StoreUnavailable):
    """The store holds data that another major version of taskflow wrote."""


class RunNotFound(TaskFlowError):
    """There is no such run, or its retention is over. Rule S10.1."""


class EventNotFound(TaskFlowError):
    """There is no such event, no worker has routed it so far, or its retention is over. Rule S10.1."""


class RunFailed(TaskFlowError):
    """The awaited run failed.

    `run_id` names it; `name`, `message` and `stack` are those of the error that ended it.
    """

    def __init__(self, run_id: str, name: str, message: str, stack: str = "") -> None:
        super().__init__(f"run {run_id} failed: {name}: {message}")
        self.run_id = run_id
        self.name = name
        self.message = message
        self.stack = stack


class RunCancelled(TaskFlowError):
    """The awaited run was cancelled; `reason` says by what."""

    def __init__(self, run_id: str, reason: str = "") -> None:
        super().__init__(f"run {run_id} was cancelled" + (f": {reason}" if reason else ""))
        self.run_id = run_id
        self.reason = reason


class RunSkipped(TaskFlowError):
    """The awaited run was skipped: flow control or a pause refused it; `reason` says why. Rules S7, S10.4."""

    def __init__(self, run_id: str, reason: str = "") -> None:
        super().__init__(f"run {run_id} was skipped" + (f": {reason}" if reason else ""))
        self.run_id = run_id
        self.reason = reason


class RerunRefused(TaskFlowError):
    """A run can't be rerun, or not like that: it is live, or has no such step. Nothing was made. Rule S10.3."""


class RetryAfterError(TaskFlowError):
    """Raise it in a step or handler to choose the next attempt. Rule S5.3.

    `delay` is a duration ("30s", seconds or a timedelta) or an aware datetime; InvalidDuration for one without a time zone.

        raise RetryAfterError("rate limited", "30s") from error
    """

    def __init__(self, message: str, delay: str | float | timedelta | datetime) -> None:
        super().__init__(message)
        if isinstance(delay, datetime) and delay.tzinfo is None:
            raise InvalidDuration(
                f"RetryAfterError({message!r:.80}, ...): the delay has no time zone: {delay!r}. Write an aware datetime, as "
                "datetime.now(UTC) + timedelta(minutes=5), or a duration like '5m'."
            )
        self.delay = delay


class NonRetriableError(TaskFlowError):
    """Raise it in a step or handler to end the retries at once. Rule S5.3."""


class StepError(NonRetriableError):
    """A step is out of retries, or an invoked function failed. Rules S3.6, S5.4.

    `name` is the class name of the original error, `message` its text, `step_id` the step, `stack` its traceback as text.
    """

    def __init__(self, message: str, *, name: str = "StepError", step_id: str = "", stack: str = "") -> None:
        super().__init__(message)
        self.name = name
        self.message = message
        self.step_id = step_id
        self.stack = stack


class StepTimeout(StepError):
    """A step took longer than `timeouts.step`. Rule S6.3."""


class NestedStepError(NonRetriableError):
    """A step was called inside another step. Rule S3.9."""


class SerializationError(NonRetriableError):
    """A handler or step returned a value that has no JSON form. Rule S2.6."""


class LimitExceeded(NonRetriableError):
    """A run has too many steps, or a step or run holds too much data. Rule S3.10."""


class NonDeterminismError(NonRetriableError):
    """With determinism="strict": the replay met other steps than the memos say. Rule S4.5."""


class WorkerLost(NonRetriableError):
    """The worker process died `max_crashes` times under the same step. Rule S9.8."""


class Suspend(BaseException):
    """Unwinds a handler whose run is suspended. No error: never catch it. Rule S4.6."""
