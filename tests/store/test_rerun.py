"""A rerun, as the script makes it. Rule S10.3."""

from __future__ import annotations

import pytest

from taskflow.store.control import NO_STEPS, KeptSteps, Rerun
from taskflow.store.operation import Operation
from taskflow.store.routing import RunPlan
from taskflow.types import RunId
from tests.store.scene import DAY_MS, EVENT, FN, Scene, sleep_op


async def rerun(
    scene: Scene, *, start_at_ms: int = 0, event: bytes = b"", steps: KeptSteps = NO_STEPS
) -> Rerun:
    plan = RunPlan(FN, "default", RunId("r2"), start_at_ms, 5_000, 9_000)
    outcome, _ = await scene.store.steering.rerun(
        "r1", plan, cause="replay", replay_id="mended", event=event, steps=steps, now_ms=scene.now_ms
    )
    return outcome


async def ended_run(scene: Scene, status: str = "failed") -> None:
    claim = await scene.claimed_run()
    await scene.commit(claim, "one")
    await scene.commit(claim, "two")
    await scene.finish(claim, status)


async def test_both_runs_name_each_other(scene: Scene) -> None:
    await scene.register()
    await ended_run(scene)
    assert await rerun(scene) is Rerun.MADE
    assert (await scene.fields("r1"))["rerun_by"] == "r2"
    made = await scene.fields("r2")
    assert {name: made[name] for name in ("rerun_of", "replay", "cause", "version", "status", "event")} == {
        "rerun_of": "r1", "replay": "mended", "cause": "replay", "version": "1", "status": "queued", "event": EVENT.decode(),
    }  # fmt: skip
    assert "parent" not in made


async def test_only_the_memos_asked_for_are_taken_over(scene: Scene) -> None:
    """With the claim they come to the process that executes the run."""
    await ended_run(scene)
    edited = Operation("step", "done", 1, order=1, data=b"7").pack()
    assert await rerun(scene, steps=KeptSteps(["one", "gone"], 2, "two", edited)) is Rerun.MADE
    run = await scene.claim_one()
    assert {key: Operation.unpack(packed).data for key, packed in run.steps.items()} == {
        "one": "1",
        "two": "7",
    }


async def test_it_may_start_later_and_with_another_event(scene: Scene) -> None:
    await ended_run(scene)
    assert await rerun(scene, start_at_ms=scene.now_ms + 1_000, event=b'{"n":2}') is Rerun.MADE
    assert await scene.status("r2") == "scheduled"
    assert (await scene.timers())["start r2"] == 1_000
    scene.now_ms += 1_000
    await scene.fire()
    assert (await scene.claim_one()).event == b'{"n":2}'


@pytest.mark.parametrize("state", ["queued", "running", "waiting"])
async def test_a_live_run_is_refused(scene: Scene, state: str) -> None:
    await scene.make_run()
    if state != "queued":
        claim = (await scene.claim_one()).claim
        if state == "waiting":
            await scene.park(claim, sleep_op())
    before = await scene.state()
    assert await rerun(scene) is Rerun.LIVE
    assert await scene.state() == before


async def test_an_unknown_run_is_refused(scene: Scene) -> None:
    assert await rerun(scene) is Rerun.UNKNOWN
    assert await scene.fields("r2") == {}


async def test_a_repeat_that_comes_late_changes_nothing(scene: Scene) -> None:
    """S9.5: the rerun executes by then, or has ended."""
    await ended_run(scene)
    await rerun(scene, steps=KeptSteps(["one"], 1))
    claim = (await scene.claim_one()).claim
    await scene.commit(claim, "two")
    before = await scene.state()
    assert await rerun(scene, steps=KeptSteps(["one"], 1)) is Rerun.KNOWN
    assert await scene.state() == before


async def test_the_first_run_may_be_removed_before_its_rerun_has_ended(scene: Scene) -> None:
    """S10.1: the rerun holds all that it needs."""
    await scene.register(failed_retention_ms=1_000)
    await ended_run(scene)
    await rerun(scene, steps=KeptSteps(["one"], 1))
    scene.now_ms += DAY_MS
    await scene.store.duties.trim_history(event_retention_ms=1_000, limit=100, now_ms=scene.now_ms)
    assert await scene.fields("r1") == {}
    assert set((await scene.claim_one()).steps) == {"one"}
