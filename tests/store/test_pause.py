"""A paused function, as the scripts keep it: what is listed for claims, and what is held. Rule S10.4."""

from __future__ import annotations

import msgpack
import pytest

from taskflow.store.claimed import Claim
from taskflow.store.hints import Hint, WorkHint
from tests.store.scene import CHILD, NOW_MS, OTHER, Scene, offer_op, sleep_op

FN = "shop/work"
LIMIT = "fn:shop/work:0:"


def in_lane(lane: str = LIMIT) -> bytes:
    packed: bytes = msgpack.packb({"lane": lane}, use_bin_type=False)
    return packed


async def pause(scene: Scene, fn: str = FN) -> list[Hint]:
    _, hints = await scene.store.steering.pause(fn, now_ms=scene.now_ms)
    return hints


async def resume(scene: Scene, fn: str = FN) -> list[Hint]:
    _, hints = await scene.store.steering.resume(fn, now_ms=scene.now_ms)
    return hints


async def claim_ids(scene: Scene, child_id: str = CHILD) -> list[str]:
    return [run.claim.run_id for run in (await scene.claim(child_id)).runs]


async def test_ready_runs_are_claimed_by_nobody_until_it_is_resumed(scene: Scene) -> None:
    """In their order, and with a work message."""
    for run_id in ("r1", "r2"):
        await scene.make_run(run_id)
        scene.now_ms += 1
    await pause(scene)
    assert await claim_ids(scene) == []
    scene.now_ms += 10_000
    assert await resume(scene) == [WorkHint("shop", "default")]
    assert await claim_ids(scene) == ["r1", "r2"]


async def test_other_functions_of_the_queue_are_claimed(scene: Scene) -> None:
    await scene.make_run("r1")
    await scene.make_run("r2", fn="shop/other")
    await pause(scene)
    assert await claim_ids(scene) == ["r2"]


async def test_what_is_handed_back_or_wakes_is_held(scene: Scene) -> None:
    """A crash, a sleep that is over, an offered step."""
    await scene.claimed_run("crashed")
    asleep = await scene.claimed_run("asleep", child_id=OTHER)
    await scene.park(asleep, sleep_op(due_ms=NOW_MS + 5))
    parallel = await scene.claimed_run("parallel", child_id="host-c:1")
    await pause(scene)
    await scene.hand_back(CHILD, crashed=True)
    await scene.park(parallel, offer_op(), suspend=False)
    scene.now_ms += 5
    await scene.fire()
    assert [await scene.status(run_id) for run_id in ("crashed", "asleep")] == ["queued", "queued"]
    assert (await scene.claim()).has_more is False
    assert await claim_ids(scene) == []
    await resume(scene)
    assert sorted(await claim_ids(scene)) == ["asleep", "crashed", "parallel"]


async def test_runs_of_a_paused_function_are_handed_back_without_a_message(scene: Scene) -> None:
    """S10.4: nobody could take them."""
    await scene.claimed_run()
    await pause(scene)
    count, hints = await scene.store.claims.hand_back(CHILD, [], crashed=False, cause="", now_ms=scene.now_ms)
    assert (count, hints) == (1, [])


async def test_lanes_are_held_and_listed_again(scene: Scene) -> None:
    """S7.1: the limit holds on after the pause."""
    await scene.register(flow="1 - - -")
    for run_id in ("r1", "r2"):
        await scene.make_run(run_id, flow=in_lane())
    await pause(scene)
    assert await claim_ids(scene) == []
    await scene.make_run("elsewhere", fn="shop/other", flow=in_lane("fn:shop/other:0:"))
    assert await claim_ids(scene) == ["elsewhere"]
    scene.now_ms += 10_000
    assert await resume(scene) == [WorkHint("shop", "default")]
    assert await claim_ids(scene) == ["r1"]
    assert await claim_ids(scene) == []


async def test_a_function_is_listed_in_all_its_queues_again(scene: Scene) -> None:
    """One of them is that of older code, another one that of the code that was deployed during the pause."""
    await scene.make_run("r1", queue="old")
    await scene.make_run("r2", queue="new", start_at_ms=NOW_MS + 5)
    await pause(scene)
    scene.now_ms += 10_000
    await scene.fire()
    assert await scene.status("r2") == "queued"
    assert sorted(await resume(scene), key=str) == [
        WorkHint("shop", "new"),
        WorkHint("shop", "old"),
    ]


@pytest.mark.parametrize("crashed", [False, True])
async def test_a_run_that_is_to_be_cancelled_ends_when_it_is_handed_back(scene: Scene, crashed: bool) -> None:
    """S6.2: nobody would claim it to end it."""
    await scene.claimed_run("r1")
    assert await scene.cancel("r1") == "requested"
    await pause(scene)
    await scene.hand_back(CHILD, crashed=crashed)
    assert await scene.status("r1") == "cancelled"
    assert {key for key in await scene.keys() if key.startswith(("ready:", "claims:", "queue:"))} == set()
    assert "outbox" in await scene.keys()


async def test_a_run_that_is_cancelled_meanwhile_leaves_nothing(scene: Scene) -> None:
    await scene.make_run("r1")
    await pause(scene)
    assert await scene.cancel("r1") == "cancelled"
    assert await resume(scene) == []
    assert {
        key for key in await scene.keys() if key.startswith(("ready:", "held:", "queue:", "paused"))
    } == set()


SHARED = "app:shop:k"


async def full_limit(scene: Scene) -> Claim:
    """A run of the function executes under a limit of 1; the next one waits for it, and behind that one of another function."""
    await scene.register(flow="1 - - -")
    await scene.store.client.call("HSET", f"{scene.store.keys.prefix}flow", "shop/other", "1 - - -")
    await scene.make_run("r1", flow=in_lane(SHARED))
    (first,) = (await scene.claim()).runs
    for run_id, fn in (("r2", FN), ("other", "shop/other")):
        scene.now_ms += 1
        await scene.make_run(run_id, fn=fn, flow=in_lane(SHARED))
    assert await claim_ids(scene) == []
    return first.claim


async def test_room_under_a_limit_goes_past_a_paused_function(scene: Scene) -> None:
    """S7.1: whose turn it is does not take it."""
    first = await full_limit(scene)
    await pause(scene)
    await scene.finish(first)
    assert await claim_ids(scene) == ["other"]


async def test_room_that_a_function_was_offered_goes_to_others_when_it_is_paused(scene: Scene) -> None:
    """S7.1"""
    first = await full_limit(scene)
    await scene.finish(first)
    await pause(scene)
    assert await claim_ids(scene) == ["other"]


async def test_the_limit_holds_for_what_was_held(scene: Scene) -> None:
    """S7.1: it waits for its turn anew."""
    first = await full_limit(scene)
    await pause(scene)
    await scene.finish(first)
    (other,) = (await scene.claim(OTHER)).runs
    await resume(scene)
    assert await claim_ids(scene) == []
    await scene.finish(Claim(other.claim.run_id, OTHER, other.claim.fence))
    assert await claim_ids(scene) == ["r2"]
