"""Refusals: a run's events that do not fit its function, as its owner found. Rule S11.2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from taskflow.redis.scripts import Scripts
from taskflow.store.claimed import Claim
from taskflow.store.claims import VERDICTS, Verdict
from taskflow.store.hints import Hint, parse_hints


class RefusedEvent(NamedTuple):
    """An event that a function does not take, and why."""

    uid: str
    reason: str


class Refusals:
    """The script that notes what a run does not take."""

    def __init__(self, scripts: Scripts) -> None:
        self.scripts = scripts

    async def refuse(
        self, claim: Claim, events: Sequence[RefusedEvent], *, ends: bool, is_dead_letter: bool, now_ms: int
    ) -> tuple[Verdict, list[Hint]]:
        """Note why the run does not take these events; with `ends` it ends as skipped. CANCEL: it has to end as cancelled."""
        verdict, hints = await self.scripts.refuse_events(
            now_ms=now_ms,
            child_id=claim.child_id,
            run_id=claim.run_id,
            fence=claim.fence,
            ends=ends,
            is_dead_letter=is_dead_letter,
            events=events,
        )
        return VERDICTS[verdict], parse_hints(hints)
