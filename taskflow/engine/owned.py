"""OwnedRun and TakenStep: write to the store under the claim that this process has on a run, or on an offered step. Rule S9.4.

No other module of the engine names a claim to the store. Each method sends the hints of its script to the broker, and returns the
store's verdict or a value. If the claim is lost, the verdict is FENCED, and nothing was written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from taskflow.engine.host import Host
from taskflow.observability.run_log import Facts, attempt_failed, run_completed, run_ended
from taskflow.store.claimed import Claim
from taskflow.store.claims import ParkedOp, PastEvent, Verdict
from taskflow.store.keys import SEPARATOR
from taskflow.store.refusals import RefusedEvent


def job_id(run_id: str, step_key: str) -> str:
    """The id of what is claimed: of a run, or of one step that another process offers (S4.4)."""
    return f"{run_id}{SEPARATOR}{step_key}" if step_key else run_id


class Owned:
    """The common methods of both claims."""

    __slots__ = ("claim", "host", "job")

    def __init__(self, claim: Claim, host: Host, step_key: str = "") -> None:
        self.claim = claim
        self.host = host
        self.job = job_id(claim.run_id, step_key)

    async def crash_log(self) -> str:
        """The causes of death of the processes that died under the run since its last progress."""
        return await self.host.claims.crash_log(self.claim.run_id)

    async def mark_warned(self) -> bool:
        """Note that the run was warned of; True the first time, as a run is warned of once."""
        return await self.host.claims.mark_warned(self.claim.run_id)

    async def hand_back(self, *, crashed: bool = False, cause: str = "") -> None:
        """Give up the claim, so that others may execute. `crashed`: the run broke the engine, which counts as a crash (S9.8)."""
        _, hints = await self.host.claims.hand_back(
            self.claim.child_id, [self.job], crashed=crashed, cause=cause, now_ms=self.host.clock.now_ms()
        )
        self.host.send_hints(hints)


class TakenStep(Owned):
    """The claim on a step that another process offers; it ends with the step's outcome. Rule S4.4."""

    __slots__ = ("step_key",)

    def __init__(self, claim: Claim, host: Host, step_key: str) -> None:
        super().__init__(claim, host, step_key)
        self.step_key = step_key

    async def commit(self, packed: bytes) -> Verdict:
        """Store the outcome of the step. Returns PARKED, as that ends the claim, or FENCED."""
        verdict, hints = await self.host.claims.commit_offered(
            self.claim, self.step_key, packed, now_ms=self.host.clock.now_ms()
        )
        if hints:
            self.host.send_hints(hints)
        return Verdict.PARKED if verdict is Verdict.OK else verdict


