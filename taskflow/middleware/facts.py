"""Facts that the methods of a middleware get: about an activation, about an attempt, and how it ended. Rule S11.4."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from taskflow.event import ReceivedEvent

Status = Literal["completed", "failed", "skipped", "suspended", "cancelled", "handed back", "lost"]


class Outcome(NamedTuple):
    """How user code ended: a value, never an exception. What a `call()` gives, and what the methods `on_..._end` get.

    status  "completed", with the `value` that was returned; "failed", with the `error` that was raised. An activation also ends
            "suspended" (it sleeps or waits), "cancelled", "handed back" (its worker drains, or its function was paused), or
            "lost" (another process has the run now). Code of an attempt that was cancelled by its own run is "cancelled" too. A run
            that takes none of its events ends "skipped" (S11.2).

    `result()` is for code that expects an exception: `async with session.begin(): (await call()).result()`.
    """

    status: Status
    value: Any = None
    error: BaseException | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the code came to its end: it returned or raised."""
        return self.status == "completed" or self.status == "failed"

    def result(self) -> Any:
        """The value; None if the code did not come to its end. Raises the error of code that failed."""
        try:
            if self.error is not None:
                raise self.error
            return self.value
        finally:
            # The traceback refers to this frame: the error would refer to itself.
            del self


# Not frozen: a frozen dataclass takes four times as long to make. Middleware reads these, and writes into `state` only.
@dataclass(slots=True, kw_only=True, eq=False)
class Activation:
    """A run while a process has it: from a claim to its end, suspension or hand-back. Rule S4.3.

    run_id, function_id, app_id
    event           the event that started the run, as it was received
    events          all events of a batch; otherwise only `event`
    attempt         number of the attempt at the code between the steps, from 0
    is_first        whether no earlier activation of the run got anywhere: `on_run_start` is called, not `on_resume`
    offered_step    key of the first step for whose sake the process replays the handler; empty for the run itself (S4.4)
    worker          id of the process
    created_ms      when the run was made; started_ms: when it was first claimed; claimed_ms: when it was claimed this time
    queue_wait_ms   of a first activation, how long the run could have begun; None for later ones
    ended_ms        when it ended here; None before
    state           for the middleware: what it wants to find again in this activation
    """

    run_id: str
    function_id: str
    app_id: str
    event: ReceivedEvent
    events: list[ReceivedEvent]
    attempt: int
    is_first: bool
    offered_step: str
    worker: str
    created_ms: int
    started_ms: int
    claimed_ms: int
    queue_wait_ms: int | None
    ended_ms: int | None = None
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the run (S11.1)."""
        return self.event.headers


class Attempt:
    """One execution of user code: of a step's function, or of the handler in one activation.

    run         the activation in which it happens
    step_id     the id of the step, as written; empty for the handler
    step_key    the same with its number, when the id was used before (S3.8)
    number      of the attempt, from 0
    started_ms  and `ended_ms`, which is None before the end
    state       for the middleware: what it wants to find again in this attempt
    """

    __slots__ = ("_state", "ended_ms", "number", "run", "started_ms", "step_id", "step_key")

    def __init__(self, run: Activation, step_id: str, step_key: str, number: int, started_ms: int) -> None:
        self.run = run
        self.step_id = step_id
        self.step_key = step_key
        self.number = number
        self.started_ms = started_ms
        self.ended_ms: int | None = None
        self._state: dict[str, Any] | None = None

    @property
    def state(self) -> dict[str, Any]:
        if self._state is None:
            self._state = {}
        return self._state

    @property
    def is_handler(self) -> bool:
        """Whether the code is the handler's, and not a step's function."""
        return not self.step_id
