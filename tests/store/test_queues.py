"""The queue of a run, which may be another than its function's: nobody else takes it. Queues are paused too. Rules S7.2, S10.4."""

from __future__ import annotations

import msgpack
import pytest

from taskflow.store.hints import WorkHint
from tests.store.scene import CHILD, FN, NOW_MS, OTHER, Scene, offer_op, sleep_op

LIMIT = "fn:shop/work:0:"


async def claim_ids(scene: Scene, queue: str) -> list[str]:
    return [run.claim.run_id for run in (await scene.claim(queue=queue)).runs]


@pytest.mark.parametrize("is_limited", [False, True], ids=["no limit", "a limit"])
async def test_runs_of_one_function_in_two_queues_are_claimed_apart(scene: Scene, is_limited: bool) -> None:
    """The older one does not go to a worker of the other queue."""
    flow = msgpack.packb({"lane": LIMIT}, use_bin_type=False) if is_limited else b""
    await scene.make_run("r1", queue="gpu", flow=flow)
    scene.now_ms += 1
    await scene.make_run("r2", flow=flow)
    assert await claim_ids(scene, "default") == ["r2"]
    assert await claim_ids(scene, "default") == []
    assert await claim_ids(scene, "gpu") == ["r1"]


async def test_a_limit_counts_over_all_queues(scene: Scene) -> None:
    """S7.1: who gives the place back asks for a message to the queue whose run waits for it."""
    await scene.register(flow="1 - - -")
    flow = msgpack.packb({"lane": LIMIT}, use_bin_type=False)
    await scene.make_run("r1", flow=flow)
    await scene.make_run("r2", queue="gpu", flow=flow)
    (first,) = (await scene.claim()).runs
    assert await claim_ids(scene, "gpu") == []
    _, hints = await scene.claims.finish(
        first.claim, "completed", b"1", has_pending=False, kept_ms=1, now_ms=NOW_MS
    )
    assert WorkHint("shop", "gpu") in hints
    assert await claim_ids(scene, "gpu") == ["r2"]


async def test_a_run_stays_in_its_queue(scene: Scene) -> None:
    """After a sleep, a crash, and with a step that it offers."""
    for run_id in ("asleep", "crashed", "parallel"):
        await scene.make_run(run_id, queue="gpu")
    asleep, _, parallel = [run.claim for run in (await scene.claim(queue="gpu")).runs]
    await scene.park(asleep, sleep_op(due_ms=NOW_MS + 5))
    await scene.park(parallel, offer_op(), suspend=False)
    scene.now_ms += 5
    await scene.fire()
    assert await claim_ids(scene, "default") == []
    await scene.hand_back(CHILD, "crashed", crashed=True)
    found = (await scene.claim(OTHER, queue="gpu")).runs
    assert sorted((run.claim.run_id, run.step_key) for run in found) == [
        ("asleep", ""),
        ("crashed", ""),
        ("parallel", "one"),
    ]


async def test_a_paused_function_is_held_in_all_its_queues(scene: Scene) -> None:
    """S10.4"""
    await scene.make_run("r1")
    await scene.make_run("r2", queue="gpu")
    await scene.store.steering.pause(FN, now_ms=NOW_MS)
    assert await claim_ids(scene, "default") + await claim_ids(scene, "gpu") == []
    await scene.store.steering.resume(FN, now_ms=NOW_MS)
    assert await claim_ids(scene, "default") + await claim_ids(scene, "gpu") == ["r1", "r2"]


async def test_nobody_claims_of_a_paused_queue_until_it_is_resumed(scene: Scene) -> None:
    """S10.4: what is routed there waits, and takes no slot; other queues go on."""
    steering = scene.store.steering
    await scene.make_run("r1")
    assert await steering.pause_queue("shop", "default", now_ms=NOW_MS) == NOW_MS
    await scene.make_run("r2", queue="gpu")
    assert (await scene.route("U3", "r3", free=1)).claimed == {}
    assert await claim_ids(scene, "default") == []
    assert await claim_ids(scene, "gpu") == ["r2"]
    assert await steering.paused_queues() == {("shop", "default"): NOW_MS}
    assert await steering.paused() == {}
    scene.now_ms += 60_000
    assert WorkHint("shop", "default") not in (await scene.find_lost()).hints
    since_ms, hints = await steering.resume_queue("shop", "default", now_ms=scene.now_ms)
    assert (since_ms, hints) == (NOW_MS, [WorkHint("shop", "default")])
    assert await claim_ids(scene, "default") == ["r1", "r3"]
    assert await steering.resume_queue("shop", "default", now_ms=scene.now_ms) == (None, [])
