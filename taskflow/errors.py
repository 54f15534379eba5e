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
├── EventNotFound             no such event, or no worker has routed it yet (S10.1)
├── ReaderTooSlow             a subscriber lets more messages wait than are kept for it (S17.2)
├── TokenRefused              a subscription token is forged, expired, or of another deployment (S17.2)
├── RunFailed                 `Run.result()` of a failed run; carries the run's error
├── RunCancelled              `Run.result()` of a cancelled run
├── RunSkipped                `Run.result()` of a run that flow control or a pause refused (S7, S10.4)
├── RerunRefused              a run can't be rerun, or not with these arguments (S10.3)
├── SoftTimeLimit             raised in a task's code that has taken longer than `timeouts.soft` (S15.2); a TimeoutError too
├── DecodeError               a stored value can't be decoded: its key is wrong, or it is damaged (S12.2)
│   ├── UnknownKey            it is encrypted with a key that this process does not have; runs wait for that (S12.2)
│   └── BlobUnavailable       it lies in an object store that gives no answer; runs wait for that (S12.4)
├── RetryAfterError           user code raises it to say when to try again (S5.3)
├── NonRetriableError         user code raises it, or taskflow one of its subclasses: don't try again (S5.3)
│   ├── StepError             a step is out of retries, or an invoked function failed (S5.4, S3.6)
│   │   └── StepTimeout       a step ran into `timeouts.step` (S6.3)
│   ├── NestedStepError       a step was called inside a step (S3.9)
│   ├── SerializationError    a value has no JSON form, or does not fit its type (S2.6, S11.3)
│   ├── LimitExceeded         too many steps, or too much state (S3.10)
│   ├── NonDeterminismError   the replay met the steps in another order (S4.5)
│   ├── ChordError            members of a group of tasks failed; it lists all (S15.3)
│   └── WorkerLost            the worker process died under the same step again and again (S9.8)
BaseException
└── Suspend                   unwinds a handler whose run goes to sleep (S4.6); never catch it
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import ClassVar


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
    """The store gave no answer within the deadline. Rule S9.5."""


class StoreVersionMismatch(StoreUnavailable):
    """The store holds data that another major version of taskflow wrote."""


class RunNotFound(TaskFlowError):
    """There is no such run, or its retention is over. Rule S10.1."""


class EventNotFound(TaskFlowError):
    """There is no such event, no worker has routed it yet, or its retention is over. Rule S10.1."""


class ReaderTooSlow(TaskFlowError):
    """A subscriber lets more messages wait than are kept for it: it is dropped, and may begin again. Rule S17.2."""


class TokenRefused(TaskFlowError):
    """A subscription token is forged, has expired, or is of another deployment. Rule S17.2."""


class RunFailed(TaskFlowError):
    """The awaited run failed. Rule S5.5.

    `run_id` is the run's id; `name`, `message` and `stack` (str) are class name, text and traceback of the error that ended it.
    """

    def __init__(self, run_id: str, name: str, message: str, stack: str = "") -> None:
        super().__init__(f"run {run_id} failed: {name}: {message}")
        self.run_id = run_id
        self.name = name
        self.message = message
        self.stack = stack


class RunCancelled(TaskFlowError):
    """The awaited run was cancelled; `reason` (str) says by what. Rules S6.1 to S6.3."""

    def __init__(self, run_id: str, reason: str = "") -> None:
        super().__init__(f"run {run_id} was cancelled" + (f": {reason}" if reason else ""))
        self.run_id = run_id
        self.reason = reason


class RunSkipped(TaskFlowError):
    """The awaited run was skipped: flow control or a pause refused it; `reason` (str) says why. Rules S7, S10.4."""

    def __init__(self, run_id: str, reason: str = "") -> None:
        super().__init__(f"run {run_id} was skipped" + (f": {reason}" if reason else ""))
        self.run_id = run_id
        self.reason = reason


class RerunRefused(TaskFlowError):
    """A run can't be rerun: it is still live, or has no such step. No run was made. Rule S10.3."""


class SoftTimeLimit(TaskFlowError, TimeoutError):
    """The code of a task has taken longer than `timeouts.soft`: it may clean up, and end. Rule S15.2."""

    default = "the task has taken longer than timeouts.soft"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(self.default if message is None else message)


class DecodeError(TaskFlowError):
    """A stored value can't be decoded with the app's codecs: the wrong key, or the value is damaged. Rule S12.2.

    A run that needs the value fails without a retry, and its code can't catch this. Rerun it when the cause is gone.
    """

    passes: ClassVar[bool] = False
    """Whether a run that meets the error waits and tries again, until the cause is gone."""


class UnknownKey(DecodeError):
    """A stored value is encrypted with a key that this process does not have. A run that needs it waits for the key. Rule S12.2."""

    passes = True


class BlobUnavailable(DecodeError):
    """A large value can't be read from the object store, or written to it. A run that needs it waits. Rule S12.4."""

    passes = True


class RetryAfterError(TaskFlowError):
    """Raise it in a step or handler to say when the next attempt is. Rule S5.3.

    `delay` is a duration ("30s", seconds or a timedelta) or an aware datetime; None: as `Retries` says. Raises InvalidDuration for
    a datetime without a time zone.

        raise RetryAfterError("rate limited", "30s") from error
    """

    def __init__(self, message: str, delay: str | float | timedelta | datetime | None = None) -> None:
        super().__init__(message)
        if isinstance(delay, datetime) and delay.tzinfo is None:
            raise InvalidDuration(
                f"RetryAfterError({message!r:.80}, ...): the delay has no time zone: {delay!r}. Write an aware datetime, as "
                "datetime.now(UTC) + timedelta(minutes=5), or a duration like '5m'."
            )
        self.delay = delay


class NonRetriableError(TaskFlowError):
    """Raise it in a step or handler to end the retries at once. Rule S5.3.

    raise NonRetriableError(f"there is no customer {customer_id}")
    """


class StepError(NonRetriableError):
    """A step has no retries left, or an invoked function failed. The handler may catch it. Rules S3.6, S5.4.

    All attributes are str: `name` is the class name of the original error, `message` its text, `stack` its traceback, and `step_id`
    the id of the step.
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
    """A value has no JSON form, or does not fit its annotated type; the message names step, path and type. Rules S2.6, S11.3."""


class LimitExceeded(NonRetriableError):
    """A run has too many steps, or a step or run holds too much data. Rule S3.10."""


class NonDeterminismError(NonRetriableError):
    """With determinism="strict": the replay called the steps in another order than before. Rule S4.5."""


class ChordError(NonRetriableError):
    """Members of a group failed. `failures` has the `node`, `name` and `message` of each of them. Rule S15.3."""

    name = "ChordError"
    step_id = ""

    def __init__(self, failures: list[dict[str, str]], *, of: int) -> None:
        told = "; ".join(f"{each['node']}: {each['name']}: {each['message']}" for each in failures)
        self.message = f"{len(failures)} of {of} members of the group failed: {told}"
        super().__init__(self.message)
        self.failures = failures


class WorkerLost(NonRetriableError):
    """Worker processes died under the run `max_crashes` times in a row, without progress in between. Rule S9.8."""


class Suspend(BaseException):
    """Unwinds the handler of a run that is suspended. It is no error: never catch it. Rule S4.6."""
