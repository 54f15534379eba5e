"""Counts and lists of runs by status, as the scripts keep them: exact after each, whatever is repeated. Rules S10.2, S10.5."""

from __future__ import annotations

import msgpack

from taskflow.store.claims import InvokedRun, ParkedOp
from taskflow.store.history import LiveCount
from taskflow.types import RunId
from tests.leaks import find_leaks
from tests.store.scene import DAY_MS, EVENT, FN, NOW_MS, OTHER, Scene, sleep_op


async def counts(scene: Scene) -> dict[tuple[str, str], int]:
    """By queue and status, of one function; what the counts say is what is there."""
    assert not await find_leaks(scene.store.client, scene.store.keys.prefix, has_publisher=False)
    return {(each.queue, each.status): each.runs for each in await scene.store.history.live_counts()}


async def test_a_run_is_counted_where_it_is_until_it_ends(scene: Scene) -> None:
    await scene.make_run("r1")
    await scene.make_run("r2", queue="gpu")
    await scene.make_run("later", start_at_ms=NOW_MS + 5)
    assert await counts(scene) == {
        ("default", "queued"): 1,
        ("gpu", "queued"): 1,
        ("default", "scheduled"): 1,
    }
    claim = (await scene.claim_one()).claim
    assert await counts(scene) == {
        ("default", "running"): 1,
        ("gpu", "queued"): 1,
        ("default", "scheduled"): 1,
    }
    await scene.park(claim, sleep_op(due_ms=NOW_MS + 5))
    assert (await counts(scene))["default", "waiting"] == 1
    scene.now_ms += 5
    await scene.fire()
    assert await counts(scene) == {("default", "queued"): 2, ("gpu", "queued"): 1}
    for run in (await scene.claim()).runs:
        await scene.finish(run.claim)
    await scene.cancel("r2")
    assert await scene.store.history.live_counts() == []


async def test_crashes_and_retries_are_counted(scene: Scene) -> None:
    claim = await scene.claimed_run("r1")
    await scene.claimed_run("r2", child_id=OTHER)
    await scene.hand_back(OTHER, crashed=True)
    assert await counts(scene) == {("default", "running"): 1, ("default", "queued"): 1}
    await scene.retry(claim)
    assert await counts(scene) == {("default", "waiting"): 1, ("default", "queued"): 1}


async def test_runs_that_never_begin_are_listed_and_not_counted(scene: Scene) -> None:
    """S7.7: the second of a singleton is skipped, and one that takes over cancels the first."""
    for mode, kind in (("skip", "skipped"), ("cancel", "cancelled")):
        flow = msgpack.packb({"single": ["shop/work:" + mode, mode]}, use_bin_type=False)
        await scene.route(f"U1{mode}", f"r1{mode}", flow=flow)
        await scene.route(f"U2{mode}", f"r2{mode}", flow=flow)
        refused = {"skip": "r2skip", "cancel": "r1cancel"}[mode]
        assert await scene.store.history.recent_runs(FN, kind=kind, limit=10) == [(refused, NOW_MS)]
    assert await counts(scene) == {("default", "queued"): 2}


async def test_a_read_of_what_failed_does_not_see_what_completed(scene: Scene) -> None:
    """By the time at which it was made; and after the retention nothing is listed."""
    await scene.register()
    history = scene.store.history
    for number in range(5):
        claim = await scene.claimed_run(f"r{number}")
        await scene.finish(claim, "failed" if number % 2 else "completed")
        scene.now_ms += 1
    assert await history.recent_runs(FN, kind="failed", limit=10) == [("r3", NOW_MS + 3), ("r1", NOW_MS + 1)]
    assert await history.recent_runs(FN, kind="failed", limit=10, before_ms=NOW_MS + 3) == [
        ("r1", NOW_MS + 1)
    ]
    assert await history.recent_runs(FN, kind="live", limit=10) == []
    assert len(await history.recent_runs(FN, limit=10)) == 5
    scene.now_ms += 8 * DAY_MS
    await scene.store.duties.trim_history(event_retention_ms=DAY_MS, limit=100, now_ms=scene.now_ms)
    assert await history.recent_runs(FN, kind="failed", limit=10) == []
    assert not [key for key in await scene.keys() if key.startswith(("runs:", "children:"))]


async def test_a_run_knows_those_that_it_invoked(scene: Scene) -> None:
    claim = await scene.claimed_run()
    child = InvokedRun("shop/child", "default", RunId("c1"), EVENT, 0, 0)
    for _ in range(2):
        await scene.park(claim, ParkedOp("child", sleep_op().packed, child), suspend=False)
    assert await scene.store.history.children("r1") == [("c1", NOW_MS)]
    assert LiveCount("shop/child", "default", "queued", 1) in await scene.store.history.live_counts()


async def test_what_ended_is_read_by_a_cursor(scene: Scene) -> None:
    """Also when a clock goes back."""
    history = scene.store.history
    await scene.finish(await scene.claimed_run("r1"))
    scene.now_ms -= 5
    await scene.finish(await scene.claimed_run("r2"), "failed")
    ended, cursor = await history.ended_since(limit=1)
    assert ended == [("r1", "completed")]
    ended, cursor = await history.ended_since(cursor)
    assert ended == [("r2", "failed")]
    assert await history.ended_since(cursor) == ([], cursor)
