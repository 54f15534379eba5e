"""The look for leaks finds each kind of them, and takes nothing else for one: else it would prove nothing elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from taskflow.flow.options import FlowControl
from taskflow.types import FunctionId
from tests.leaks import find_leaks
from tests.store.scene import FN, NOW_MS, Scene, offer_op, signal_op, sleep_op, wait_op

SEP = "\x1f"
DONE = "r1"  # a run that has ended
LEAKS: dict[str, tuple[str, ...]] = {
    "timers op": ("ZADD", "timers", str(NOW_MS), f"op{SEP}{DONE}{SEP}nap"),
    "timers finish_timeout": ("ZADD", "timers", str(NOW_MS), f"finish_timeout{SEP}{DONE}"),
    "timers lane": ("ZADD", "timers", str(NOW_MS), f"lane{SEP}default{SEP}{FN}{SEP}fn:x"),
    "ready:": ("ZADD", f"ready:default:{FN}", "1", DONE),
    "queue:": ("ZADD", "queue:shop:default", "1", "shop/idle"),
    "claims:": ("HSET", "claims:host-a:1", DONE, "1"),
    "places:": ("SADD", "places:fn:x", DONE),
    "lanes:": ("ZADD", f"lanes:{FN}", "1", "fn:x"),
    "blocked:fn": ("ZADD", "blocked:fn:x", "1", f"default{SEP}{FN}{SEP}fn:x"),
    "blocked: ": ("ZADD", "blocked", "1", "fn:y"),
    "waits:": ("SADD", "waits:paid:data.n=1", f"{DONE}{SEP}paid"),
    "waits:undone": ("SADD", "waits:undone:", f"{SEP}{DONE}{SEP}1"),
    "waitpaths:": ("HSET", "waitpaths:paid", "data.n", "1"),
    "waitpatterns": ("SADD", "waitpatterns", "shop/*"),
    "signals": ("HSET", "signals", f"shop{SEP}go", f"{DONE}{SEP}go"),
    "singleton:": ("HSET", f"singleton:{FN}:", "run", DONE),
    "debounce:": ("HSET", f"debounce:{FN}:", "run", DONE),
    "batching:": ("SET", f"batching:{FN}:", DONE),
    "batch:": ("RPUSH", "batch:gone", "{}"),
    "joins:": ("HSET", f"joins:{DONE}", "nap", "1"),
    "outbox": ("ZADD", "outbox", "1", "F1"),
    "cancel events": ("HSET", f"run:{DONE}", "cancels", "x"),
}


@pytest.mark.parametrize("kind", LEAKS)
async def test_each_kind_of_leak_is_found(scene: Scene, kind: str) -> None:
    """S6.2, S7.10: it is named with the key it is in."""
    client, prefix = scene.store.client, scene.store.keys.prefix
    await scene.finish(await scene.claimed_run(DONE))
    assert await find_leaks(client, prefix) == []
    command, key, *rest = LEAKS[kind]
    await client.call(command, prefix + key, *rest)
    assert any(kind in leak for leak in await find_leaks(client, prefix))
    await scene.clear()


async def test_an_operation_that_waits_in_an_ended_run_is_found(scene: Scene) -> None:
    """S6.2"""
    claim = await scene.claimed_run(DONE)
    await scene.park(claim, sleep_op(), suspend=False)
    await scene.finish(claim, pending=False)  # no owner says so while something is pending
    assert f"steps:{DONE}: nap waits, though the run is completed" in await find_leaks(
        scene.store.client, scene.store.keys.prefix
    )
    await scene.clear()


async def with_everything(scene: Scene) -> None:
    """A run that sleeps, waits for an event and a signal, and offers a step."""
    claim = await scene.claimed_run(start_timeout_ms=5_000, finish_timeout_ms=9_000)
    await scene.park(
        claim, sleep_op(), wait_op(path="data.n", token="data.n=1:2"), signal_op(), offer_op("offered")
    )


async def with_limits(scene: Scene) -> None:
    """Runs of one lane: one executes, one is queued behind it."""
    flow = FlowControl.of(concurrency=1, idempotency="event.data.n")
    packed = flow.plan(FunctionId(FN), {"data": {"n": 1}})
    await scene.register(flow="1 - - -")
    await scene.claimed_run("a", flow=packed)
    await scene.make_run("b", flow=packed)
    assert (await scene.claim()).runs == []


@pytest.mark.parametrize("prepare", [with_everything, with_limits])
async def test_what_live_runs_hold_is_no_leak(
    scene: Scene, prepare: Callable[[Scene], Awaitable[None]]
) -> None:
    """S7.10: but the same entries are, once their runs are gone."""
    await prepare(scene)
    client, prefix = scene.store.client, scene.store.keys.prefix
    assert await find_leaks(client, prefix, has_publisher=False) == []
    for key in await client.call("KEYS", f"{prefix}run:*"):
        await client.call("HSET", key, "status", "completed")
    assert len(await find_leaks(client, prefix, has_publisher=False)) >= 2
    await scene.clear()
