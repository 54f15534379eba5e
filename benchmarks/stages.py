"""Where the time of one no-op run goes, stage by stage, each alone: what it costs the producer, the worker, and the store.

The worker's stages run without a server, the store's are the time that the server itself counts for its scripts. Batches are
those of a busy worker: 50 events, 100 claims, 100 ends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import orjson
import redis
import uvloop

from benchmarks.functions import app, noop
from benchmarks.report import Benchmark, Figures, Row, Scale
from taskflow.app import TaskFlow
from taskflow.engine.execution import Execution
from taskflow.engine.handler_call import HandlerCall
from taskflow.engine.slots import Slots
from taskflow.engine.tasks.tagging import install_task_factory
from taskflow.event import decode_message, encode_events
from taskflow.routing.listeners import Listeners
from taskflow.store.claimed import Claim, ClaimedRun, ClaimReply
from taskflow.store.claims import Verdict
from taskflow.store.routing import EventPlan, RunPlan
from taskflow.store.store import Store
from taskflow.types import RunId
from taskflow.values.clock import SystemClock
from taskflow.values.ids import new_ulid, run_id_for
from tests.servers import ValkeyServer

CHILD = "host:1"
ROUTED, CLAIMED = 50, 100  # in one script
ROUNDS = 5  # the best counts
NOW_MS = 1_893_456_000_000


def measure(scale: Scale) -> Figures:
    count = scale.pick(20_000, 500)
    with ValkeyServer(aof=True, appendfsync="everysec") as server:
        store = asyncio.run(store_stages(server, count))
        producer = TaskFlow(app.id, broker=server.url, store=server.url)
        try:
            send_us = best_us(
                lambda: repeat(count // 10, lambda: producer.send("bench/noop", {"n": 1})), count // 10
            )
            encode_us = best_us(lambda: repeat(count, lambda: encode(producer)), count)
        finally:
            producer.close()
    return {
        "encode_us": encode_us,
        "send_us": send_us,
        "plan_us": best_us(lambda: plan_events(count), count),
        "execute_us": uvloop.run(execution_us(count)),
        **store,
    }


def best_us(work: Callable[[], object], count: int) -> float:
    """Microseconds for each of `count`, in the best of some rounds."""
    best_s = float("inf")
    for _ in range(ROUNDS):
        started_s = time.perf_counter()
        work()
        best_s = min(best_s, time.perf_counter() - started_s)
    return best_s / count * 1e6


def repeat(count: int, work: Callable[[], object]) -> None:
    for _ in range(count):
        work()


def encode(producer: TaskFlow) -> object:
    return encode_events(
        "bench/noop",
        {"n": 1},
        now_ms=producer._link.clock.now_ms(),
        max_bytes=producer.config.max_event_bytes,
    )


def plan_events(count: int) -> list[EventPlan]:
    """What the router does before its script: read the message, find the functions, name the runs."""
    listeners = Listeners([function.spec for function in app.functions.values()])
    plans = []
    for number in range(count):
        uid = new_ulid(NOW_MS)
        body = orjson.dumps(
            [{"uid": uid, "id": uid, "name": "bench/noop", "data": {"n": number}, "ts": NOW_MS}]
        )
        for event in decode_message(body):
            runs = [
                RunPlan(spec.id, spec.queue, run_id_for(event["uid"], spec.id), is_claimable=True)
                for spec in listeners.of(event)
            ]
            plans.append(EventPlan.of(uid, "", event["name"], orjson.dumps(event), runs))
    return plans


class StubHost:
    """A process whose store answers at once."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.claims = self
        self.config = app.config
        self.codecs = app.codecs
        self.clock = SystemClock()
        self.child_id = CHILD
        self.slots = Slots(0, self.loop)
        self.life_level = logging.DEBUG
        self.meter = None
        self.left = 0  # runs that have not ended
        self.over = self.loop.create_future()

    def expect(self, count: int) -> asyncio.Future[None]:
        """Done when so many runs have ended."""
        self.left, self.over = count, self.loop.create_future()
        return self.over

    def finish(
        self, claim: Claim, status: str, body: bytes, **_: Any
    ) -> Awaitable[tuple[Verdict, list[Any]]]:
        future: asyncio.Future[tuple[Verdict, list[Any]]] = self.loop.create_future()
        self.loop.call_soon(future.set_result, (Verdict.OK, []))
        return future

    def released(self, execution: object) -> None:
        self.left -= 1
        if not self.left:
            self.over.set_result(None)


