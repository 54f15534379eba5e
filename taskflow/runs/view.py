"""Makes a `RunView` of a stored run, for the command line, the API and the testing tools. Rules S10.2, S10.5.

`run_view` is a pure function of the stored hash, the stored operations, the time, and the facts around the run.
Times are ms since the epoch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from taskflow.codecs.codecs import NO_CODECS, Codecs
from taskflow.codecs.event_fields import shown_event
from taskflow.run import WAITS, AttemptView, ErrorView, RunStatus, RunView, StepView
from taskflow.runs.awaits import awaited, awaited_data
from taskflow.runs.reasons import (
    NOTHING_KNOWN,
    Moment,
    Surroundings,
    decode_reason,
    queued_reason,
    retry_reason,
    running_reason,
    scheduled_reason,
    step_reason,
    waiting_reason,
)
from taskflow.store.fields import number, text
from taskflow.store.keys import SEPARATOR
from taskflow.store.operation import DONE, EVENT, FAILED, RETRY, SIGNAL, WAIT, Operation
from taskflow.values.text import short

CAUSE_END = re.compile(r"; (?![^()]*\))")  # not the ";" in "killed by signal 9 (SIGKILL; out of memory?)"


def run_view(
    run_id: str,
    fields: Mapping[str, bytes],
    steps: Mapping[str, bytes],
    *,
    codecs: Codecs = NO_CODECS,
    moment: Moment,
    around: Surroundings = NOTHING_KNOWN,
) -> RunView:
    """The view of a run; `fields` is its hash, `steps` has its packed operations by step key."""
    ops = sorted(
        ((key, opened(Operation.unpack(packed), codecs)) for key, packed in steps.items()),
        key=lambda item: item[1].index,
    )
    fields = opened_errors(fields, codecs)
    parent, _, parent_step = text(fields, "parent").partition(SEPARATOR)
    crash_log = text(fields, "crash_log")
    return RunView(
        run_id=run_id,
        function=text(fields, "function"),
        status=RunStatus(text(fields, "status")),
        why=run_reason(fields, [op for _, op in ops], around, moment),
        queue=text(fields, "queue"),
        cause=text(fields, "cause"),
        version=text(fields, "version"),
        event=shown_event(codecs, orjson.loads(fields.get("event") or b"{}")),
        batched=number(fields, "batched") or 1,
        created_ms=number(fields, "created") or 0,
        started_ms=number(fields, "started"),
        ended_ms=number(fields, "ended"),
        due_ms=start_due_ms(fields),
        attempt=number(fields, "attempt") or 0,
        worker=text(fields, "by") or None,
        crashes=tuple(CAUSE_END.split(crash_log)) if crash_log else (),
        rerun_of=text(fields, "rerun_of") or None,
        rerun_by=text(fields, "rerun_by") or None,
        replay_id=text(fields, "replay") or None,
        parent=parent or None,
        parent_step=parent_step or None,
        output=codecs.shown(fields["output"]) if fields.get("output") else None,
        error=stored_error(fields.get("error")),
        last_error=stored_error(fields.get("last_error")),
        failed_attempts=tuple(failed_attempts(fields)),
        progress=orjson.loads(fields["progress"]) if "progress" in fields else None,
        steps={
            key: step_view(key, op, codecs, around, moment, kept=number(fields, "kept") or 0)
            for key, op in ops
        },
    )


def opened(op: Operation, codecs: Codecs) -> Operation:
    """The operation with the texts of its errors as they can be shown here (S12.2)."""
    if op.error is not None:
        op.error = opened_error(op.error, codecs)
    op.attempts = [[*row[:4], *map(codecs.shown_text, row[4:])] for row in op.attempts]
    return op


def opened_errors(fields: Mapping[str, bytes], codecs: Codecs) -> Mapping[str, bytes]:
    """The fields of a run with the texts of its errors as they can be shown here (S12.2)."""
    sealed = [name for name in ("error", "last_error", "earlier_errors") if is_sealed(fields.get(name, b""))]
    changed = {}
    for name in sealed:
        told = [opened_error(each, codecs) for each in orjson.loads(b"[%b]" % fields[name])]
        changed[name] = orjson.dumps(told)[1:-1]
    return {**fields, **changed} if sealed else fields


def is_sealed(errors: bytes) -> bool:
    # The text of an envelope stands in a JSON text, which escapes its quotation marks.
    return b'"{\\"__ENCRYPTED__' in errors


def opened_error(told: Mapping[str, Any], codecs: Codecs) -> dict[str, Any]:
    return {
        **told,
        **{name: codecs.shown_text(told[name]) for name in ("message", "stack") if told.get(name)},
    }


def shown_outcome(op: Operation, codecs: Codecs) -> Any:
    """The outcome of an operation; of a wait the event or the signal that ended it."""
    value = codecs.shown(op.data or b"null")
    if op.kind == EVENT and isinstance(value, dict):
        return shown_event(codecs, value)
    if op.kind == SIGNAL and isinstance(value, dict):
        return {**value, "data": codecs.shown_member(value.get("data"))}
    return value


def run_reason(
    fields: Mapping[str, bytes], ops: list[Operation], around: Surroundings, moment: Moment
) -> str | None:
    """Why the run is not executing, or where it executes, or why it ended; None for a completed run. Rule S10.5."""
    status, error = text(fields, "status"), stored_error(fields.get("error"))
    due_ms = start_due_ms(fields)
    if status == RunStatus.SCHEDULED:
        batched, batch_size = number(fields, "batched") or 0, number(fields, "batch_size") or 0
        gathers, behind = text(fields, "gathers"), text(fields, "behind")
        return scheduled_reason(due_ms, gathers, batched, batch_size, behind, moment)
    if status == RunStatus.QUEUED:
        since_ms = max(
            [number(fields, "score") or number(fields, "created") or 0, *(op.ended or 0 for op in ops)]
        )
        return queued_reason(text(fields, "function"), text(fields, "queue"), since_ms, around, moment)
    if status == RunStatus.RUNNING:
        cancel = stored_error(fields.get("cancel"))
        return running_reason(text(fields, "by"), cancel.message if cancel else None, around, moment)
    if status == RunStatus.WAITING and due_ms is not None:
        last = stored_error(fields.get("last_error"))
        if b'"clear":true' in fields.get("last_error", b""):
            return decode_reason(due_ms, str(last), moment)
        return retry_reason(number(fields, "attempt") or 1, around.retries, due_ms, str(last or ""), moment)
    if status == RunStatus.WAITING:
        return waiting_reason(ops, around, moment)
    if status == RunStatus.SKIPPED:
        return f"skipped: {short(text(fields, 'skipped'))}"
    if status == RunStatus.CANCELLED:
        return f"{status}: {short(error.message)}" if error and error.message else None
    return str(error) if error else None


def failed_attempts(fields: Mapping[str, bytes]) -> Iterator[AttemptView]:
    """The failed attempts at the code outside of steps, since the last step that completed."""
    if number(fields, "attempt"):
        rows = b",".join(fields[name] for name in ("earlier_errors", "last_error") if name in fields)
        for told in orjson.loads(b"[%b]" % rows):
            # In clear is what the run waits for, which is no failure of its code.
            if not told.get("clear"):
                yield AttemptView(
                    told.get("started", 0), told.get("ended", 0), told.get("worker", ""), error_of(told)
                )
    if text(fields, "status") == RunStatus.FAILED and (error := stored_error(fields.get("error"))):
        started_ms = number(fields, "claimed") or number(fields, "started") or 0
        yield AttemptView(started_ms, number(fields, "ended") or 0, text(fields, "by"), error)


def step_view(
    key: str, op: Operation, codecs: Codecs, around: Surroundings, moment: Moment, *, kept: int
) -> StepView:
    """The view of a step. Steps with an `order` below `kept` were taken over from an earlier run."""
    failed = tuple(
        AttemptView(row[0], row[1], row[2], ErrorView(row[3], row[4], row[5] if len(row) > 5 else ""))
        for row in op.attempts
    )
    is_done = op.state == DONE
    starts = [at for at in (op.started, *(attempt.started_ms for attempt in failed)) if at is not None]
    error = op.error or {}
    return StepView(
        key=key,
        kind=op.kind,
        state=op.state,
        started_ms=min(starts, default=None),
        last_started_ms=max(starts, default=None),
        ended_ms=op.ended if op.state in (DONE, FAILED) else None,
        due_ms=op.due if op.state in (WAIT, RETRY) else None,
        attempts=len(failed) + (is_done and op.kind not in WAITS),
        failed_attempts=failed,
        worker=op.worker,
        error=ErrorView(error.get("name", "Error"), error.get("message", ""), error.get("stack") or "")
        if error
        else None,
        child=op.child,
        why=step_reason(op, around, moment),
        is_kept=op.order is not None and op.order < kept,
        awaits=awaited(op),
        awaits_data=awaited_data(op),
        input=codecs.shown(op.input) if op.input else None,
        output=shown_outcome(op, codecs) if is_done and op.data else None,
        has_output=is_done and op.data not in (None, b"null", "null"),
    )


def start_due_ms(fields: Mapping[str, bytes]) -> int | None:
    """When a delayed start, or the next attempt of the handler, is due."""
    if text(fields, "status") == RunStatus.SCHEDULED:
        if "behind" in fields:
            return None
        return number(fields, "due" if "due" in fields else "score")
    return number(fields, "due") if text(fields, "status") == RunStatus.WAITING else None


def stored_error(packed: bytes | None) -> ErrorView | None:
    return error_of(orjson.loads(packed)) if packed else None


def error_of(told: Mapping[str, Any]) -> ErrorView:
    return ErrorView(told.get("name") or "Error", told.get("message") or "", told.get("stack") or "")
