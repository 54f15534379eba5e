"""S9.4: a claim and its store: what each answer means for the run, and what the broker is told."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, cast

from taskflow.codecs.codecs import NO_CODECS
from taskflow.config import Config
from taskflow.engine.owned import OwnedRun, TakenSteps, job_id
from taskflow.store.claimed import Claim, ClaimedRun
from taskflow.store.claims import Verdict
from taskflow.store.hints import Hint, OutboxEvent
from tests.store.scene import CHILD, NOW_MS, OTHER, Scene, memo, offer_op, sleep_op


class Process:
    """As much of a worker process as a claim needs; keeps what the broker is to be told."""

    def __init__(self, scene: Scene, child_id: str = CHILD) -> None:
        self.claims = scene.claims
        self.codecs = NO_CODECS
        self.child_id = child_id
        self.config = Config.resolve("shop", broker="redis://unused", store="redis://unused")
        self.clock = self
        self.life_level = logging.DEBUG
        self.meter = None
        self.told: list[Hint] = []

    def now_ms(self) -> int:
        return NOW_MS

    def send_hints(self, hints: Sequence[Hint]) -> None:
        self.told += hints


def own(scene: Scene, claim: Claim) -> tuple[OwnedRun, Process]:
    process = Process(scene)
    return OwnedRun(claim, cast(Any, process), {}, NOW_MS), process


def take(scene: Scene, run: ClaimedRun) -> TakenSteps:
    steps = TakenSteps(run.claim.run_id, cast(Any, Process(scene, run.claim.child_id)))
    steps.fences.update(run.step_fences)
    return steps


async def test_who_stays_has_not_parked_the_run(scene: Scene) -> None:
    run, _ = own(scene, await scene.claimed_run())
    assert await run.park([sleep_op()], suspend=False, joins={}) is Verdict.OK
    assert await run.park([], suspend=True, joins={}) is Verdict.PARKED
    assert await run.park([], suspend=True, joins={}) is Verdict.FENCED, "the claim is given up"


async def test_the_end_of_a_run_is_told_to_the_broker(scene: Scene) -> None:
    run, process = own(scene, await scene.claimed_run())
    assert (
        await run.finish("failed", b'{"name":"E","message":"","stack":""}', has_pending=False, kept_ms=60_000)
        is Verdict.OK
    )
    assert [type(hint) for hint in process.told] == [OutboxEvent], "the event of its failure"


async def test_a_cancelled_run_can_not_complete(scene: Scene) -> None:
    run, _ = own(scene, await scene.claimed_run())
    await scene.cancel()
    assert await run.commit(["one", memo()], is_completed=True) is Verdict.CANCEL
    assert await run.finish("completed", b"1", has_pending=False, kept_ms=60_000) is Verdict.CANCEL
    assert (
        await run.finish("cancelled", await run.cancel_reason(), has_pending=True, kept_ms=60_000)
        is Verdict.OK
    )


async def test_the_claim_of_an_offered_step_is_over_with_its_outcome(scene: Scene) -> None:
    """S4.4: the run goes on elsewhere, under its own claim."""
    run, _ = own(scene, await scene.claimed_run())
    await run.park([offer_op("charge")], suspend=False, joins={})
    taken = await scene.claim_one(OTHER)
    step = take(scene, taken)
    await step.commit("charge", memo())
    await step.commit("charge", memo(data=b"0"))
    verdict, (packed,) = await run.fetch(["charge"], is_all=True)
    assert verdict is Verdict.OK
    assert packed == memo(), "the second time nothing was written"


async def test_an_offer_that_nobody_has_taken_is_taken_back(scene: Scene) -> None:
    run, _ = own(scene, await scene.claimed_run())
    await run.park([offer_op("first")], suspend=False, joins={})
    assert await run.withdraw("first")
    await run.park([offer_op("second")], suspend=False, joins={})
    await scene.claim_one(OTHER)
    assert not await run.withdraw("second")


async def test_a_claim_is_handed_back_as_the_job_that_it_is_for(scene: Scene) -> None:
    """Of a run and its offered step in one process, each goes by itself."""
    run, _ = own(scene, await scene.claimed_run())
    await run.park([offer_op("charge")], suspend=False, joins={})
    taken = await scene.claim_one(CHILD)
    step = take(scene, taken)
    assert (run.jobs, step.jobs) == (["r1"], [job_id("r1", "charge")])
    await step.hand_back()
    assert (await run.fetch((), is_all=False))[0] is Verdict.OK
    await run.hand_back()
    assert (await run.fetch((), is_all=False))[0] is Verdict.FENCED
