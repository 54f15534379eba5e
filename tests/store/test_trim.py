"""Trimming: what is old goes, with all keys of its own; nothing else does. Rule S10.1."""

from __future__ import annotations

from taskflow.store.claimed import Claim
from taskflow.store.claims import Verdict
from taskflow.store.control import Rerun
from taskflow.store.routing import RunPlan
from taskflow.types import RunId
from tests.store.scene import DAY_MS, EVENT, NOW_MS, Scene, sleep_op, wait_op

MINUTE_MS = 60_000
STATIC = {
    "known_functions",
    "secret",
    "version",
    "ended",
    "seq",
    "apps",
    "app:shop",
    "functions:shop",
    "codes:shop",
    "running",
    "workers",
    "registered",
    "worker:registrar",
    "worker:host-a",
    "nudge",
    "hints",
    "queues",
}


async def left_keys(scene: Scene) -> set[str]:
    """The keys that are there beside those that stay, and those of the code that is registered."""
    return {key for key in await scene.keys() - STATIC if not key.startswith(("code:shop", "edition:shop"))}


async def trim(scene: Scene, *, limit: int = 100, event_retention_ms: int = DAY_MS) -> int:
    return await scene.store.duties.trim_history(
        event_retention_ms=event_retention_ms, limit=limit, now_ms=scene.now_ms
    )


async def test_nothing_of_a_finished_run_or_its_event_is_left(scene: Scene) -> None:
    """S10.1"""
    await scene.register()
    await scene.route("U1", "r1", free=1)
    claim = Claim(RunId("r1"), "host-a:1", 1)
    await scene.commit(claim)
    await scene.park(claim, sleep_op(), wait_op(), suspend=False)
    await scene.finish(claim)
    scene.now_ms += DAY_MS - 1
    assert await trim(scene) == 0
    assert await scene.status() == "completed"
    scene.now_ms += 1
    assert await trim(scene) > 0
    assert await left_keys(scene) == {"event:U1", "events:order", "event_names"}
    scene.now_ms += MINUTE_MS
    assert await trim(scene) > 0
    assert await trim(scene) == 0
    assert not await left_keys(scene)


async def test_runs_of_the_same_ten_seconds_go_together(scene: Scene) -> None:
    """S10.1: none too early."""
    await scene.register()
    await scene.finish(await scene.claimed_run("r1"))
    scene.now_ms += 1
    await scene.finish(await scene.claimed_run("r2"))
    scene.now_ms += DAY_MS
    assert (await trim(scene), await scene.status("r2")) == (1, "completed")
    scene.now_ms += 9_998
    assert (await trim(scene), await scene.status("r2")) == (0, "completed")
    scene.now_ms += 1
    assert await trim(scene) >= 1
    assert await scene.status("r2") == ""


async def test_a_run_that_is_kept_for_longer_than_its_event_keeps_the_text(scene: Scene) -> None:
    """S10.1, S10.3: a failed run, and one that is live; what has no record keeps its event anyhow."""
    await scene.register()
    for run_id in ("asleep", "failed"):
        await scene.route(f"E-{run_id}", run_id, free=1)
    await scene.park(Claim(RunId("asleep"), "host-a:1", 1), sleep_op(due_ms=NOW_MS + 90 * DAY_MS))
    await scene.finish(Claim(RunId("failed"), "host-a:1", 1), "failed")
    scene.now_ms += DAY_MS + MINUTE_MS
    await trim(scene)
    assert not [key for key in await scene.keys() if key.startswith("event")]
    for run_id in ("asleep", "failed"):
        assert (await scene.fields(run_id))["event"] == EVENT.decode()
    rerun = RunPlan("shop/work", "default", RunId("r2"))
    made, _ = await scene.store.steering.rerun("failed", rerun, cause="rerun", now_ms=scene.now_ms)
    assert made is Rerun.MADE
    assert [run.event for run in (await scene.claim()).runs] == [EVENT]


async def test_a_run_that_is_not_final_is_kept_for_ever(scene: Scene) -> None:
    """S10.1: queued, waiting or executing."""
    await scene.register()
    await scene.park(await scene.claimed_run("asleep"), sleep_op())
    await scene.claimed_run("busy")
    await scene.make_run("queued")
    await scene.make_run("later", start_at_ms=NOW_MS + 300 * DAY_MS)
    scene.now_ms += 200 * DAY_MS
    await trim(scene)
    statuses = [await scene.status(run_id) for run_id in ("asleep", "busy", "queued", "later")]
    assert statuses == ["waiting", "running", "queued", "scheduled"]
    assert (await scene.operation("nap", "asleep")).state == "wait"


async def test_each_kind_of_end_has_its_own_retention(scene: Scene) -> None:
    """S10.1: 24 h, and 7 d for those that failed."""
    await scene.register()
    await scene.finish(await scene.claimed_run("done"))
    await scene.finish(await scene.claimed_run("failed"), "failed")
    await scene.park(await scene.claimed_run("cancelled"), sleep_op())
    await scene.cancel("cancelled")
    scene.now_ms += DAY_MS
    await trim(scene)
    assert [await scene.status(each) for each in ("done", "cancelled", "failed")] == ["", "", "failed"]
    scene.now_ms += 6 * DAY_MS - 1
    await trim(scene)
    assert await scene.status("failed") == "failed"
    scene.now_ms += 1
    await trim(scene)
    assert await scene.status("failed") == ""


async def test_a_long_history_is_trimmed_in_parts(scene: Scene) -> None:
    """S10.1: each script is short; the reply says whether to go on."""
    await scene.register()
    for number in range(25):
        await scene.finish(await scene.claimed_run(f"r{number}"))
    scene.now_ms += DAY_MS + MINUTE_MS
    replies = []
    while (removed := await trim(scene, limit=10)) >= 10:
        replies.append(removed)
    assert len(replies) == 2
    assert not [key for key in await scene.keys() if key.startswith(("run:", "runs:", "event:"))]


async def test_the_index_of_a_function_holds_only_runs_that_are_kept(scene: Scene) -> None:
    """S10.1"""
    await scene.register()
    await scene.finish(await scene.claimed_run("old"))
    scene.now_ms += DAY_MS // 2
    await scene.finish(await scene.claimed_run("young"))
    scene.now_ms += DAY_MS // 2
    await trim(scene)
    assert await scene.store.history.recent_runs("shop/work", limit=10) == [("young", NOW_MS + DAY_MS // 2)]


async def test_the_retention_of_an_app_that_never_registered_is_the_default(scene: Scene) -> None:
    """S10.1"""
    claim = await scene.claimed_run()
    assert await scene.finish(claim, "failed") is Verdict.OK
    scene.now_ms += 7 * DAY_MS - 1
    await trim(scene)
    assert await scene.status() == "failed"
    scene.now_ms += 1
    await trim(scene)
    assert await scene.status() == ""
