"""A store with a few runs in it, and what is in it as a value to compare."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from typing import Any

import orjson

from taskflow.store.claimed import Claim, ClaimedRun, ClaimReply
from taskflow.store.claims import ParkedOp, PastEvent, Verdict
from taskflow.store.duties import Lost
from taskflow.store.operation import Operation
from taskflow.store.registry import AppSettings, CodeBase, RegisteredFunction
from taskflow.store.routing import EventPlan, Routed, RunPlan
from taskflow.store.store import Store
from taskflow.types import RunId
from taskflow.values.ids import encode_time
from taskflow.values.json import pack

NOW_MS = 1_893_456_000_000
DAY_MS = 86_400_000
FN = "shop/work"
CHILD, OTHER = "host-a:1", "host-b:1"
EVENT = orjson.dumps({"uid": "E1", "id": "E1", "name": "order", "data": {"n": 1}, "ts": NOW_MS})
ERROR = orjson.dumps({"name": "ValueError", "message": "broken", "stack": ""})


class Scene:
    """The typed methods of the store, with short names and defaults for what a test is not about."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.claims = store.claims
        self.now_ms = NOW_MS

    # --- making things ---

    async def make_run(
        self,
        run_id: str = "r1",
        *,
        fn: str = FN,
        flow: bytes = b"",
        start_at_ms: int = 0,
        start_timeout_ms: int = 0,
        finish_timeout_ms: int = 0,
        queue: str = "default",
    ) -> str:
        """A ready run, or one that starts later."""
        plan = RunPlan(fn, queue, RunId(run_id), start_at_ms, start_timeout_ms, finish_timeout_ms, flow)
        await self.store.routing.start_run(
            plan,
            uid=f"E-{run_id}",
            name="order",
            event=EVENT,
            cause="invoke",
            version="1",
            now_ms=self.now_ms,
        )
        return run_id

    async def claim(
        self,
        child_id: str = CHILD,
        *,
        limit: int = 100,
        by_hint: bool = False,
        unknown: Sequence[str] = (),
        replayed: Sequence[str] = (),
        queue: str = "default",
    ) -> ClaimReply:
        return await self.claims.claim(
            child_id, "shop", queue, limit=limit, by_hint=by_hint, unknown=unknown, replayed=replayed, now_ms=self.now_ms,
        )  # fmt: skip

    async def claim_one(self, child_id: str = CHILD) -> ClaimedRun:
        (run,) = (await self.claim(child_id, limit=1)).runs
        return run

    async def claimed_run(self, run_id: str = "r1", *, child_id: str = CHILD, **options: Any) -> Claim:
        """A run that `child_id` has claimed."""
        await self.make_run(run_id, **options)
        return (await self.claim_one(child_id)).claim

    # --- what its owner does ---

    async def commit(self, claim: Claim, key: str = "one", *, state: str = "done") -> str:
        packed = memo(state=state)
        return await self.claims.commit_step(claim, key, packed, is_completed=state == "done")

    async def park(
        self, claim: Claim, *ops: ParkedOp, suspend: bool = True, joins: dict[str, int] | None = None
    ) -> Verdict:
        verdict, _ = await self.claims.park(
            claim, ops, suspend=suspend, version="1", joins=joins or {}, now_ms=self.now_ms
        )
        return verdict

    async def look_back(
        self,
        claim: Claim,
        wait: ParkedOp | None = None,
        *,
        since_ms: int = 0,
        after_seq: int = 0,
        limit: int = 10,
    ) -> tuple[Verdict, list[PastEvent]]:
        return await self.claims.look_back(
            claim, wait or wait_op(), since_ms=since_ms, after_seq=after_seq, limit=limit
        )

    async def finish(self, claim: Claim, status: str = "completed", *, pending: bool = True) -> Verdict:
        body = b"1" if status == "completed" else ERROR
        verdict, _ = await self.claims.finish(
            claim, status, body, has_pending=pending, kept_ms=DAY_MS, now_ms=self.now_ms
        )
        return verdict

    async def retry(self, claim: Claim, *, in_ms: int = 1_000) -> Verdict:
        verdict, _ = await self.claims.retry(
            claim, attempts=1, due_ms=self.now_ms + in_ms, error=ERROR, now_ms=self.now_ms
        )
        return verdict

    async def begin_trial(self, claim: Claim) -> bool:
        return await self.store.claims.begin_trial(claim)

    async def hand_back(
        self, child_id: str = CHILD, *run_ids: str, crashed: bool = False, limit: int = 500
    ) -> int:
        count, _ = await self.claims.hand_back(
            child_id, run_ids, crashed=crashed, cause="signal 9", now_ms=self.now_ms, limit=limit
        )
        return count

    # --- what others do ---

    async def cancel(self, run_id: str = "r1") -> str:
        (outcome,), _ = await self.store.routing.cancel([run_id], reason=ERROR, now_ms=self.now_ms)
        return outcome

    async def route(
        self,
        uid: str,
        *runs: str,
        name: str = "order",
        public_id: str = "",
        free: int = 0,
        app_id: str = "shop",
        flow: bytes = b"",
    ) -> Routed:
        """Route an event that starts these runs; the child claims up to `free` of them."""
        plans = [RunPlan(FN, "default", RunId(run_id), flow=flow, is_claimable=True) for run_id in runs]
        plan = EventPlan.of(uid, public_id, name, EVENT, plans)
        routed, _ = await self.store.routing.route(
            [plan],
            app_id=app_id,
            version="1",
            child_id=CHILD if free else "",
            free_slots=free,
            now_ms=self.now_ms,
        )
        return routed[0]

    async def fire(self, *, limit: int = 100) -> int:
        fired = await self.store.duties.fire_timers(limit=limit, now_ms=self.now_ms)
        return fired.count

    async def register(
        self, *, retention_ms: int = DAY_MS, failed_retention_ms: int = 7 * DAY_MS, flow: str = ""
    ) -> bool:
        settings = AppSettings(
            retention_ms=retention_ms, failed_retention_ms=failed_retention_ms, max_crashes=3
        )
        code_base = CodeBase("shop", settings, (RegisteredFunction("work", b"{}", flow),), given_version="1")
        return await self.store.registry.register(code_base, child_id="registrar:1", now_ms=self.now_ms)

    async def find_lost(
        self, *, hint_age_ms: int = 0, event_age_ms: int = 0, silence_ms: int = DAY_MS, later_ms: int = 0
    ) -> Lost:
        return await self.store.duties.find_lost(
            hint_age_ms=hint_age_ms,
            event_age_ms=event_age_ms,
            silence_ms=silence_ms,
            now_ms=self.now_ms + later_ms,
        )

    async def heartbeat(self, worker_id: str, *child_ids: str) -> int:
        """When the worker was registered (ms): now, if the store did not know it."""
        return int(
            await self.store.scripts.heartbeat(
                now_ms=self.now_ms, worker_id=worker_id, serving="", child_ids=child_ids
            )
        )

    # --- what is there ---

    async def fields(self, run_id: str = "r1") -> dict[str, str]:
        stored = await self.store.history.run(run_id)
        return (
            {}
            if stored is None
            else {name: value.decode(errors="replace") for name, value in stored.fields.items()}
        )

    async def status(self, run_id: str = "r1") -> str:
        return (await self.fields(run_id)).get("status", "")

    async def operation(self, key: str, run_id: str = "r1") -> Operation:
        packed = await self.store.client.call("HGET", self.store.keys.steps(run_id), key)
        return Operation.unpack(packed)

    async def timers(self) -> dict[str, int]:
        """Every timer with the time left (ms)."""
        flat = await self.store.client.call("ZRANGE", self.store.keys.timers, 0, -1, "WITHSCORES")
        return {
            flat[i].decode().replace("\x1f", " "): int(float(flat[i + 1])) - self.now_ms
            for i in range(0, len(flat), 2)
        }

    async def clear(self) -> None:
        """Empty the store, after a test that leaves it as no engine does: what ended runs leave behind is a failure else."""
        await self.store.client.call("FLUSHDB")

    async def keys(self) -> set[str]:
        prefix = self.store.keys.prefix
        return {key.decode().removeprefix(prefix) for key in await self.store.client.call("KEYS", "*")}

    async def state(self) -> dict[str, Any]:
        """Everything that is stored, by key, as values that can be compared."""
        return {
            name: await self.value_of(self.store.keys.prefix + name) for name in sorted(await self.keys())
        }

    async def value_of(self, key: str) -> Any:
        call = self.store.client.call
        match await call("TYPE", key):
            case b"string":
                return await call("GET", key)
            case b"hash":
                flat = await call("HGETALL", key)
                return {flat[i]: flat[i + 1] for i in range(0, len(flat), 2)}
            case b"set":
                return set(await call("SMEMBERS", key))
            case b"zset":
                flat = await call("ZRANGE", key, 0, -1, "WITHSCORES")
                return {flat[i]: float(flat[i + 1]) for i in range(0, len(flat), 2)}
            case b"stream":
                return await call("XRANGE", key, "-", "+")
            case b"list":
                return await call("LRANGE", key, 0, -1)
            case kind:
                raise AssertionError(f"{key} is a {kind!r}")


