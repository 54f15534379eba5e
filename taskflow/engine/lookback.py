"""Looks for an event that came before a wait, the oldest first and a page at a time. Rule S3.3.

The script that finds no more events stores the wait. So each event is either looked at here, or finds the wait in the index; never
both, and never neither.
"""

from __future__ import annotations

from collections.abc import Container

import orjson

from taskflow.engine.owned import OwnedRun
from taskflow.expressions.matching import WaitPlan
from taskflow.store.claims import ParkedOp, PastEvent, Verdict
from taskflow.types import EventFields

PAGE = 100  # events in one call of the script


async def store_or_find(
    owned: OwnedRun, wait: ParkedOp, plan: WaitPlan, *, since_ms: int, had: Container[str], run_event: EventFields
) -> PastEvent | Verdict:  # fmt: skip
    """The oldest event since `since_ms` that meets the wait and is not among `had` (uids).

    If there is none, the wait is stored, and the result is PARKED. FENCED or CANCEL: see `OwnedRun`.
    """
    after_seq = 0
    while True:
        verdict, page = await owned.look_back(wait, since_ms=since_ms, after_seq=after_seq, limit=PAGE)
        if verdict is not Verdict.OK:
            return verdict
        for past in page:
            if past.text and past.uid not in had:
                event = orjson.loads(past.text)
                if plan.is_met_by(event, run_event=run_event):
                    return past
        after_seq = page[-1].seq
