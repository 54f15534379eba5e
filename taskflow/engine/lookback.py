"""Events that came before a wait: found oldest first, a page at a time. Rule S3.3.

The script that finds no more of them stores the wait, so each event is either looked at here or finds the wait in the index, never
both, and never neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container
from typing import TYPE_CHECKING

import orjson

from taskflow.errors import Suspend
from taskflow.expressions.matching import WaitPlan
from taskflow.store.claims import ParkedOp, PastEvent, Verdict
from taskflow.store.operation import DONE, Operation

if TYPE_CHECKING:
    from taskflow.engine.execution import Execution

PAGE = 100  # events


async def look_back(
    execution: Execution, key: str, op: Operation, plan: WaitPlan, *, since_ms: int, had: Container[str]
) -> bool:
    """End the wait `op` with the oldest event since `since_ms` that meets it and is not among `had` (uids), and commit that.

    False when there is none: the wait is stored then. The run stays in memory meanwhile.
    """
    if not execution.may_execute(key):
        return False  # the run itself does that, elsewhere: see OfferedStepExecution
    execution.tree.enter()
    try:
        found = await store_or_find(execution, ParkedOp(key, op.pack()), plan, since_ms=since_ms, had=had)
        if found is None:
            return False
        op.state, op.data, op.due, op.ended = DONE, found.text, None, execution.host.clock.now_ms()
        # A crash in between does no harm: the replay finds the same event.
        await execution.ask(execution.host.claims.note_resumed(execution.claim, key, found.uid))
        await execution.commit(key, op)
        return True
    except asyncio.CancelledError:  # the loser of a race
        if execution.is_going_on and not op.is_finished:
            execution.parking.give_up(key)
        raise
    finally:
        execution.release()


async def store_or_find(
    execution: Execution, wait: ParkedOp, plan: WaitPlan, *, since_ms: int, had: Container[str]
) -> PastEvent | None:
    after_seq = 0
    while True:
        verdict, page = await execution.ask(
            execution.host.claims.look_back(
                execution.claim,
                wait,
                since_ms=since_ms,
                after_seq=after_seq,
                limit=PAGE,
            )  # fmt: skip
        )
        if verdict is Verdict.PARKED:
            return None
        if verdict is not Verdict.OK:
            execution.obey(verdict)
            raise Suspend
        for past in page:
            if past.text and past.uid not in had:
                event = orjson.loads(past.text)
                if plan.is_met_by(event, run_event=execution.event_obj):
                    return past
        after_seq = page[-1].seq
