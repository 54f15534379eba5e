"""OwnedRun and TakenSteps: write to the store under the claims that this process has on a run, or on offered steps. Rule S9.4.

No other module of the engine names a claim to the store. Each method sends the hints of its script to the broker, and returns the
store's verdict or a value. If the claim is lost, the verdict is FENCED, and nothing was written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

import orjson

from taskflow.engine.host import Host
from taskflow.observability.run_log import Facts, attempt_failed, run_completed, run_ended
from taskflow.store.claimed import Claim
from taskflow.store.claims import ParkedOp, PastEvent, Verdict
from taskflow.store.keys import SEPARATOR
from taskflow.store.refusals import RefusedEvent
from taskflow.types import RunId


def job_id(run_id: str, step_key: str) -> str:
    """The id of what is claimed: of a run, or of one step that another process offers (S4.4)."""
    return f"{run_id}{SEPARATOR}{step_key}" if step_key else run_id


class TakenSteps:
    """The claims on steps of one run that its own process offered. Each ends with the outcome of its step. Rule S4.4."""

    __slots__ = ("fences", "host", "run_id")

    def __init__(self, run_id: RunId, host: Host) -> None:
        self.run_id = run_id
        self.host = host
        # of the claims that have not ended, by step key
        self.fences: dict[str, int] = {}

    @property
    def jobs(self) -> list[str]:
        return [job_id(self.run_id, key) for key in self.fences]

    async def commit(self, step_key: str, packed: bytes) -> None:
        """Store the outcome of a step. If its claim is lost, nothing is written: the step was given to another process."""
        claim = Claim(self.run_id, self.host.child_id, self.fences[step_key])
        _, hints = await self.host.claims.commit_offered(
            claim, step_key, packed, now_ms=self.host.clock.now_ms()
        )
        if hints:
            self.host.send_hints(hints)

    async def hand_back(self, *, crashed: bool = False, cause: str = "") -> None:
        """Give up the claims, so that others may execute. `crashed`: the run broke the engine, which counts as a crash (S9.8)."""
        if not self.fences:
            return
        _, hints = await self.host.claims.hand_back(
            self.host.child_id, self.jobs, crashed=crashed, cause=cause, now_ms=self.host.clock.now_ms()
        )
        self.host.send_hints(hints)


class OwnedRun:
    """The claim on a run; `facts` are the fields of log lines about it, and `started_ms` is when it was first claimed."""

    __slots__ = ("claim", "facts", "host", "started_ms")

    def __init__(self, claim: Claim, host: Host, facts: Facts, started_ms: int) -> None:
        self.claim = claim
        self.host = host
        self.facts = facts
        self.started_ms = started_ms

    @property
    def jobs(self) -> list[str]:
        return [self.claim.run_id]

    async def crash_log(self) -> str:
        """The causes of death of the processes that died under the run since its last progress."""
        return await self.host.claims.crash_log(self.claim.run_id)

    async def mark_warned(self) -> bool:
        """Note that the run was warned of; True the first time, as a run is warned of once."""
        return await self.host.claims.mark_warned(self.claim.run_id)

    async def hand_back(self, *, crashed: bool = False, cause: str = "") -> None:
        """Give up the claim, so that others may execute. `crashed`: the run broke the engine, which counts as a crash (S9.8)."""
        _, hints = await self.host.claims.hand_back(
            self.claim.child_id,
            [self.claim.run_id],
            crashed=crashed,
            cause=cause,
            now_ms=self.host.clock.now_ms(),
        )
        self.host.send_hints(hints)

    def commit(self, keys_and_memos: Sequence[str | bytes], *, is_completed: bool) -> Awaitable[Verdict]:
        """Store outcomes: step key, memo, ...; `is_completed` when the last of them is a success."""
        return self.host.claims.commit_step(self.claim, *keys_and_memos, is_completed=is_completed)

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

    async def drop(self, step_key: str, dropped: bytes) -> None:
        """Drop an operation, unless it has an outcome: it does not wake the run any more, and no replay begins it again."""
        hints = await self.host.claims.drop(self.claim, step_key, dropped, now_ms=self.host.clock.now_ms())
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

    def note_progress(self, progress: bytes) -> asyncio.Future[Any]:
        """Store what the run says of its progress (JSON), unless the claim is lost."""
        return self.host.claims.note_progress(self.claim, progress)

    async def begin_trial(self) -> bool:
        """Note that the run is on trial: it executes now, and its next crash would be its last. False if the claim is lost."""
        return await self.host.claims.begin_trial(self.claim)

    async def retry(self, *, attempts: int, of: int, due_ms: int, error: bytes, now_ms: int) -> Verdict:
        """Have the handler called again at `due_ms`, after `attempts` of `of` + 1 attempts have failed."""
        verdict, hints = await self.host.claims.retry(
            self.claim, attempts=attempts, due_ms=due_ms, error=self.sealed(error), now_ms=now_ms
        )
        if hints:
            self.host.send_hints(hints)
        if verdict is not Verdict.FENCED:
            told = orjson.loads(error)
            attempt_failed(self.facts, told, "", attempts, of, due_ms - now_ms)
            if self.host.meter is not None:
                self.host.meter.attempt_failed(str(self.facts["function_id"]), told["name"])
        return verdict

    async def finish(self, status: str, body: bytes, *, has_pending: bool, kept_ms: int) -> Verdict:
        """End the run, which is removed after `kept_ms`. CANCEL: nothing was written, since the run has to end as cancelled."""
        now_ms = self.host.clock.now_ms()
        verdict, hints = await self.host.claims.finish(
            self.claim, status, self.sealed(body) if status == "failed" else body, has_pending=has_pending, kept_ms=kept_ms,
            now_ms=now_ms,
        )  # fmt: skip
        if hints:
            self.host.send_hints(hints)
        if verdict is Verdict.OK:
            error = ""
            if status == "completed":
                run_completed(self.facts, self.host.life_level)
            else:
                told = orjson.loads(body)
                error = told["name"] if status == "failed" else ""
                run_ended(self.facts, status, told)
            if self.host.meter is not None:
                self.count_end(status, error, now_ms)
        return verdict

    def sealed(self, error: bytes) -> bytes:
        """What is stored of an error, which is JSON (S12.2)."""
        codecs = self.host.codecs
        return error if codecs.cipher is None else orjson.dumps(codecs.sealed_error(orjson.loads(error)))

    def count_end(self, status: str, error: str, now_ms: int) -> None:
        assert self.host.meter is not None, "a process without metrics counts nothing"
        self.host.meter.run_ended(str(self.facts["function_id"]), status, error, now_ms - self.started_ms)

    async def refuse(self, events: Sequence[RefusedEvent], *, ends: bool, is_dead_letter: bool) -> Verdict:
        """Note why the run does not take these events; with `ends` it ends as skipped. CANCEL: it has to end as cancelled."""
        now_ms = self.host.clock.now_ms()
        verdict, hints = await self.host.refusals.refuse(
            self.claim, events, ends=ends, is_dead_letter=is_dead_letter, now_ms=now_ms
        )
        if hints:
            self.host.send_hints(hints)
        if ends and verdict is Verdict.OK and self.host.meter is not None:
            self.count_end("skipped", "", now_ms)
        return verdict

    async def cancel_reason(self) -> bytes:
        """Why the run is to be cancelled, as JSON."""
        return await self.host.claims.cancel_reason(self.claim.run_id)
