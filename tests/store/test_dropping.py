"""What becomes of an operation that a run gives up, whatever the store knows of it by then. Rules S3.7, S4.1."""

from __future__ import annotations

import pytest

from taskflow.store.claimed import Claim
from tests.store.scene import NOW_MS, OTHER, Scene, memo, offer_op, retry_op


async def drop(scene: Scene, claim: Claim) -> None:
    await scene.claims.drop(claim, "one", memo(state="dropped"), now_ms=NOW_MS)


@pytest.mark.parametrize("state", ["done", "failed"])
async def test_an_outcome_that_another_process_has_stored_stays(scene: Scene, state: str) -> None:
    """S4.1: the run gives the step up before it has heard of the outcome."""
    claim = await scene.claimed_run()
    await scene.park(claim, offer_op(), suspend=False)
    taken = (await scene.claim_one(OTHER)).claim
    await scene.claims.commit_offered(taken, "one", memo(state=state), now_ms=NOW_MS)
    before = await scene.state()
    await drop(scene, claim)
    assert await scene.state() == before


async def test_a_step_that_was_taken_back_is_dropped(scene: Scene) -> None:
    """S4.1: the store does not know it any more, and no replay is to begin it."""
    claim = await scene.claimed_run()
    await scene.park(claim, offer_op(), suspend=False)
    await scene.claims.withdraw_offer(claim, "one", now_ms=NOW_MS)
    await drop(scene, claim)
    assert (await scene.operation("one")).state == "dropped"


async def test_a_step_whose_retry_is_due_is_dropped_with_its_failed_attempts(scene: Scene) -> None:
    claim = await scene.claimed_run()
    await scene.park(claim, retry_op(), suspend=False)
    scene.now_ms += 10_000
    await scene.fire()
    assert (await scene.operation("one")).state == "due"
    await drop(scene, claim)
    op = await scene.operation("one")
    assert (op.state, len(op.attempts)) == ("dropped", 1)


async def test_an_offer_that_is_dropped_is_offered_no_more(scene: Scene) -> None:
    claim = await scene.claimed_run()
    await scene.park(claim, offer_op(), suspend=False)
    await drop(scene, claim)
    assert (await scene.claim(OTHER)).runs == []
    assert (await scene.operation("one")).state == "dropped"
