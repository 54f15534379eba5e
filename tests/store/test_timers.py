"""Timers: what falls due, in which order, and what stays. Rules S3.2, S6.3, S8.2."""

from __future__ import annotations

import random

from taskflow.store.claims import InvokedRun, ParkedOp
from taskflow.store.operation import Operation
from taskflow.store.registry import AppSettings, CodeBase, RegisteredFunction
from taskflow.types import RunId
from tests.store.scene import DAY_MS, NOW_MS, OTHER, Scene, retry_op, sleep_op, wait_op


async def test_timers_fire_in_order_and_only_when_due(scene: Scene) -> None:
    """S8.2"""
    due = [NOW_MS + ms for ms in range(10, 510, 10)]
    random.Random(3).shuffle(due)
    for number, due_ms in enumerate(due):
        await scene.make_run(f"r{number}", start_at_ms=due_ms)
    for _ in range(5):
        scene.now_ms += 100
        assert await scene.fire() == 10
        for number, due_ms in enumerate(due):
            assert await scene.status(f"r{number}") == ("queued" if due_ms <= scene.now_ms else "scheduled")


async def test_many_that_are_due_fire_in_parts(scene: Scene) -> None:
    """S8.2: each script is short; the reply says when the next is due."""
    for number in range(25):
        await scene.make_run(f"r{number:02}", start_at_ms=NOW_MS + 1 + number)
    scene.now_ms += 20
    fired = await scene.store.duties.fire_timers(limit=7, now_ms=scene.now_ms)
    assert (fired.count, fired.next_due_ms) == (7, NOW_MS + 8)
    assert await scene.status("r06") == "queued"
    assert await scene.status("r07") == "scheduled"
    assert await scene.fire() == 13
    assert (await scene.store.duties.fire_timers(limit=7, now_ms=scene.now_ms)).next_due_ms == NOW_MS + 21


async def test_an_earlier_timer_wakes_beat_and_a_later_one_does_not(scene: Scene) -> None:
    """S8.2: one nudge is enough."""
    call, nudge = scene.store.client.call, scene.store.keys.nudge
    await scene.make_run("r1", start_at_ms=NOW_MS + 5_000)
    assert await call("LPOP", nudge) is not None
    await scene.make_run("r2", start_at_ms=NOW_MS + 6_000)
    assert await call("LPOP", nudge) is None
    await scene.make_run("r3", start_at_ms=NOW_MS + 4_000)
    await scene.make_run("r4", start_at_ms=NOW_MS + 3_000)
    assert await call("LLEN", nudge) == 1


async def test_functions_that_change_are_told_to_beat_though_a_timer_wakes_it(scene: Scene) -> None:
    """S8.1: beat reads them when it is told so, or a minute later."""
    call, nudge = scene.store.client.call, scene.store.keys.nudge
    await scene.make_run("r1", start_at_ms=NOW_MS + 5_000)
    for slug in ("first", "second"):
        settings = AppSettings(retention_ms=DAY_MS, failed_retention_ms=DAY_MS, max_crashes=3)
        code_base = CodeBase("mail", settings, (RegisteredFunction(slug, b"{}", ""),), given_version=slug)
        assert await scene.store.registry.register(
            code_base, child_id=f"{slug}:0", is_watched=False, now_ms=NOW_MS
        )
    assert await call("LRANGE", nudge, 0, -1) == [b"functions", str(NOW_MS + 5_000).encode()]


async def test_a_sleep_that_is_over_wakes_its_run(scene: Scene) -> None:
    """S3.2"""
    await scene.park(await scene.claimed_run(), sleep_op(due_ms=NOW_MS + 5))
    assert await scene.timers() == {"op r1 nap": 5}
    scene.now_ms += 5
    assert await scene.fire() == 1
    op = await scene.operation("nap")
    assert (op.state, op.data, op.ended) == ("done", "null", NOW_MS + 5)
    assert await scene.status() == "queued"
    assert await scene.timers() == {}


async def test_a_wait_that_timed_out_gives_nothing_and_leaves_the_index(scene: Scene) -> None:
    """S3.3"""
    wait = wait_op(names=["paid", "refunded"], path="data.n", token="data.n=1", due_ms=NOW_MS + 5)
    await scene.park(await scene.claimed_run(), wait)
    assert {"waits:paid:data.n=1", "waits:refunded:data.n=1", "waitpaths:paid"} <= await scene.keys()
    scene.now_ms += 5
    await scene.fire()
    assert (await scene.operation("paid")).data == "null"
    assert not [key for key in await scene.keys() if key.startswith("wait")]


async def test_an_invoke_that_timed_out_fails_and_the_child_goes_on(scene: Scene) -> None:
    """S3.6"""
    op = Operation("invoke", "wait", 0, started=NOW_MS, due=NOW_MS + 5_500, child="c1")
    child = InvokedRun("shop/child", "default", RunId("c1"), b"{}", 0, 0)
    await scene.park(await scene.claimed_run(), ParkedOp("child", op.pack(), child))
    scene.now_ms += 5_500
    await scene.fire()
    error = (await scene.operation("child")).error
    assert error is not None
    assert (error["name"], error["message"]) == (
        "InvokeTimeout", "the invoked run c1 of shop/child did not finish within 5.5 s"
    )  # fmt: skip
    assert await scene.status("c1") == "queued"
    first = await scene.claim_one(OTHER)
    assert {first.claim.run_id, (await scene.claim_one(OTHER)).claim.run_id} == {"r1", "c1"}


