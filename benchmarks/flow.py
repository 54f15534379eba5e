"""Flow control: what limits, priority and many keys cost in runs a second, and how a claim grows with the runs that are queued."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from typing import Any

import msgpack

from benchmarks.harness import PREFIX, RunRecord, Stack, lists_of
from benchmarks.limited import ACCOUNT_LIMIT
from benchmarks.report import Benchmark, Figures, Row, Scale, at_least, at_most
from taskflow.event import Event
from taskflow.store.registry import AppSettings, CodeBase, RegisteredFunction
from taskflow.store.routing import RunPlan
from taskflow.store.store import Store
from taskflow.types import RunId
from taskflow.values.ids import run_id_for
from tests.servers import ValkeyServer

LIMITED = "benchmarks.limited:app"
EVENT = b'{"uid":"E1","id":"E1","name":"order","data":{"n":1},"ts":1893456000000}'
LIST_SIZE = 100
TENANTS = 20
KEYS = 1_000
LIMIT = 10
CLAIMS = 300
FIRST_RUNS = 30


def measure(scale: Scale) -> Figures:
    count = scale.pick(20_000, 500)
    plain = drain("noop", count, lambda n: {"n": n})
    limited = drain("limited", count, lambda n: {"n": n, "tenant": n % TENANTS, "rank": n % 7})
    one_key = drain("keyed", count, lambda n: {"n": n, "key": 0})
    many_keys = drain("keyed", count, lambda n: {"n": n, "key": n % KEYS})
    few, many = asyncio.run(claim_costs(1_000, scale.pick(1_000_000, 20_000)))
    return {
        "plain_per_s": plain,
        "limited_per_s": limited,
        "limited_share": limited / plain * 100,
        "one_key_per_s": one_key,
        "many_keys_share": many_keys / one_key * 100,
        "two_limits_share": two_limits_share(scale.pick(1_000, 100)),
        **fairness(scale.pick(100_000, 1_000)),
        "claim_us": many,
        "claim_growth": many / few,
    }


def drain(slug: str, count: int, data: Callable[[int], dict[str, Any]]) -> float:
    """Runs a second of a no-op function."""
    wall_s, _ = drain_runs(slug, count, data)
    return count / wall_s


def drain_runs(slug: str, count: int, data: Callable[[int], dict[str, Any]]) -> tuple[float, list[RunRecord]]:
    """Seconds until all runs have ended, and what they gave; both processes are ready, and go on when all events are sent."""
    with Stack(LIMITED) as stack, stack.system() as worker:
        with worker.held():
            events = [Event(f"bench/{slug}", data(number)) for number in range(count)]
            for part in lists_of(events, LIST_SIZE):
                stack.producer.send(part)
            released_ms = time.time() * 1_000
        stack.wait_for_finished(count)
        records = stack.records(slug)
    if len(records) != count:
        raise RuntimeError(f"expected {count:,} finished runs of {slug}, got {len(records):,}")
    return (max(record.ended_ms for record in records) - released_ms) / 1_000, records


def two_limits_share(count: int) -> float:
    """Part (%) of what the tighter limit allows: an account's 5, and 1 for each of 20 tenants."""
    wall_s, records = drain_runs("two-limits", count, lambda n: {"tenant": n % TENANTS})
    work_s = sum(record.output for record in records) / 1e6
    return work_s / (wall_s * ACCOUNT_LIMIT) * 100


