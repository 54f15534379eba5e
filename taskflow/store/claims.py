"""Claims: the store's methods for the owner of a run, from claim to end. Each names the claim by child and fence (S9.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple

from taskflow.redis.scripts import Answer, Scripts
from taskflow.store.claimed import Claim, ClaimReply, parse_claims
from taskflow.store.hints import Hint, parse_hints
from taskflow.store.keys import Keys
from taskflow.types import RunId


class Verdict(StrEnum):
    """The outcome of a commit."""

    OK = "ok"
    PARKED = "parked"
    FENCED = "fenced"  # the claim is lost, and nothing was written: drop the run
    CANCEL = "cancel"  # stored, and the run has to be cancelled now
    DIRTY = "dirty"  # not suspended, since an operation was resolved meanwhile


PARK_PAGE = 150  # operations in one script
HAND_BACK_PAGE = 150  # runs in one script
VERDICTS = {verdict.value.encode(): verdict for verdict in Verdict}


class InvokedRun(NamedTuple):
    """A run that an `invoke` starts. The script that parks its parent makes it, and takes these fields in this order."""

    function_id: str
    queue: str
    run_id: RunId
    event: bytes
    start_timeout_ms: int
    finish_timeout_ms: int
    flow: bytes = b""


class ParkedOp(NamedTuple):
    """An operation to store: its key, its packed form, and the run it starts, if it is an invoke."""

    step_key: str
    packed: bytes
    child: InvokedRun | None = None


class PastEvent(NamedTuple):
    """An event that came before a wait."""

    uid: str
    seq: int  # its place in the order of events
    text: bytes  # JSON, as on the wire; empty if the event was removed meanwhile


class Claims:
    """The scripts that the owner of a run calls."""

    def __init__(self, scripts: Scripts, keys: Keys) -> None:
        self.scripts = scripts
        self.keys = keys

    def claim(
        self,
        child_id: str,
        app_id: str,
        queue: str,
        *,
        limit: int,
        by_hint: bool,
        unknown: Iterable[str],
        replayed: Iterable[str] = (),
        now_ms: int,
    ) -> Answer[ClaimReply]:
        """Claim up to `limit` of the best ready runs and offered steps of a queue. The command is sent when this returns.

        `replayed`: the runs whose memos the child has, since it has replayed them for other steps that they offered.
        """
        reply = self.scripts.claim_runs(
            now_ms=now_ms,
            child_id=child_id,
            app_id=app_id,
            queue=queue,
            limit=limit,
            by_hint=by_hint,
            unknown_ids=unknown,
            replayed_ids=replayed,
        )
        return Answer(reply, partial(parse_claims, child_id=child_id, now_ms=now_ms))

    async def commit_step(self, claim: Claim, *keys_and_memos: str | bytes, is_completed: bool) -> Verdict:
        """Store outcomes of steps, given as step key, memo, ..."""
        memos = (
            (keys_and_memos,)
            if len(keys_and_memos) == 2
            else tuple(zip(keys_and_memos[::2], keys_and_memos[1::2], strict=True))
        )
        verdict, _ = await self.scripts.commit_steps(
            child_id=claim.child_id,
            run_id=claim.run_id,
            fence=claim.fence,
            is_completed=is_completed,
            memos=memos,
        )
        return VERDICTS[verdict]

    async def mark_warned(self, run_id: str) -> bool:
        """Note that the run was warned of; True the first time, as a run is warned of once."""
        return bool(await self.scripts.client.call("HSETNX", self.keys.run(run_id), "warned", 1))

    async def drop(self, claim: Claim, step_key: str, dropped: bytes, *, now_ms: int) -> list[Hint]:
        """Drop an operation that the run gives up, unless it has an outcome. `dropped` is stored if the store does not know it."""
        _, hints = await self.scripts.drop_operations(
            now_ms=now_ms, child_id=claim.child_id, run_id=claim.run_id, fence=claim.fence, operations=[(step_key, dropped)]
        )  # fmt: skip
        return parse_hints(hints)

    async def forget(
        self, claim: Claim, step_key: str, kind: str, *, now_ms: int
    ) -> tuple[Verdict, list[Hint]]:
        """Remove an operation of the run that was dropped, or that is not of `kind`."""
        verdict, hints = await self.scripts.forget_operation(
            now_ms=now_ms, child_id=claim.child_id, run_id=claim.run_id, fence=claim.fence, step_key=step_key, kind=kind
        )  # fmt: skip
        return VERDICTS[verdict], parse_hints(hints)

    async def park(
        self,
        claim: Claim,
        ops: Sequence[ParkedOp],
        *,
        suspend: bool,
        version: str,
        joins: Mapping[str, int],
        now_ms: int,
    ) -> tuple[Verdict, list[Hint]]:
        """Store the operations for which the run waits; with `suspend`, also give up the claim.

        `joins`: step key -> number of the join, all of whose members must succeed before the handler can go on.
        """
        told: list[Hint] = []
        # In pages, so that no script is long however wide the run is. What is resolved meanwhile makes the last answer DIRTY.
        pages = [ops[start : start + PARK_PAGE] for start in range(0, len(ops), PARK_PAGE)] or [ops]
        for number, page in enumerate(pages, start=1):
            is_last = number == len(pages)
            verdict, hints = await self.scripts.park_run(
                now_ms=now_ms,
                child_id=claim.child_id,
                run_id=claim.run_id,
                fence=claim.fence,
                suspends=suspend and is_last,
                version=version,
                joins=joins.items() if is_last else (),
                operations=[(op.step_key, op.packed, (op.child,) if op.child else ()) for op in page],
            )
            told += parse_hints(hints)
            if VERDICTS[verdict] is not Verdict.PARKED:
                break
        return VERDICTS[verdict], told

    async def look_back(
        self, claim: Claim, wait: ParkedOp, *, since_ms: int, after_seq: int, limit: int
    ) -> tuple[Verdict, list[PastEvent]]:
        """The next page of the events that came before a wait, oldest first. If there are none, the wait is stored: PARKED.

        `since_ms`: older events don't count. `after_seq` is the `seq` of the last event of the page before, or 0.
        """
        verdict, flat = await self.scripts.look_back(
            child_id=claim.child_id,
            run_id=claim.run_id,
            fence=claim.fence,
            step_key=wait.step_key,
            packed=wait.packed,
            since_ms=since_ms,
            after_seq=after_seq,
            limit=limit,
        )
        page = [PastEvent(flat[i].decode(), flat[i + 1], flat[i + 2]) for i in range(0, len(flat), 3)]
        return VERDICTS[verdict], page

    def note_resumed(self, claim: Claim, step_key: str, event_uid: str) -> asyncio.Future[Any]:
        """Note in the record of a past event that it ended a wait of this run."""
        return self.scripts.note_resumed(
            child_id=claim.child_id,
            run_id=claim.run_id,
            fence=claim.fence,
            step_key=step_key,
            uid=event_uid,
        )

    async def commit_offered(
        self, claim: Claim, step_key: str, packed: bytes, *, now_ms: int
    ) -> tuple[Verdict, list[Hint]]:
        """Store the outcome of a step that another process offered; the fence of the claim is that of the taken step."""
        verdict, hints = await self.scripts.commit_offered(
            now_ms=now_ms,
            child_id=claim.child_id,
            run_id=claim.run_id,
            step_key=step_key,
            fence=claim.fence,
            memo=packed,
        )
        return VERDICTS[verdict], parse_hints(hints)

    async def withdraw_offer(self, claim: Claim, step_key: str, *, now_ms: int) -> tuple[bool, list[Hint]]:
        """Take back a step that the run offered; False if another process has taken it."""
        is_ours, hints = await self.scripts.withdraw_offer(
            now_ms=now_ms,
            child_id=claim.child_id,
            run_id=claim.run_id,
            fence=claim.fence,
            step_key=step_key,
        )
        return bool(is_ours), parse_hints(hints)

    async def fetch_resolved(
        self, claim: Claim, step_keys: Sequence[str], *, is_all: bool = True
    ) -> tuple[Verdict, list[bytes | None]]:
        """The present state of pending operations, while the run stays in memory. `is_all`: the run waits for no others."""
        verdict, ops = await self.scripts.fetch_resolved(
            child_id=claim.child_id,
            run_id=claim.run_id,
            fence=claim.fence,
            is_all=is_all,
            step_keys=step_keys,
        )
        return VERDICTS[verdict], ops

    async def retry(
        self, claim: Claim, *, attempts: int, due_ms: int, error: bytes, now_ms: int
    ) -> tuple[Verdict, list[Hint]]:
        """Have the handler called again at `due_ms`."""
        verdict, hints = await self.scripts.retry_run(
            now_ms=now_ms, child_id=claim.child_id, run_id=claim.run_id, fence=claim.fence, attempts=attempts, due_ms=due_ms,
            error=error,
        )  # fmt: skip
        return VERDICTS[verdict], parse_hints(hints)

    async def finish(
        self, claim: Claim, status: str, body: bytes, *, has_pending: bool, kept_ms: int, now_ms: int
    ) -> tuple[Verdict, list[Hint]]:
        """End the run, which is removed after `kept_ms`."""
        verdict, hints = await self.scripts.finish_runs(
            child_id=claim.child_id,
            run_id=claim.run_id,
            fence=claim.fence,
            status=status,
            body=body,
            has_pending=has_pending,
            now_ms=now_ms,
            remove_at_ms=now_ms + kept_ms,
        )
        return VERDICTS[verdict], parse_hints(hints) if hints else []

    def note_progress(self, claim: Claim, progress: bytes) -> asyncio.Future[Any]:
        """Store what the run says of its progress (JSON); the future gives 0 if the claim is lost."""
        return self.scripts.note_progress(
            child_id=claim.child_id, run_id=claim.run_id, fence=claim.fence, progress=progress
        )

    async def begin_trial(self, claim: Claim) -> bool:
        """Note that the run is on trial: it executes now, and its next crash would be its last. False if the claim is lost."""
        return bool(
            await self.scripts.begin_trial(child_id=claim.child_id, run_id=claim.run_id, fence=claim.fence)
        )

    async def crash_log(self, run_id: str) -> str:
        """The causes of death of the processes that died under the run since its last progress, joined by "; "."""
        log: bytes | None = await self.scripts.client.call("HGET", self.keys.run(run_id), "crash_log")
        return (log or b"").decode()

    async def cancel_reason(self, run_id: str) -> bytes:
        """The reason why a run is to be cancelled, as JSON."""
        reason: bytes | None = await self.scripts.client.call("HGET", self.keys.run(run_id), "cancel")
        return reason or b'{"name":"Cancelled","message":"cancelled"}'

    async def hand_back(
        self,
        child_id: str,
        run_ids: Sequence[str],
        *,
        crashed: bool,
        cause: str,
        now_ms: int,
        tells: bool = True,
        limit: int = HAND_BACK_PAGE,
    ) -> tuple[int, list[Hint]]:
        """Give runs of a child to others; without `run_ids` all that it holds. Returns how many, and hints for the broker.

        A caller without a broker passes `tells=False`: then the reaper tells the broker in its next turn.
        """
        crash = "broke" if run_ids and crashed else "died" if crashed else ""
        total: int = 0
        hints: list[Hint] = []
        while True:
            count, left, told = await self.scripts.hand_back(
                now_ms=now_ms,
                child_id=child_id,
                crashed=crash,
                cause=cause,
                tells=tells,
                limit=limit,
                jobs=run_ids[:limit],
            )
            total += count
            hints += parse_hints(told)
            run_ids = run_ids[limit:]
            if not left and not run_ids:
                return total, hints
