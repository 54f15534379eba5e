"""Bulk operations: cancel, or rerun, all runs that match; kept as a record that beat carries on. Rule S14.6.

So they survive their caller and any beat, show how far they are, and can be stopped. A portion is safe to repeat: what cancels runs
notes its progress in the same script, and the ids of reruns derive from the operation's id and the first run's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import Any, Self

import orjson

from taskflow.errors import ConfigError, TaskFlowError
from taskflow.expressions.cel import Expression, compile_expression
from taskflow.function import FunctionSpec
from taskflow.run import FINAL
from taskflow.runs.counts import count_all
from taskflow.runs.lookup import spec_in
from taskflow.runs.pages import RunPages
from taskflow.runs.rerun import plan_rerun
from taskflow.runs.selection import LIVE, Selection, meets
from taskflow.store.bulk import DueCancel, StoredBulk, place_text
from taskflow.store.control import Rerun, cancel_reason
from taskflow.store.fields import number, text
from taskflow.store.hints import Hint
from taskflow.store.history import StoredRun
from taskflow.store.keys import SEPARATOR
from taskflow.store.listing import Place
from taskflow.store.store import Store
from taskflow.values.ids import run_id_for
from taskflow.values.record import record
from taskflow.values.text import short

PORTION = 100  # runs that are read and acted on at a time
MOST_PROBLEMS = 10
COUNTED = 1_000  # runs in one round trip when they are counted one by one
DEFAULT_STATUSES = {"cancel": LIVE, "rerun": frozenset(("failed", "cancelled", "skipped"))}


class BulkAction(StrEnum):
    """What is done to the runs of a bulk operation."""

    CANCEL = "cancel"
    RERUN = "rerun"


@record(kw_only=True)
class BulkRequest:
    """What is to be done to which runs, and who asked for it. Times are ms since the epoch.

    `functions` are full ids; None stands for all. `statuses` are never empty. `over_ms`: over how long the starts of reruns are
    spread. `total` is the number of runs that matched when it was asked for.
    """

    action: BulkAction
    functions: tuple[str, ...] | None
    statuses: tuple[str, ...]
    since_ms: int | None
    until_ms: int
    if_exp: str | None
    over_ms: int
    reason: str
    who: str
    created_ms: int
    total: int = 0

    @classmethod
    def plan(
        cls,
        action: BulkAction,
        functions: Sequence[str] | None,
        *,
        statuses: Collection[str] = (),
        since_ms: int | None = None,
        until_ms: int | None = None,
        if_exp: str | None = None,
        over_ms: int = 0,
        reason: str = "",
        who: str,
        now_ms: int,
    ) -> Self:
        """Check a request. It never concerns runs that are made after it. Raises ConfigError."""
        allowed = LIVE if action is BulkAction.CANCEL else frozenset(FINAL)
        chosen = frozenset(statuses) or DEFAULT_STATUSES[action]
        if not chosen <= allowed:
            raise ConfigError(
                f"{action} concerns runs whose status is one of {', '.join(sorted(allowed))}, got {', '.join(sorted(chosen))}"
            )
        if over_ms and action is BulkAction.CANCEL:
            raise ConfigError("over spreads the starts of reruns: runs are cancelled as soon as may be")
        if if_exp is not None:
            compile_expression(if_exp, what="if_exp")
        return cls(
            action=action, functions=None if functions is None else tuple(functions), statuses=tuple(sorted(chosen)),
            since_ms=since_ms, until_ms=now_ms if until_ms is None else min(until_ms, now_ms), if_exp=if_exp, over_ms=over_ms,
            reason=reason, who=who, created_ms=now_ms,
        )  # fmt: skip

    def dump(self) -> bytes:
        return orjson.dumps(asdict(self))

    @classmethod
    def load(cls, told: bytes) -> Self:
        fields = orjson.loads(told)
        functions = fields.pop("functions")
        return cls(**{
            **fields, "action": BulkAction(fields["action"]), "statuses": tuple(fields["statuses"]),
            "functions": None if functions is None else tuple(functions),
        })  # fmt: skip

    def condition(self) -> Expression | None:
        return None if self.if_exp is None else compile_expression(self.if_exp, what="if_exp")

    def selection(self) -> Selection:
        return Selection(
            functions=self.functions,
            statuses=frozenset(self.statuses),
            since_ms=self.since_ms,
            until_ms=self.until_ms,
            condition=self.condition(),
        )

    def pages(self, store: Store, place: Place | None = None) -> RunPages:
        """Its runs, the oldest first."""
        return RunPages(
            store, self.functions, since_ms=self.since_ms, until_ms=self.until_ms, statuses=self.statuses, after=place,
            oldest_first=True,
        )  # fmt: skip


@record(kw_only=True)
class BulkView:
    """A bulk operation: what was asked, and how far it is. `problems` say why the first runs failed to be done."""

    id: str
    request: BulkRequest
    status: str
    looked: int
    done: int
    failed: int
    problems: Sequence[str]
    ended_ms: int | None

    @classmethod
    def of(cls, stored: StoredBulk) -> Self:
        return cls(
            id=stored.id, request=BulkRequest.load(stored.asked), status=stored.status.value, looked=stored.looked,
            done=stored.done, failed=stored.failed, problems=orjson.loads(stored.problems), ended_ms=stored.ended_ms,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        asked = asdict(self.request)
        functions = asked.pop("functions")
        return {
            "id": self.id, **asked, "functions": None if functions is None else list(functions),
            "statuses": list(self.request.statuses), "status": self.status, "looked": self.looked, "done": self.done,
            "failed": self.failed, "problems": list(self.problems), "ended_ms": self.ended_ms,
        }  # fmt: skip


async def count_matching(store: Store, request: BulkRequest) -> int:
    """How many runs the operation concerns now. With a condition, or for some live statuses within a time, it reads them all."""
    statuses = frozenset(request.statuses)
    is_all_of_live = not statuses & LIVE or statuses >= LIVE
    if request.if_exp is None and is_all_of_live:
        counts = await store.listing.count(
            request.functions, since_ms=request.since_ms, until_ms=request.until_ms
        )
        completed = max(0, counts[""] - sum(count for kind, count in counts.items() if kind))
        by_status = {**counts, "completed": completed}
        live = counts["live"] if statuses & LIVE else 0
        return live + sum(by_status[status] for status in statuses - LIVE)
    if request.if_exp is None and request.since_ms is None and request.until_ms == request.created_ms:
        return (await count_all(store, request.functions)).of(statuses)
    pages, selection, count = request.pages(store), request.selection(), 0
    while not pages.is_over:
        run_ids = await pages.look(COUNTED)
        if request.if_exp is None:
            count += len(run_ids)
        else:
            rows = await store.history.many(run_ids, ("status", "event"))
            count += sum(meets(selection, fields) for fields in rows)
    return count


async def carry_on(store: Store, stored: StoredBulk, *, max_event_bytes: int, now_ms: int) -> list[Hint]:
    """Do the next portion of a bulk operation; returns what the broker is to be told."""
    request = BulkRequest.load(stored.asked)
    pages, selection = request.pages(store, stored.place), request.selection()
    run_ids = await pages.look(PORTION)
    wanted = ("status", "created", *(("event",) if request.if_exp else ()))
    if request.action is BulkAction.RERUN:
        wanted = ("status", "created", "event", "function", "queue", "batched", "rerun_by")
    rows = await store.history.many(run_ids, wanted)
    found = [
        StoredRun(run_id, fields, {})
        for run_id, fields in zip(run_ids, rows, strict=True)
        if fields and meets(selection, fields)
    ]
    if request.action is BulkAction.CANCEL:
        due = [DueCancel(run.run_id, place_text(place_of(run))) for run in found]
        _, hints = await store.bulks.advance(
            stored, place=pages.place, reason=cancel_reason(request.reason), cancelled=due, now_ms=now_ms
        )
        return hints
    portion = Portion(store, stored, request, max_event_bytes=max_event_bytes, now_ms=now_ms)
    return await portion.rerun(found, pages.place)


def place_of(run: StoredRun) -> Place:
    return Place(number(run.fields, "created") or 0, run.run_id)


class Portion:
    """Makes the reruns of one portion."""

    def __init__(
        self, store: Store, stored: StoredBulk, request: BulkRequest, *, max_event_bytes: int, now_ms: int
    ) -> None:
        self.store = store
        self.stored = stored
        self.request = request
        self.max_event_bytes = max_event_bytes
        self.now_ms = now_ms
        self.problems: list[str] = []

    async def rerun(self, found: Sequence[StoredRun], place: Place | None) -> list[Hint]:
        """Make the reruns of these runs, and note that."""
        due = [run for run in found if text(run.fields, "rerun_by") in ("", self.new_id(run))]
        specs = await self.specs({text(run.fields, "function") for run in due})
        outcomes = await asyncio.gather(
            *[
                self.rerun_one(run, specs[text(run.fields, "function")], number_)
                for number_, run in enumerate(due)
            ]
        )
        made = [hints for hints in outcomes if hints is not None]
        known: list[str] = orjson.loads(self.stored.problems)
        problems = list(dict.fromkeys([*known, *self.problems]))[:MOST_PROBLEMS]
        await self.store.bulks.advance(
            self.stored, place=place, looked=len(due), done=len(made), failed=len(due) - len(made),
            problems=orjson.dumps(problems) if problems != known else b"", now_ms=self.now_ms,
        )  # fmt: skip
        return list(dict.fromkeys(hint for hints in made for hint in hints))

    async def specs(self, functions: Collection[str]) -> Mapping[str, FunctionSpec | None]:
        found = await asyncio.gather(*[spec_in(self.store, function) for function in functions])
        return dict(zip(functions, found, strict=True))

    async def rerun_one(self, run: StoredRun, spec: FunctionSpec | None, number_: int) -> list[Hint] | None:
        """Make the rerun of one run, unless it is made; None if that failed."""
        function = text(run.fields, "function")
        if spec is None:
            self.problems.append(f"no worker has registered the function {function}")
            return None
        try:
            plan = plan_rerun(
                run, spec, new_id=run_id_for(self.uid(run), spec.id), start_at_ms=self.start_at_ms(number_),
                max_event_bytes=self.max_event_bytes, codecs=self.store.codecs, now_ms=self.now_ms,
            )  # fmt: skip
        except TaskFlowError as error:
            self.problems.append(short(f"{function}: {error}"))
            return None
        outcome, hints = await self.store.steering.rerun(
            run.run_id, plan.run, cause="replay", replay_id=self.stored.id, now_ms=self.now_ms
        )
        if outcome in (Rerun.MADE, Rerun.KNOWN):
            return hints
        self.problems.append(f"{function}: a run was removed, or went on, meanwhile")
        return None

    def start_at_ms(self, number_: int) -> int:
        """When the rerun of this number in the portion is to start: the starts are spread evenly, from the oldest run on."""
        if not self.request.over_ms:
            return 0
        place = min(self.stored.looked + number_, self.request.total)
        return self.request.created_ms + self.request.over_ms * place // max(1, self.request.total)

    def uid(self, run: StoredRun) -> str:
        """What the id of the new run is made of: always the same for one run and one operation."""
        source = SEPARATOR.join(("bulk", self.stored.id, run.run_id))
        return self.store.registry.derive_uid(source, number(run.fields, "created") or 0)

    def new_id(self, run: StoredRun) -> str:
        return run_id_for(self.uid(run), text(run.fields, "function"))