def fairness(backlog: int) -> Figures:
    """How long (ms) a key's first run takes from send to start, on an idle system and behind another key's backlog."""
    with Stack(LIMITED) as stack, stack.system():
        idle_ms = first_start_ms(stack, "idle")
        events = [Event("bench/slow", {"n": 0, "key": "A"})] * LIST_SIZE
        for _ in range(backlog // LIST_SIZE):
            stack.producer.send(events)
        stack.wait_until(
            lambda: int(stack.redis.zcard(f"{PREFIX}runs:bench/slow")) >= backlog, what=f"{backlog:,} runs"
        )
        return {"fair_idle_ms": idle_ms, "fair_ms": first_start_ms(stack, "behind")}


def first_start_ms(stack: Stack, kind: str) -> float:
    """The median over some keys that have no other run."""
    spent = []
    for number in range(FIRST_RUNS):
        sent_ms = time.time() * 1_000
        (event_id,) = stack.producer.send("bench/slow", {"n": 0, "key": f"{kind}-{number}"})
        key = f"{PREFIX}run:{run_id_for(event_id, 'bench/slow')}"
        stack.wait_until(lambda key=key: stack.redis.hexists(key, "output"), what="the end of a run")
        spent.append(float(stack.redis.hget(key, "output") or 0) - sent_ms)
    return statistics.median(spent)


async def claim_costs(few: int, many: int) -> tuple[float, float]:
    """Server time (us) of a claim from one function's backlog, whose limit one claim of ten runs uses up."""
    with ValkeyServer() as server:
        store = await Store.open(server.url)
        try:
            settings = AppSettings(retention_ms=1_000, failed_retention_ms=1_000, max_crashes=3)
            function = RegisteredFunction("work", b"{}", f"{LIMIT} - - -")
            code_base = CodeBase("bench", settings, (function,))
            await store.registry.register(code_base, child_id="bench:0", now_ms=0)
            costs = []
            made = 0
            for wanted in (few, many):
                await make_runs(store, made, wanted)
                made = wanted
                costs.append(await claim_cost(store))
            return costs[0], costs[1]
        finally:
            await store.close()


async def make_runs(store: Store, first: int, end: int) -> None:
    flow = msgpack.packb({"lane": "fn:bench/work:0:"}, use_bin_type=False)
    for start in range(first, end, 500):
        await asyncio.gather(*[
            store.routing.start_run(
                RunPlan("bench/work", "default", RunId(f"r{number:08}"), flow=flow),
                uid="E1", name="order", event=EVENT, cause="event", version="1", now_ms=start,
            )
            for number in range(start, min(start + 500, end))
        ])  # fmt: skip


async def claim_cost(store: Store) -> float:
    """Claim and hand back again and again; the mean server time (us) of the script that claims."""
    await store.client.call("CONFIG", "RESETSTAT")
    spent_us = 0.0
    for _ in range(CLAIMS):
        before = await script_us(store)
        reply = await store.claims.claim(
            "host:1", "bench", "default", limit=100, by_hint=False, unknown=(), now_ms=2_000_000
        )
        spent_us += await script_us(store) - before
        if len(reply.runs) != LIMIT:
            raise RuntimeError(f"expected {LIMIT} runs, claimed {len(reply.runs)}")
        await store.claims.hand_back("host:1", (), crashed=False, cause="", now_ms=2_000_000)
    return spent_us / CLAIMS


async def script_us(store: Store) -> float:
    """All server time (us) that scripts have taken so far."""
    text: bytes = await store.client.call("INFO", "commandstats")
    for line in text.decode().splitlines():
        if line.startswith("cmdstat_evalsha:"):
            return float(line.partition("usec=")[2].partition(",")[0])
    return 0.0


BENCHMARK = Benchmark(
    name="flow",
    rows=(
        Row("plain_per_s", "no-op runs drained, without limits", "runs/s"),
        Row("limited_per_s", "with a keyed concurrency limit and priority", "runs/s"),
        Row("limited_share", "of those without", "%", at_least(60)),
        Row("one_key_per_s", "with a keyed limit, all of one key", "runs/s"),
        Row("many_keys_share", "with 1,000 keys: of those with one", "%", at_least(50)),
        Row("two_limits_share", "two limits at once: of what the tighter one allows", "%", at_least(90)),
        Row("fair_idle_ms", "send to start of a key's first run, idle", "ms"),
        Row("fair_ms", "the same with 100,000 runs of another key queued", "ms"),
        Row("claim_us", "server time of a claim of 10 with 1,000,000 runs queued", "us"),
        Row("claim_growth", "times that with 1,000 queued", "x", at_most(1.5)),
    ),
    measure=measure,
)
