"""Claims of children that no heartbeat names: they had ended, have just begun, or the store was emptied. Rules S9.2, S9.3, S9.5."""

from __future__ import annotations

import pytest

from taskflow.store.claims import Verdict
from tests.store.scene import CHILD, NOW_MS, OTHER, Scene, memo, offer_op
from tests.store.test_code_bases import V1, register
from tests.store.test_lanes import LIMIT, claim_ids, claim_of, flow, make_runs

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


SILENCE_MS = 11_000
CLAIMS = ("a ready run", "an event's plain run", "an event's run under a limit")


async def claim_by(scene: Scene, way: str) -> None:
    """Have CHILD claim r1."""
    if way == "a ready run":
        await scene.claimed_run()
    else:
        await scene.route("E1", "r1", free=1, flow=flow(LIMIT) if "limit" in way else b"")
    assert await scene.status() == "running"


async def bury_the_silent(scene: Scene) -> list[str]:
    """What the reaper does; the workers that it finds dead."""
    lost = await scene.find_lost(silence_ms=SILENCE_MS)
    for worker in lost.workers:
        for child_id in worker.child_ids:
            await scene.hand_back(child_id, crashed=True)
        await scene.store.duties.forget_worker(worker.worker_id, silent_since_ms=scene.now_ms - SILENCE_MS)
    return [worker.worker_id for worker in lost.workers]


@pytest.mark.parametrize("way", CLAIMS)
async def test_what_a_child_claims_before_its_first_heartbeat_is_handed_back_when_the_host_dies(
    scene: Scene, way: str
) -> None:
    """S9.3"""
    await register(scene, V1, CHILD, is_watched=True)
    await claim_by(scene, way)
    scene.now_ms += SILENCE_MS
    assert await bury_the_silent(scene) == ["host-a"]
    assert await scene.status() == "queued"


@pytest.mark.parametrize("way", CLAIMS)
async def test_what_a_child_claims_in_a_store_that_was_emptied_is_handed_back_when_the_host_dies(
    scene: Scene, way: str
) -> None:
    """S9.5: neither the child nor its supervisor has noticed yet."""
    await claim_by(scene, way)
    scene.now_ms += SILENCE_MS - 1
    assert await bury_the_silent(scene) == []
    scene.now_ms += 1
    assert await bury_the_silent(scene) == ["host-a"]
    assert await scene.status() == "queued"
    assert await bury_the_silent(scene) == []


async def test_a_worker_learns_that_the_store_has_it_from_a_claim_and_not_from_its_heartbeat(
    scene: Scene,
) -> None:
    """S9.5: the store was emptied, so its processes register again."""
    known_ms = await scene.heartbeat("host-a", CHILD)
    await scene.clear()
    scene.now_ms += 1
    await scene.claimed_run()
    scene.now_ms += 1
    assert known_ms < await scene.heartbeat("host-a", CHILD) < scene.now_ms
    scene.now_ms += SILENCE_MS - 1
    assert await bury_the_silent(scene) == []


async def test_a_process_without_a_supervisor_is_never_taken_for_silent(scene: Scene) -> None:
    await register(scene, V1, CHILD)
    await scene.claimed_run()
    scene.now_ms += 10 * SILENCE_MS
    assert await bury_the_silent(scene) == []
    assert await scene.status() == "running"


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
