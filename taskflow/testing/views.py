"""Runs and steps as a test sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from taskflow.codec import from_json
from taskflow.engine.operation import Operation
from taskflow.handle import RunStatus
from taskflow.store.history import StoredRun


@dataclass(frozen=True, slots=True)
class StepView:
    """What is stored of one step. `key` is its id, with #1, #2, ... when the id was used before (S3.8)."""

    key: str
    kind: str  # step, sleep, event, invoke
    state: str  # done, failed, wait, retry, due, dropped
    result: Any  # None until it is done
    error: dict[str, Any] | None  # name, message and stack of the final error
    failed_attempts: int
    due_ms: int | None  # of a sleep, retry or timeout


@dataclass(frozen=True, slots=True)
class RunView:
    """What is stored of one run. `error` has name, message and stack."""

    run_id: str
    function_id: str
    status: RunStatus
    cause: str  # event, cron or invoke
    attempt: int  # of the code between the steps
    output: Any
    error: dict[str, Any] | None
    created_ms: int
    started_ms: int | None
    ended_ms: int | None
    steps: dict[str, StepView]  # by key, in the order of the calls


def view_of(run: StoredRun) -> RunView:
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
        steps={key: view_of_step(key, op) for key, op in in_order},
    )


def view_of_step(key: str, op: Operation) -> StepView:
    return StepView(
        key=key,
        kind=op.kind,
        state=op.state,
        result=None if op.data is None else from_json(op.data),
        error=op.error,
        failed_attempts=len(op.attempts),
        due_ms=op.due,
    )


def optional_int(value: bytes | None) -> int | None:
    return None if value is None else int(value)
