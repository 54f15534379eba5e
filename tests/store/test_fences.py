"""Every script of a run's owner refuses whoever isn't its owner any more, and changes nothing then. Rule S9.4."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from taskflow.store.claimed import Claim
from taskflow.store.claims import Verdict
from taskflow.store.refusals import RefusedEvent
from tests.store.scene import CHILD, NOW_MS, OTHER, Scene, memo, offer_op, retry_op, sleep_op, wait_op

Write = Callable[[Scene, Claim], Awaitable[Any]]


async def fetch(scene: Scene, claim: Claim) -> Verdict:
    verdict, ops = await scene.claims.fetch_resolved(claim, ["one"])
    assert verdict is not Verdict.FENCED or ops == []
    return verdict


async def drop(scene: Scene, claim: Claim) -> Any:
    dropped, _ = await scene.store.scripts.drop_operations(
        now_ms=NOW_MS,
        child_id=claim.child_id,
        run_id=claim.run_id,
        fence=claim.fence,
        operations=[("nap", memo(state="dropped"))],
    )
    return dropped


def refusing(*, ends: bool) -> Write:
    async def refuse(scene: Scene, claim: Claim) -> Verdict:
        events = [RefusedEvent(f"E-{claim.run_id}", "no count")]
        verdict, _ = await scene.store.refusals.refuse(
            claim, events, ends=ends, is_dead_letter=True, now_ms=NOW_MS
        )
        return verdict

    return refuse


async def withdraw(scene: Scene, claim: Claim) -> bool:
    is_ours, _ = await scene.claims.withdraw_offer(claim, "offered", now_ms=NOW_MS)
    return is_ours


REFUSED = ("fenced", Verdict.FENCED, 0, False)
WRITES: dict[str, Write] = {
    "refuse its events": refusing(ends=True),
    "refuse one of its events": refusing(ends=False),
    "commit": lambda scene, claim: scene.commit(claim),
    "commit a failure": lambda scene, claim: scene.commit(claim, state="failed"),
    "park and stay": lambda scene, claim: scene.park(claim, sleep_op("other"), suspend=False),
    "park and suspend": lambda scene, claim: scene.park(claim, wait_op(), suspend=True),
    "park a retry": lambda scene, claim: scene.park(claim, retry_op("two"), suspend=True),
    "offer": lambda scene, claim: scene.park(claim, offer_op("two"), suspend=False),
    "withdraw an offer": withdraw,
    "finish": lambda scene, claim: scene.finish(claim),
    "finish at once": lambda scene, claim: scene.finish(claim, pending=False),
    "fail": lambda scene, claim: scene.finish(claim, "failed"),
    "end cancelled": lambda scene, claim: scene.finish(claim, "cancelled"),
    "retry the handler": lambda scene, claim: scene.retry(claim),
    "fetch": fetch,
    "drop": drop,
}


async def handed_back(scene: Scene, claim: Claim) -> Claim:
    await scene.hand_back(crashed=True)
    return claim


async def taken_by_another(scene: Scene, claim: Claim) -> Claim:
    await scene.hand_back(crashed=True)
    await scene.claim_one(OTHER)
    return claim


async def claimed_anew_by_itself(scene: Scene, claim: Claim) -> Claim:
    await scene.hand_back()
    await scene.claim_one(CHILD)
    return claim


async def suspended(scene: Scene, claim: Claim) -> Claim:
    assert await scene.park(claim) is Verdict.PARKED
    return claim


async def waiting_for_its_next_attempt(scene: Scene, claim: Claim) -> Claim:
    assert await scene.retry(claim) is Verdict.OK
    return claim


async def finished(scene: Scene, claim: Claim) -> Claim:
    await scene.hand_back()
    other = (await scene.claim_one(OTHER)).claim
    assert await scene.finish(other) is Verdict.OK
    return claim


async def of_another_child(scene: Scene, claim: Claim) -> Claim:
    return Claim(claim.run_id, OTHER, claim.fence)


async def of_the_future(scene: Scene, claim: Claim) -> Claim:
    return Claim(claim.run_id, claim.child_id, claim.fence + 1)


async def of_no_run(scene: Scene, claim: Claim) -> Claim:
    return Claim(type(claim.run_id)("unknown"), claim.child_id, claim.fence)


LOSSES = [
    handed_back, taken_by_another, claimed_anew_by_itself, suspended, waiting_for_its_next_attempt, finished,
    of_another_child, of_the_future, of_no_run,
]  # fmt: skip


@pytest.mark.parametrize("lose", LOSSES, ids=lambda lose: lose.__name__.replace("_", " "))
@pytest.mark.parametrize("write", WRITES)
async def test_a_claim_that_is_lost_can_not_write(
    scene: Scene, write: str, lose: Callable[[Scene, Claim], Awaitable[Claim]]
) -> None:
    """S9.4: the script says so, and the store is as before."""
    claim = await scene.claimed_run()
    await scene.park(claim, sleep_op(), offer_op("offered"), suspend=False)
    await scene.claim(OTHER, unknown=["shop/work"])
    stale = await lose(scene, claim)
    before = await scene.state()
    assert await WRITES[write](scene, stale) in REFUSED
    assert await scene.state() == before


@pytest.mark.parametrize("write", WRITES)
async def test_the_owner_may_write(scene: Scene, write: str) -> None:
    """S9.4: the same calls with a claim that stands; else the test above proves nothing."""
    claim = await scene.claimed_run()
    await scene.park(claim, sleep_op(), offer_op("offered"), suspend=False)
    assert await WRITES[write](scene, claim) not in REFUSED
    if write == "finish at once":
        await scene.clear()  # no owner says that nothing is pending while something is


async def test_each_change_of_the_owner_brings_a_higher_fence(scene: Scene) -> None:
    """S9.4"""
    await scene.make_run()
    fences = []
    for child_id in (CHILD, OTHER, CHILD):
        fences.append((await scene.claim_one(child_id)).claim.fence)
        await scene.hand_back(child_id)
    assert fences == sorted(set(fences))


async def test_an_offered_step_has_a_fence_of_its_own(scene: Scene) -> None:
    """S9.4, S4.4: who took the step, lost it and comes back with its outcome is refused."""
    claim = await scene.claimed_run()
    await scene.park(claim, offer_op(), suspend=False)
    first = (await scene.claim_one(OTHER)).claim
    assert (await scene.operation("one")).state == "taken"
    assert await scene.hand_back(OTHER, crashed=True) == 1
    second = (await scene.claim_one("host-c:1")).claim
    assert second.fence > first.fence
    before = await scene.state()
    verdict, _ = await scene.claims.commit_offered(first, "one", memo(), now_ms=NOW_MS)
    assert verdict is Verdict.FENCED
    assert await scene.state() == before
    verdict, _ = await scene.claims.commit_offered(second, "one", memo(), now_ms=NOW_MS)
    assert verdict is Verdict.OK
    assert (await scene.operation("one")).state == "done"


async def test_a_step_offered_anew_has_a_new_fence(scene: Scene) -> None:
    """S9.4: who took the first offer and was declared dead takes the second as well, and its first execution still goes on."""
    claim = await scene.claimed_run()
    await scene.park(claim, offer_op(), suspend=False)
    first = (await scene.claim_one(OTHER)).claim
    await scene.hand_back(OTHER)
    is_ours, _ = await scene.claims.withdraw_offer(claim, "one", now_ms=NOW_MS)
    assert is_ours
    await scene.park(claim, offer_op(), suspend=False)
    second = (await scene.claim_one(OTHER)).claim
    verdict, _ = await scene.claims.commit_offered(first, "one", memo(data=b"0"), now_ms=NOW_MS)
    assert verdict is Verdict.FENCED
    verdict, _ = await scene.claims.commit_offered(second, "one", memo(), now_ms=NOW_MS)
    assert verdict is Verdict.OK


async def test_an_offered_step_can_not_be_committed_for_a_run_that_has_ended(scene: Scene) -> None:
    """S9.4, S6.2"""
    claim = await scene.claimed_run()
    await scene.park(claim, offer_op(), suspend=True)
    taken = (await scene.claim_one(OTHER)).claim
    assert await scene.cancel() == "cancelled"
    before = await scene.state()
    verdict, _ = await scene.claims.commit_offered(taken, "one", memo(), now_ms=NOW_MS)
    assert verdict is Verdict.FENCED
    # It held its claim as long as it executed (S7.1).
    assert before.pop(f"claims:{OTHER}")
    assert await scene.state() == before


async def test_a_run_that_was_cancelled_meanwhile_keeps_its_claim_and_is_not_skipped(scene: Scene) -> None:
    claim = await scene.claimed_run()
    assert await scene.cancel() == "requested"
    before = await scene.state()
    assert await refusing(ends=True)(scene, claim) is Verdict.CANCEL
    assert await scene.state() == before
    assert await scene.finish(claim, "cancelled") is Verdict.OK