async def test_a_child_that_ends_after_the_timeout_changes_nothing(scene: Scene) -> None:
    """S3.6"""
    op = Operation("invoke", "wait", 0, due=NOW_MS + 5, child="c1")
    child = InvokedRun("shop/child", "default", RunId("c1"), b"{}", 0, 0)
    await scene.park(await scene.claimed_run(), ParkedOp("child", op.pack(), child))
    born = (await scene.claim_one(OTHER)).claim
    scene.now_ms += 5
    await scene.fire()
    parent = (await scene.claim_one()).claim
    before = await scene.operation("child")
    await scene.finish(born)
    assert await scene.operation("child") == before
    assert await scene.park(parent) == "parked", "it is not marked dirty for nothing"


async def test_a_retry_that_is_due_wakes_its_run(scene: Scene) -> None:
    """S5.6"""
    await scene.park(await scene.claimed_run(), retry_op(due_ms=NOW_MS + 5))
    scene.now_ms += 5
    await scene.fire()
    op = await scene.operation("one")
    assert (op.state, op.due, len(op.attempts)) == ("due", None, 1)
    assert await scene.status() == "queued"


async def test_a_handler_that_waits_for_its_next_attempt_is_not_woken_before(scene: Scene) -> None:
    """S5.2: though a sleep that it left pending ends."""
    claim = await scene.claimed_run()
    await scene.park(claim, sleep_op(due_ms=NOW_MS + 10), suspend=False)
    await scene.retry(claim, in_ms=1_000)
    scene.now_ms += 10
    await scene.fire()
    assert await scene.status() == "waiting"
    assert (await scene.operation("nap")).state == "done"
    scene.now_ms += 990
    await scene.fire()
    assert await scene.status() == "queued"


async def test_a_timer_of_something_that_is_gone_is_harmless(scene: Scene) -> None:
    """S8.2"""
    call, timers = scene.store.client.call, scene.store.keys.timers
    await call("ZADD", timers, NOW_MS, "op\x1fgone\x1fnap", NOW_MS, "start\x1fgone")
    assert await scene.fire() == 2
    assert await scene.timers() == {}
    assert not [key for key in await scene.keys() if "gone" in key]


async def test_a_start_timeout_cancels_the_run_in_the_same_turn(scene: Scene) -> None:
    """S6.3: nothing lies between the two, so no beat can die there."""
    await scene.make_run("late", start_timeout_ms=1_000)
    assert await scene.timers() == {"start_timeout late": 1_000}
    scene.now_ms += 1_000
    assert await scene.fire() == 1
    assert await scene.status("late") == "cancelled"
    assert (await scene.fields("late"))["error"] == (
        '{"name":"RunTimeout","message":"the run was not started within timeouts.start","stack":""}'
    )
    assert await scene.timers() == {}
    assert (await scene.claim()).runs == []


async def test_a_finish_timeout_of_an_executing_run_is_requested_once(scene: Scene) -> None:
    """S6.3, S6.2: its owner ends it after its step; until then the request stands, and no timer repeats it."""
    claim = await scene.claimed_run(finish_timeout_ms=1_000)
    scene.now_ms += 1_000
    await scene.fire()
    assert await scene.timers() == {}
    assert await scene.commit(claim) == "cancel"
    assert await scene.hand_back() == 1
    again = await scene.claim_one(OTHER)
    assert b"did not finish within timeouts.finish" in again.cancel, "whoever goes on with it learns of it"


async def test_a_run_whose_start_and_timeout_are_due_in_one_turn(scene: Scene) -> None:
    """S6.3: beat was away for that long. The run is cancelled, and does not come back as ready."""
    await scene.make_run(start_at_ms=NOW_MS + 10, start_timeout_ms=1_000)
    scene.now_ms += 5_000
    assert await scene.fire() == 2
    assert await scene.status() == "cancelled"
    assert (await scene.claim()).runs == []


async def test_the_start_timeout_ends_with_the_first_claim_and_the_finish_timeout_begins(
    scene: Scene,
) -> None:
    """S6.3"""
    await scene.make_run(start_timeout_ms=1_000, finish_timeout_ms=2_000)
    assert await scene.timers() == {"start_timeout r1": 1_000}
    scene.now_ms += 500
    claim = (await scene.claim_one()).claim
    assert await scene.timers() == {"finish_timeout r1": 2_000}
    scene.now_ms += 500
    await scene.hand_back()
    claim = (await scene.claim_one()).claim
    assert await scene.timers() == {"finish_timeout r1": 1_500}, "only the first claim counts"
    await scene.finish(claim)
    assert await scene.timers() == {}
