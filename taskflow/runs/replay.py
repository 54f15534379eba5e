"""Replay in bulk: reruns runs of a function that failed, were cancelled or were skipped, spread over time. Rule S10.3.

The ids of the new runs derive from the replay's id and from the first runs' ids. So a replay that was broken off can be called
again, and goes on where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Required, TypedDict

from taskflow.errors import ConfigError
from taskflow.expressions.cel import compile_expression
from taskflow.function import FunctionSpec
from taskflow.run import FINAL
from taskflow.runs.pages import PAGE
from taskflow.runs.rerun import plan_rerun
from taskflow.runs.selection import Past, Selection, parse_past_ms, selected_runs
from taskflow.store.control import Rerun
from taskflow.store.fields import number, text
from taskflow.store.hints import Hint
from taskflow.store.history import StoredRun
from taskflow.store.keys import SEPARATOR
from taskflow.store.session import StoreSession
from taskflow.store.store import Store
from taskflow.types import Duration, RunId
from taskflow.values.durations import parse_duration_ms
from taskflow.values.ids import new_ulid, run_id_for
from taskflow.values.record import record

CAUSE = "replay"
REPLAYED = (
    "failed",
    "cancelled",
    "skipped",
)  # the statuses that are replayed by default
NEEDED = ("status", "event", "created", "batched")
PAUSED = "paused"  # the reason of a run that was skipped because its function was paused


class ReplayOptions(TypedDict, total=False):
    """The options that say which runs `replay` runs anew, and when.

    since, until  the time when the runs were made: "1d" (a day ago), a timedelta, an aware datetime, or ISO-8601 text
    status        one or several of completed, failed, cancelled, skipped; by default the last three
    if_exp        CEL over the runs' event
    over          a duration over which the starts are spread evenly
    replay_id     an id of your own: with it the call can be repeated after a crash, and no run is replayed twice
    """

    since: Required[Past]
    until: Past | None
    status: Sequence[str]
    if_exp: str | None
    over: Duration
    replay_id: str | None


@record(kw_only=True)
class ReplayRequest:
    """The checked options of a replay: which runs of a function, and over how long (ms) to spread their starts."""

    spec: FunctionSpec
    selection: Selection
    replay_id: str
    over_ms: int = 0
    skipped_for: str | None = None  # replay skipped runs only if they have this reason


def plan_replay(
    spec: FunctionSpec,
    *,
    since: Past,
    until: Past | None = None,
    status: Sequence[str] = REPLAYED,
    if_exp: str | None = None,
    over: Duration = 0,
    replay_id: str | None = None,
    skipped_for: str | None = None,
    now_ms: int,
) -> ReplayRequest:
    """Check the options of a replay. Raises ConfigError, InvalidDuration."""
    statuses = frozenset([status] if isinstance(status, str) else status)
    if not statuses or not statuses <= set(FINAL):
        raise ConfigError(
            f"replay: status must name statuses of runs that have ended ({', '.join(sorted(FINAL))}), got {status!r:.80}"
        )
    selection = Selection(
        functions=(spec.id,),
        statuses=statuses,
        since_ms=parse_past_ms(since, now_ms=now_ms, what="replay: since"),
        until_ms=now_ms if until is None else parse_past_ms(until, now_ms=now_ms, what="replay: until"),
        condition=None if if_exp is None else compile_expression(if_exp, what="replay: if_exp"),
    )
    over_ms = parse_duration_ms(over, what="replay: over")
    return ReplayRequest(
        spec=spec,
        selection=selection,
        replay_id=replay_id or new_ulid(now_ms),
        over_ms=over_ms,
        skipped_for=skipped_for,
    )


async def find_runs(session: StoreSession, request: ReplayRequest) -> list[str]:
    """The runs to replay, oldest first.

    Runs that were rerun before are left out, since the rerun stands for them; so are runs that this replay has made.
    Raises StoreUnavailable.
    """
    found: list[str] = []
    pages = selected_runs(await session.store(), request.selection, "rerun_by", "replay", "skipped")
    while True:
        async with session.deadline():
            page = await anext(pages, None)
        if page is None:
            return found[::-1]
        found += [run_id for run_id, fields in page if is_wanted(request, fields)]


def is_wanted(request: ReplayRequest, fields: Mapping[str, bytes]) -> bool:
    """Whether to replay the run: it was not rerun before, this replay has not made it, and it was skipped for the right reason."""
    if "rerun_by" in fields or text(fields, "replay") == request.replay_id:
        return False
    return request.skipped_for is None or text(fields, "skipped") in ("", request.skipped_for)


async def replay_runs(
    session: StoreSession,
    request: ReplayRequest,
    run_ids: Sequence[str],
    *,
    now_ms: int,
    max_event_bytes: int,
    tell: Callable[[Sequence[Hint]], Awaitable[None]],
    on_progress: Callable[[int], object],
) -> int:
    """Make the reruns, and return how many; after every 100 runs `on_progress` gets the number so far.

    Raises StoreUnavailable. Then the reruns of earlier pages are made, and the same call again makes the others.
    """
    made = 0
    for first in range(0, len(run_ids), PAGE):
        page = run_ids[first : first + PAGE]
        starts = [
            now_ms + request.over_ms * place // len(run_ids) for place in range(first, first + len(page))
        ]
        async with session.deadline() as store:
            rows = await store.history.many(page, NEEDED)
            stored = [StoredRun(run_id, fields, {}) for run_id, fields in zip(page, rows, strict=True)]
            replies = await asyncio.gather(
                *[
                    replay_run(
                        store,
                        request,
                        run,
                        start_at_ms=start_ms,
                        now_ms=now_ms,
                        max_event_bytes=max_event_bytes,
                    )
                    for run, start_ms in zip(stored, starts, strict=True)
                    if run.fields  # else the run was removed meanwhile
                ]
            )
        made += sum(outcome is Rerun.MADE for outcome, _ in replies)
        await tell(list(dict.fromkeys(hint for _, hints in replies for hint in hints)))
        on_progress(first + len(page))
    return made


async def replay_run(
    store: Store,
    request: ReplayRequest,
    run: StoredRun,
    *,
    start_at_ms: int,
    now_ms: int,
    max_event_bytes: int,
) -> tuple[Rerun, list[Hint]]:
    """Make the rerun of one run, which starts at `start_at_ms`."""
    plan = plan_rerun(
        run, request.spec, new_id=new_run_id(store, request, run), start_at_ms=start_at_ms, max_event_bytes=max_event_bytes,
        codecs=store.codecs, now_ms=now_ms,
    )  # fmt: skip
    return await store.steering.rerun(
        run.run_id, plan.run, cause=CAUSE, replay_id=request.replay_id, now_ms=now_ms
    )


def new_run_id(store: Store, request: ReplayRequest, run: StoredRun) -> RunId:
    """The id of the new run: always the same for one run and one replay."""
    source = SEPARATOR.join((CAUSE, request.replay_id, run.run_id))
    uid = store.registry.derive_uid(source, number(run.fields, "created") or 0)
    return run_id_for(uid, request.spec.id)