class OwnedRun(Owned):
    """The claim on a run; `facts` are the fields of log lines about it."""

    __slots__ = ("facts",)

    def __init__(self, claim: Claim, host: Host, facts: Facts) -> None:
        # Not by super(): each run makes one of these, and the call would cost time.
        self.claim = claim
        self.host = host
        self.job = claim.run_id
        self.facts = facts

    async def commit(self, keys_and_memos: Sequence[str | bytes], *, is_completed: bool) -> Verdict:
        """Store outcomes: step key, memo, ...; `is_completed` when the last of them is a success."""
        return await self.host.claims.commit_step(self.claim, *keys_and_memos, is_completed=is_completed)

    async def park(self, ops: Sequence[ParkedOp], *, suspend: bool, joins: Mapping[str, int]) -> Verdict:
        """Store the pending operations (OK). With `suspend` also give up the claim (PARKED), unless one was resolved (DIRTY)."""
        verdict, hints = await self.host.claims.park(
            self.claim,
            ops,
            suspend=suspend,
            joins=joins,
            version=self.host.config.app_version,
            now_ms=self.host.clock.now_ms(),
        )
        if hints:
            self.host.send_hints(hints)
        return Verdict.OK if verdict is Verdict.PARKED and not suspend else verdict

    async def fetch(self, step_keys: Sequence[str], *, is_all: bool) -> tuple[Verdict, list[bytes | None]]:
        """The present state of pending operations. Without keys it only tells whether the claim still holds."""
        return await self.host.claims.fetch_resolved(self.claim, step_keys, is_all=is_all)

    async def drop(self, step_key: str) -> None:
        """Drop a pending operation, so that it does not wake the run any more."""
        hints = await self.host.claims.drop(self.claim, [step_key], now_ms=self.host.clock.now_ms())
        if hints:
            self.host.send_hints(hints)

    async def forget(self, step_key: str, kind: str) -> Verdict:
        """Remove an operation that does not count any more, since it was dropped, or since the run now makes one of `kind`."""
        verdict, hints = await self.host.claims.forget(
            self.claim, step_key, kind, now_ms=self.host.clock.now_ms()
        )
        if hints:
            self.host.send_hints(hints)
        return verdict

    async def withdraw(self, step_key: str) -> bool:
        """Take back a step that the run offered; False if another process has taken it."""
        is_ours, hints = await self.host.claims.withdraw_offer(
            self.claim, step_key, now_ms=self.host.clock.now_ms()
        )
        if hints:
            self.host.send_hints(hints)
        return is_ours

    async def look_back(
        self, wait: ParkedOp, *, since_ms: int, after_seq: int, limit: int
    ) -> tuple[Verdict, list[PastEvent]]:
        """The next page of the events that came before a wait. If there are none, the wait is stored: PARKED."""
        return await self.host.claims.look_back(
            self.claim, wait, since_ms=since_ms, after_seq=after_seq, limit=limit
        )  # fmt: skip

    def note_resumed(self, step_key: str, event_uid: str) -> asyncio.Future[Any]:
        """Note in the record of a past event that it ended a wait of this run."""
        return self.host.claims.note_resumed(self.claim, step_key, event_uid)

    async def begin_trial(self) -> bool:
        """Note that the run is on trial: it executes now, and its next crash would be its last. False if the claim is lost."""
        return await self.host.claims.begin_trial(self.claim)

    async def retry(self, *, attempts: int, of: int, due_ms: int, error: bytes, now_ms: int) -> Verdict:
        """Have the handler called again at `due_ms`, after `attempts` of `of` + 1 attempts have failed."""
        verdict, hints = await self.host.claims.retry(
            self.claim, attempts=attempts, due_ms=due_ms, error=error, now_ms=now_ms
        )
        if hints:
            self.host.send_hints(hints)
        if verdict is not Verdict.FENCED:
            attempt_failed(self.facts, orjson.loads(error), "", attempts, of, due_ms - now_ms)
        return verdict

    async def finish(self, status: str, body: bytes, *, has_pending: bool, kept_ms: int) -> Verdict:
        """End the run, which is removed after `kept_ms`. CANCEL: nothing was written, since the run has to end as cancelled."""
        verdict, hints = await self.host.claims.finish(
            self.claim, status, body, has_pending=has_pending, kept_ms=kept_ms,
            now_ms=self.host.clock.now_ms(),
        )  # fmt: skip
        if hints:
            self.host.send_hints(hints)
        if verdict is Verdict.OK:
            if status == "completed":
                run_completed(self.facts, self.host.life_level)
            else:
                run_ended(self.facts, status, orjson.loads(body))
        return verdict

    async def refuse(self, events: Sequence[RefusedEvent], *, ends: bool, is_dead_letter: bool) -> Verdict:
        """Note why the run does not take these events; with `ends` it ends as skipped. CANCEL: it has to end as cancelled."""
        verdict, hints = await self.host.refusals.refuse(
            self.claim, events, ends=ends, is_dead_letter=is_dead_letter, now_ms=self.host.clock.now_ms()
        )
        if hints:
            self.host.send_hints(hints)
        return verdict

    async def cancel_reason(self) -> bytes:
        """Why the run is to be cancelled, as JSON."""
        return await self.host.claims.cancel_reason(self.claim.run_id)
