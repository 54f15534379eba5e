"""What the store keeps of a run that has ended, in bytes: a no-op with its event (50 bytes of data), and a run of five small steps.

The scripts are called as a worker calls them. What `used_memory` has grown by is divided by the number of runs; the stream
of the runs that ended last, of bounded length, is left out.
"""

from __future__ import annotations

import asyncio

import orjson

from benchmarks.report import Benchmark, Figures, Row, Scale, at_most
from taskflow.store.claimed import Claim
from taskflow.store.operation import DONE, Operation
from taskflow.store.registry import AppSettings, CodeBase, RegisteredFunction
from taskflow.store.routing import EventPlan, RunPlan
from taskflow.store.store import Store
from taskflow.types import RunId
from taskflow.values.ids import new_ulid, run_id_for
from tests.servers import ValkeyServer

CHILD = "f3a1b2c4d5e6-17-9f86d081:1"
FUNCTION = "shop/charge-card"
ROUTED = 50
STEPS = 5
START_MS = 1_893_456_000_000
DAY_MS = 86_400_000


def measure(scale: Scale) -> Figures:
    count = scale.pick(10_000, 500)
    figures = {}
    for name, steps in (("noop_bytes", 0), ("steps_bytes", STEPS)):
        with ValkeyServer() as server:
            figures[name] = asyncio.run(bytes_a_run(server, count, steps))
    return figures


async def bytes_a_run(server: ValkeyServer, count: int, steps: int) -> float:
    store = await Store.open(server.url)
    settings = AppSettings(retention_ms=DAY_MS, failed_retention_ms=7 * DAY_MS, max_crashes=3)
    code_base = CodeBase("shop", settings, (RegisteredFunction("charge-card", b"{}", ""),))
    await store.registry.register(code_base, child_id="bench:0", now_ms=START_MS)
    # What exists once.
    await end_runs(store, 100, steps, START_MS)
    before = await used_memory(store)
    await end_runs(store, count, steps, START_MS + 1_000)
    after = await used_memory(store)
    await store.close()
    return (after - before) / count


async def end_runs(store: Store, count: int, steps: int, now_ms: int) -> None:
    """Ten milliseconds a batch, each of whose runs takes 25 ms."""
    for first in range(0, count, ROUTED):
        now_ms += 10
        events = [plan(now_ms) for _ in range(min(ROUTED, count - first))]
        await store.routing.route(
            events, app_id="shop", version="1", child_id=CHILD, free_slots=ROUTED, now_ms=now_ms
        )
        await asyncio.gather(*[end(store, event.runs[0].run_id, steps, now_ms) for event in events])


def plan(now_ms: int) -> EventPlan:
    uid = new_ulid(now_ms)
    data = {"customer": 123_456, "amount": 4_999, "currency": "eur"}
    text = orjson.dumps({"uid": uid, "id": uid, "name": "shop/order.paid", "data": data, "ts": now_ms})
    runs = [RunPlan(FUNCTION, "default", run_id_for(uid, FUNCTION), is_claimable=True)]
    return EventPlan.of(uid, "", "shop/order.paid", text, runs)


async def end(store: Store, run_id: RunId, steps: int, now_ms: int) -> None:
    claim = Claim(run_id, CHILD, 1)
    for index in range(steps):
        at_ms = now_ms + 5 * index
        op = Operation(
            "step", DONE, index, order=index, data=b'"ok"', started=at_ms, ended=at_ms + 4, worker=CHILD
        )
        await store.claims.commit_step(claim, f"step-{index}", op.pack(), is_completed=True)
    await store.claims.finish(
        claim, "completed", b"null", has_pending=False, kept_ms=DAY_MS, now_ms=now_ms + 25
    )


async def used_memory(store: Store) -> int:
    """Without the stream of what ended last, whose length is bounded."""
    text: bytes = await store.client.call("INFO", "memory")
    bounded = await store.client.call("MEMORY", "USAGE", store.keys.ended, "SAMPLES", 0)
    return int(text.partition(b"used_memory:")[2].split()[0]) - int(bounded or 0)


BENCHMARK = Benchmark(
    name="history",
    rows=(
        Row("noop_bytes", "store, of a no-op run that has ended, with its event", "B", at_most(700)),
        Row("steps_bytes", "store, of a run of five small steps, with its event", "B", at_most(1_100)),
    ),
    measure=measure,
)
