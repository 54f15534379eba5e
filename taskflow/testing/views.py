"""Runs and steps as a test sees them. A plain `assert` on a field is enough; what a view itself raises shows the run's timeline."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from taskflow.run import RunStatus
from taskflow.runs.view import WAITS
from taskflow.store.history import StoredRun
from taskflow.store.operation import DONE, FAILED, PENDING, Operation
from taskflow.values.json import from_json


class Anything:
    """Stands for "not checked", as None is an output like any other."""

    def __repr__(self) -> str:
        return "anything"


ANYTHING = Anything()


@dataclass(frozen=True, slots=True)
class StepView:
    """What is stored of one step. `key` is its id, with #1, #2, ... when the id was used before (S3.8)."""

    key: str
    kind: str  # step, sleep, event, signal, invoke
    state: str  # done, failed, wait, retry, due, dropped
    result: Any  # None until it is done
    error: dict[str, Any] | None  # name, message and stack of the final error
    failed_attempts: int
    due_ms: int | None  # of a sleep, retry or timeout
    attempts: int = 0  # that have ended, the successful one included; 0 for what only waits
    page: str = field(default="", repr=False, compare=False)  # of its run

    def assert_completed(self, output: Any = ANYTHING, *, attempts: int | None = None) -> None:
        """The step is done, with this output and after so many attempts, if given. AssertionError with the run's page."""
        self.check(self.state == DONE, f"to be done, but it is {self.told()}")
        self.check(
            output is ANYTHING or self.result == output,
            f"to return {output!r}, but it returned {self.result!r}",
        )
        self.check_attempts(attempts)

    def assert_failed(self, error: str | None = None, *, attempts: int | None = None) -> None:
        """The step has no retries left. `error` is part of "Name: message" of its last error."""
        self.check(self.state == FAILED, f"to have failed, but it is {self.told()}")
        self.check(error is None or error in self.told(), f"to fail with {error!r}, but it is {self.told()}")
        self.check_attempts(attempts)

    def assert_pending(self) -> None:
        """The step waits: for time, an event, a signal, another run, or its next attempt."""
        self.check(self.state in PENDING, f"to wait, but it is {self.told()}")

    def check_attempts(self, attempts: int | None) -> None:
        self.check(
            attempts in (None, self.attempts), f"to take {attempts} attempts, but it took {self.attempts}"
        )

    def check(self, holds: bool, wanted: str) -> None:
        if not holds:
            raise AssertionError(f"expected step {self.key!r} {wanted}\n{self.page}")

    def told(self) -> str:
        """Its state, with the error when there is one."""
        return f"{self.state} ({self.error['name']}: {self.error['message']})" if self.error else self.state


@dataclass(frozen=True, slots=True)
class RunView:
    """What is stored of one run. `error` has name, message and stack. `page` is what `taskflow runs show` prints."""

    run_id: str
    function_id: str
    status: RunStatus
    cause: str  # event, cron, invoke, rerun, replay
    attempt: int  # of the code between the steps
    output: Any
    error: dict[str, Any] | None
    created_ms: int
    started_ms: int | None
    ended_ms: int | None
    steps: dict[str, StepView]  # by key, in the order of the calls
    page: str = field(default="", repr=False, compare=False)

    def step(self, key: str) -> StepView:
        """The step of that id; `charge#1` is the second "charge". AssertionError when the run did not come to it."""
        if key not in self.steps:
            raise AssertionError(
                f"run {self.run_id} has no step {key!r}, only {list(self.steps) or 'none at all'}\n{self.page}"
            )
        return self.steps[key]


def view_of(run: StoredRun, *, page: str = "") -> RunView:
    """The view of a stored run."""
    fields = run.fields
    operations = {key: Operation.unpack(packed) for key, packed in run.steps.items()}
    in_order = sorted(operations.items(), key=lambda item: item[1].index)
    output, error = fields.get("output"), fields.get("error")
    return RunView(
        run_id=run.run_id,
        function_id=fields["function"].decode(),
        status=RunStatus(fields["status"].decode()),
        cause=fields["cause"].decode(),
        attempt=int(fields.get("attempt", 0)),
        output=None if output is None else from_json(output),
        error=None if error is None else orjson.loads(error),
        created_ms=int(fields["created"]),
        started_ms=optional_int(fields.get("started")),
        ended_ms=optional_int(fields.get("ended")),
        steps={key: view_of_step(key, op, page=page) for key, op in in_order},
        page=page,
    )


def view_of_step(key: str, op: Operation, *, page: str = "") -> StepView:
    succeeded = op.state == DONE and op.kind not in WAITS
    return StepView(
        key=key,
        kind=op.kind,
        state=op.state,
        result=None if op.data is None else from_json(op.data),
        error=op.error,
        failed_attempts=len(op.attempts),
        due_ms=op.due,
        attempts=len(op.attempts) + succeeded,
        page=page,
    )


def optional_int(value: bytes | None) -> int | None:
    return None if value is None else int(value)
