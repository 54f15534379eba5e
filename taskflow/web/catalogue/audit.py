"""The audit list: who changed what, when, why, and with which outcome. Rule S14.4."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self, TypedDict, cast

import orjson

from taskflow.errors import StoreUnavailable
from taskflow.web.catalogue.fields import wanted
from taskflow.web.catalogue.operation import Desk, Operation, Scope, operation
from taskflow.web.catalogue.problems import Kind, Problem
from taskflow.web.catalogue.runs import MAX_PAGE

logger = logging.getLogger("taskflow.web")

MAX_VALUE_CHARS = 200
PRIVATE = ("data", "output", "user", "headers")  # what the list leaves out: it is long, and may be secret


class EntryJson(TypedDict):
    """A write: `what` is the operation, `given` its fields without data; the outcome is "done", or the code of a problem."""

    id: str
    at_ms: int
    who: str
    what: str
    given: dict[str, str]
    why: str
    outcome: str


class AuditJson(TypedDict):
    """A page of writes, newest first. `next` is the cursor of the next page; null on the last one."""

    entries: list[EntryJson]
    next: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A write, as it is noted."""

    who: str
    what: str
    given: Mapping[str, str]
    why: str
    outcome: str

    @classmethod
    def of(cls, who: str, what: str, given: Mapping[str, Any], *, why: str, outcome: str) -> Self:
        shown = {
            name: str(value)[:MAX_VALUE_CHARS]
            for name, value in given.items()
            if name not in (*PRIVATE, "reason") and value is not None
        }
        return cls(who, what, shown, why[:MAX_VALUE_CHARS], outcome)


@dataclass(frozen=True, slots=True)
class ListAudit:
    limit: int = wanted("At most so many.", default=20, minimum=1, maximum=MAX_PAGE)
    cursor: str | None = wanted("Where to go on: `next` of the page before.", default=None, max_chars=40)


async def note(desk: Desk, entry: Entry) -> None:
    """Add a write to the list. If the store is away, the log has it: what was done stays done."""
    try:
        async with desk.store() as (store, moment):
            await store.clients.note_write(orjson.dumps({"at_ms": moment.now_ms, **asdict(entry)}))
    except StoreUnavailable as error:
        logger.warning("a write is not in the audit list: %s by %s (%s)", entry.what, entry.who, error)


async def call_and_note(
    operation: Operation, desk: Desk, given: Mapping[str, Any], *, who: str, why: str = ""
) -> Any:
    """The answer of an operation. A write is noted with its outcome, with `reason` of the request if `why` is not given."""
    outcome = "done"
    try:
        return await operation.call(replace(desk, who=who), given)
    except Problem as problem:
        outcome = problem.kind.code
        raise
    finally:
        if operation.is_noted:
            why = why or str(given.get("reason") or "")
            await note(desk, Entry.of(who, operation.name, given, why=why, outcome=outcome))


@operation("audit.list", "GET", "/audit", Scope.ADMIN)
async def list_audit(desk: Desk, request: ListAudit) -> AuditJson:
    """List who changed what, newest first."""
    if request.cursor is not None and not request.cursor.replace("-", "", 1).isdecimal():
        raise Problem(
            Kind.INVALID_FIELD, f"cursor must be `next` of the page before, got {request.cursor!r:.60}"
        )
    async with desk.store() as (store, _):
        rows = await store.clients.writes(limit=request.limit + 1, before=request.cursor)
    page = rows[: request.limit]
    entries = [cast(EntryJson, {"id": entry_id, **orjson.loads(text)}) for entry_id, text in page]
    return {"entries": entries, "next": page[-1][0] if len(rows) > request.limit else None}


OPERATIONS = (list_audit,)
