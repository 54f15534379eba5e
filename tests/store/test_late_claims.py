"""What a child claims after its claims were handed back, because the network held its command up. Rules S9.2, S9.3."""

from __future__ import annotations

from taskflow.store.claims import Verdict
from tests.store.scene import CHILD, NOW_MS, OTHER, Scene, memo, offer_op
from tests.store.test_lanes import LIMIT, claim_ids, claim_of, make_runs

MINUTE_MS = 60_000


async def late_children(scene: Scene, *, later_ms: int = 0) -> list[str]:
    lost = await scene.find_lost(later_ms=later_ms, hint_age_ms=1 << 40)
    assert all(worker.worker_id == "" for worker in lost.workers)
    return [child_id for worker in lost.workers for child_id in worker.child_ids]


async def test_what_a_dead_child_claims_late_is_found_and_handed_back(scene: Scene) -> None:
    await scene.make_run()
    await scene.hand_back(CHILD, crashed=True)
    assert await late_children(scene) == []
    await scene.claim_one(CHILD)
    assert await late_children(scene) == [CHILD]
    assert await scene.hand_back(CHILD) == 1
    assert await scene.status() == "queued"
    assert await late_children(scene) == []


async def test_a_child_whose_worker_says_later_that_it_lives_keeps_its_claims(scene: Scene) -> None:
    """S9.4: its host had been taken for dead."""
    await scene.make_run()
    await scene.hand_back(CHILD, crashed=True)
    scene.now_ms += 1
    await scene.heartbeat("host-a", CHILD)
    await scene.claim_one(CHILD)
    assert await late_children(scene) == []


async def test_a_heartbeat_from_before_the_end_of_a_child_does_not_bring_it_back(scene: Scene) -> None:
    await scene.make_run()
    scene.now_ms += 1
    await scene.hand_back(CHILD, crashed=True)
    scene.now_ms -= 1
    await scene.heartbeat("host-a", CHILD)
    await scene.claim_one(CHILD)
    assert await late_children(scene) == [CHILD]


async def test_a_dead_child_is_forgotten_after_twenty_minutes(scene: Scene) -> None:
    await scene.hand_back(CHILD, crashed=True)
    assert "graves" in await scene.keys()
    await late_children(scene, later_ms=20 * MINUTE_MS)
    assert "graves" not in await scene.keys()


async def test_a_step_that_is_given_up_counts_until_it_ends(scene: Scene) -> None:
    """S7.1, S3.7: its run has ended, but who took it executes on."""
    await scene.register(flow="1 - - -")
    await make_runs(scene, "a", "b", in_lane=LIMIT)
    assert await claim_ids(scene) == ["a"]
    await scene.park(claim_of("a"), offer_op(), suspend=True)
    (step,) = (await scene.claim(OTHER, limit=1)).runs
    assert await scene.cancel("a") == "cancelled"
    assert await claim_ids(scene) == []
    verdict, _ = await scene.claims.commit_offered(step.claim, "one", memo(), now_ms=NOW_MS)
    assert verdict is Verdict.FENCED
    assert await claim_ids(scene) == ["b"]


async def test_a_step_that_is_given_up_counts_until_its_process_has_died(scene: Scene) -> None:
    """S7.1, S9.3"""
    await scene.register(flow="1 - - -")
    await make_runs(scene, "a", "b", in_lane=LIMIT)
    assert await claim_ids(scene) == ["a"]
    await scene.park(claim_of("a"), offer_op(), suspend=True)
    await scene.claim(OTHER, limit=1)
    assert await scene.cancel("a") == "cancelled"
    assert await claim_ids(scene) == []
    await scene.hand_back(OTHER, crashed=True)
    assert await claim_ids(scene) == ["b"]