async def execution_us(count: int) -> float:
    """From a claimed run to its end: the engine's objects, the handler's task, the result as JSON."""
    install_task_factory(asyncio.get_running_loop())
    host = StubHost()
    event = orjson.dumps({"uid": "E", "id": "E", "name": "bench/noop", "data": {"n": 1}, "ts": NOW_MS})
    best_s = float("inf")
    for _ in range(ROUNDS):
        started_s = time.perf_counter()
        for first in range(0, count, CLAIMED):
            over = host.expect(CLAIMED)
            for number in range(first, first + CLAIMED):
                claim = Claim(RunId(f"r{number}"), CHILD, 1)
                claimed = ClaimedRun.fresh(claim, noop.spec.id, event, wire=None, now_ms=NOW_MS)
                HandlerCall(Execution(claimed, noop, cast(Any, host), 0)).start()
            await over
        best_s = min(best_s, time.perf_counter() - started_s)
    return best_s / count * 1e6


async def store_stages(server: ValkeyServer, count: int) -> Figures:
    """Server time of each script, for a run."""
    store = await Store.open(server.url, timeout_s=5.0)
    admin = redis.Redis.from_url(server.url)

    async def server_us(calls: Sequence[Callable[[], Awaitable[Any]]]) -> tuple[float, list[Any]]:
        admin.config_resetstat()
        replies = [await call() for call in calls]
        spent: Any = admin.info("commandstats")
        return float(spent["cmdstat_evalsha"]["usec"]) / count, replies

    async def end(claims: Sequence[Claim]) -> None:
        await asyncio.gather(
            *[
                store.claims.finish(claim, "completed", b"1", has_pending=False, kept_ms=1, now_ms=NOW_MS)
                for claim in claims
            ]
        )

    def routing(slots: int) -> list[Callable[[], Awaitable[Any]]]:
        plans = plan_events(count)
        return [
            lambda part=plans[first : first + ROUTED]: store.routing.route(  # type: ignore[misc]
                part,
                app_id=app.id,
                version="1",
                child_id=CHILD if slots else "",
                free_slots=slots,
                now_ms=NOW_MS,
            )
            for first in range(0, count, ROUTED)
        ]

    figures: dict[str, float] = {}
    for _ in range(ROUNDS):
        admin.flushall()
        at_once_us, _ = await server_us(routing(ROUTED))
        admin.flushall()
        route_us, _ = await server_us(routing(0))
        claim_us, replies = await server_us(
            [
                lambda: store.claims.claim(
                    CHILD, app.id, "default", limit=CLAIMED, by_hint=False, unknown=(), now_ms=NOW_MS
                )
            ]
            * (count // CLAIMED)
        )
        claims = [run.claim for reply in cast(list[ClaimReply], replies) for run in reply.runs]
        finish_us, _ = await server_us(
            [lambda part=claims[first : first + CLAIMED]: end(part) for first in range(0, count, CLAIMED)]  # type: ignore[misc]
        )
        found = {"at_once_us": at_once_us, "route_us": route_us, "claim_us": claim_us, "finish_us": finish_us}
        figures = {name: min(us, figures.get(name, us)) for name, us in found.items()}
    admin.close()
    await store.close()
    return figures


BENCHMARK = Benchmark(
    name="stages",
    rows=(
        Row("encode_us", "producer: check and encode an event", "us"),
        Row("send_us", "producer: send, all of it, one event a call", "us"),
        Row("plan_us", "worker: read an event, find its functions, plan its runs", "us"),
        Row("execute_us", "worker: execute a claimed no-op run to its end, without the store", "us"),
        Row("route_us", "store: record an event and make its run, ready", "us"),
        Row("claim_us", "store: claim a ready run", "us"),
        Row("at_once_us", "store: record an event and make its run, claimed at once", "us"),
        Row("finish_us", "store: end a run", "us"),
    ),
    measure=measure,
)