SECRET = "of the deployment"


def news_uid(run_id: str = "r1", status: str = "failed", *, at_ms: int = NOW_MS) -> str:
    """The id of the event that tells of a run's end."""
    return encode_time(at_ms) + sha1(f"{SECRET}{run_id}:{status}".encode()).hexdigest()[:16].upper()


def memo(*, state: str = "done", index: int = 0, data: bytes = b"1") -> bytes:
    """A finished operation."""
    if state == "failed":
        return pack(
            {"kind": "step", "state": "failed", "index": index, "error": orjson.loads(ERROR), "order": 0}
        )
    return pack({"kind": "step", "state": state, "index": index, "data": data, "order": 0})


def sleep_op(key: str = "nap", *, due_ms: int = NOW_MS + 60_000, index: int = 0) -> ParkedOp:
    return ParkedOp(key, Operation("sleep", "wait", index, due=due_ms).pack())


def wait_op(
    key: str = "paid", *, names: Sequence[str] = ("paid",), path: str | None = None, token: str | None = None,
    condition: str | None = None, due_ms: int = NOW_MS + 60_000, index: int = 0,
) -> ParkedOp:  # fmt: skip
    op = Operation(
        "event", "wait", index, due=due_ms, events=list(names), path=path, token=token, condition=condition
    )
    return ParkedOp(key, op.pack())


def signal_op(key: str = "go", *, signal: str = "shop\x1fgo", replaces: bool | None = None) -> ParkedOp:
    op = Operation("signal", "wait", 0, due=NOW_MS + 60_000, signal=signal, replaces=replaces)
    return ParkedOp(key, op.pack())


def retry_op(key: str = "one", *, failures: int = 1, due_ms: int = NOW_MS + 10_000) -> ParkedOp:
    attempts = [[NOW_MS, NOW_MS, CHILD, "ValueError", "no", ""] for _ in range(failures)]
    return ParkedOp(key, Operation("step", "retry", 0, due=due_ms, attempts=attempts).pack())


def offer_op(key: str = "one", *, index: int = 0, attempts: Sequence[list[Any]] = ()) -> ParkedOp:
    return ParkedOp(key, Operation("step", "offer", index, attempts=list(attempts)).pack())
