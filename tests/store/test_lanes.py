"""Limits on what executes: places, lanes, turns and priority, as the scripts keep them. Rules S7.1, S7.2, S7.3, S7.11."""

from __future__ import annotations

import msgpack

from taskflow.store.claimed import Claim
from taskflow.types import RunId
from tests.store.scene import CHILD, NOW_MS, OTHER, Scene, offer_op, sleep_op

LIMIT = "fn:shop/work:0:"


def flow(lane: str, *, ahead: int = 0) -> bytes:
    table = {"lane": lane} | ({"ahead": ahead} if ahead else {})
    packed: bytes = msgpack.packb(table, use_bin_type=False)
    return packed


def lane(*limits: str, throttle: str | None = None) -> str:
    return "\x1e".join(limits) + ("" if throttle is None else f"\x1d{throttle}")


async def make_runs(scene: Scene, *run_ids: str, in_lane: str, ahead: int = 0) -> None:
    for run_id in run_ids:
        await scene.make_run(run_id, flow=flow(in_lane, ahead=ahead))


async def claim_ids(scene: Scene, limit: int = 100, child_id: str = CHILD) -> list[str]:
    return [run.claim.run_id for run in (await scene.claim(child_id, limit=limit)).runs]


def claim_of(run_id: str, fence: int = 1, child_id: str = CHILD) -> Claim:
    return Claim(RunId(run_id), child_id, fence)


# --- concurrency ---


async def test_no_more_runs_are_claimed_than_the_limit_says(scene: Scene) -> None:
    await scene.register(flow="2 - - -")
    await make_runs(scene, "a", "b", "c", "d", in_lane=LIMIT)
    assert await claim_ids(scene) == ["a", "b"]
    assert await claim_ids(scene, child_id=OTHER) == []


async def test_a_finished_run_gives_its_place_to_the_next(scene: Scene) -> None:
    await scene.register(flow="2 - - -")
    await make_runs(scene, "a", "b", "c", "d", in_lane=LIMIT)
    await claim_ids(scene)
    await scene.finish(claim_of("b"), pending=False)
    assert await claim_ids(scene) == ["c"]
    assert await claim_ids(scene) == []


async def test_the_place_of_a_run_that_sleeps_or_waits_for_a_retry_is_free(scene: Scene) -> None:
    await scene.register(flow="1 - - -")
    await make_runs(scene, "a", "b", "c", in_lane=LIMIT)
    assert await claim_ids(scene) == ["a"]
    await scene.park(claim_of("a"), sleep_op())
    assert await claim_ids(scene) == ["b"]
    await scene.retry(claim_of("b"))
    assert await claim_ids(scene) == ["c"]


async def test_a_run_that_goes_on_needs_a_place_again_and_goes_first(scene: Scene) -> None:
    await scene.register(flow="1 - - -")
    await make_runs(scene, "a", in_lane=LIMIT)
    scene.now_ms += 5
    await make_runs(scene, "b", "c", in_lane=LIMIT)
    await claim_ids(scene)
    await scene.park(claim_of("a"), sleep_op())
    assert await claim_ids(scene) == ["b"]
    scene.now_ms = NOW_MS + 60_000
    await scene.fire()
    assert await claim_ids(scene) == []
    await scene.finish(claim_of("b"), pending=False)
    assert await claim_ids(scene) == ["a"]


async def test_a_dead_workers_places_are_free_again(scene: Scene) -> None:
    """S7.1, S9.3: places belong to claims."""
    await scene.register(flow="2 - - -")
    await make_runs(scene, "a", "b", "c", in_lane=LIMIT)
    assert await claim_ids(scene) == ["a", "b"]
    assert await scene.hand_back(crashed=True) == 2
    assert await claim_ids(scene, child_id=OTHER) == ["a", "b"]
    assert await claim_ids(scene, child_id=OTHER) == []


async def test_a_late_commit_of_a_lost_claim_frees_nothing(scene: Scene) -> None:
    await scene.register(flow="1 - - -")
    await make_runs(scene, "a", "b", in_lane=LIMIT)
    await claim_ids(scene)
    await scene.hand_back(crashed=True)
    assert await claim_ids(scene, child_id=OTHER) == ["a"]
    await scene.finish(claim_of("a"), pending=False)
    assert await claim_ids(scene, child_id=OTHER) == []


async def test_an_offered_step_needs_a_place_of_its_own(scene: Scene) -> None:
    await scene.register(flow="1 - - -")
    await make_runs(scene, "a", in_lane=LIMIT)
    await claim_ids(scene)
    await scene.park(claim_of("a"), offer_op("step"), suspend=False)
    assert await claim_ids(scene, child_id=OTHER) == []
    await scene.park(claim_of("a"))
    (job,) = (await scene.claim(OTHER)).runs
    assert job.step_key == "step"
    await make_runs(scene, "b", in_lane=LIMIT)
    assert await claim_ids(scene) == []


async def test_a_run_is_claimed_as_it_is_made_only_with_a_free_place(scene: Scene) -> None:
    await scene.register(flow="1 - - -")
    routed = [await scene.route(f"U{run}", run, free=1, flow=flow(LIMIT)) for run in ("a", "b")]
    assert [list(each.claimed) for each in routed] == [["a"], []]
    await scene.finish(claim_of("a"), pending=False)
    assert await claim_ids(scene) == ["b"]


async def test_two_limits_hold_at_once(scene: Scene) -> None:
    await scene.register(flow="3 1 - -")
    for tenant in ("a", "b", "c"):
        await make_runs(
            scene, f"{tenant}1", f"{tenant}2", in_lane=lane("account:eu", f"fn:shop/work:1:{tenant}")
        )
    await make_runs(scene, "d1", in_lane=lane("account:eu", "fn:shop/work:1:d"))
    assert await claim_ids(scene) == ["a1", "b1", "c1"]
    await scene.finish(claim_of("a1"), pending=False)
    (first,) = await claim_ids(scene)
    await scene.finish(claim_of("b1"), pending=False)
    (second,) = await claim_ids(scene)
    assert {first, second} == {"a2", "d1"}
    await scene.finish(claim_of("c1"), pending=False)
    assert len(await claim_ids(scene)) == 1


async def test_room_that_a_blocked_lane_cannot_use_goes_to_another(scene: Scene) -> None:
    """A lane is brought back for the account's limit, but its own is full: the next one gets the room."""
    await scene.register(flow="2 1 - -")
    one, two, three = (lane("account:eu", f"fn:shop/work:1:{key}") for key in "123")
    await make_runs(scene, "a1", "a2", in_lane=one)
    await make_runs(scene, "b1", in_lane=two)
    await make_runs(scene, "c1", in_lane=three)
    assert await claim_ids(scene) == ["a1", "b1"]
    await scene.finish(claim_of("b1"), pending=False)
    assert await claim_ids(scene) == ["c1"]
    await scene.finish(claim_of("c1"), pending=False)
    assert await claim_ids(scene) == []
    await scene.finish(claim_of("a1"), pending=False)
    assert await claim_ids(scene) == ["a2"]


async def test_a_limit_that_was_raised_lets_more_through(scene: Scene) -> None:
    """A deploy changes it for runs that are queued already."""
    await scene.register(flow="1 - - -")
    await make_runs(scene, "a", "b", "c", in_lane=LIMIT)
    assert await claim_ids(scene) == ["a"]
    assert await claim_ids(scene) == []
    await scene.register(flow="3 - - -")
    await scene.find_lost()
    assert await claim_ids(scene) == ["b", "c"]


async def test_a_cancelled_run_leaves_its_lane(scene: Scene) -> None:
    await scene.register(flow="1 - - -")
    await make_runs(scene, "a", "b", in_lane=LIMIT)
    assert await claim_ids(scene) == ["a"]
    assert await claim_ids(scene) == []
    await scene.cancel("b")
    await scene.finish(claim_of("a"), pending=False)
    state = await scene.state()
    left = [
        key for key in state if any(word in key for word in ("ready", "lanes", "blocked", "places", "queue:"))
    ]
    assert left == []


async def test_a_cancelled_lane_passes_its_room_on(scene: Scene) -> None:
    await scene.register(flow="1 1 - -")
    one, two = (lane("account:eu", f"fn:shop/work:1:{key}") for key in "12")
    await make_runs(scene, "a", in_lane=lane("account:eu", "fn:shop/work:1:0"))
    await make_runs(scene, "b", in_lane=one)
    await make_runs(scene, "c", in_lane=two)
    assert await claim_ids(scene) == ["a"]
    await scene.finish(claim_of("a"), pending=False)  # brings b back
    await scene.cancel("b")
    assert await claim_ids(scene) == ["c"]


# --- order ---


async def test_lanes_are_served_in_turn(scene: Scene) -> None:
    """S7.11: one key's long backlog does not hold up another key's first run."""
    await scene.register(flow="1000 - - -")
    await make_runs(scene, *[f"a{number:02}" for number in range(50)], in_lane="fn:shop/work:0:a")
    scene.now_ms += 1
    assert await claim_ids(scene, 5) == [f"a{number:02}" for number in range(5)]
    await make_runs(scene, "b0", "b1", in_lane="fn:shop/work:0:b")
    assert "b0" in await claim_ids(scene, 3)


async def test_a_later_run_of_higher_priority_goes_first(scene: Scene) -> None:
    """S7.2, in a lane as without one."""
    await scene.register(flow="1 - - -")
    await make_runs(scene, *[f"r{number}" for number in range(10)], in_lane=LIMIT)
    assert await claim_ids(scene) == ["r0"]
    assert await claim_ids(scene) == []
    scene.now_ms += 1_000
    await make_runs(scene, "urgent", in_lane=LIMIT, ahead=600_000)
    await scene.finish(claim_of("r0"), pending=False)
    assert await claim_ids(scene) == ["urgent"]


async def test_priority_orders_a_function_without_limits(scene: Scene) -> None:
    for run_id, ahead in (("late", -5_000), ("plain", 0), ("first", 5_000)):
        await scene.make_run(run_id, flow=msgpack.packb({"ahead": ahead}, use_bin_type=False))
    assert await claim_ids(scene) == ["first", "plain", "late"]


# --- throttle ---


async def test_a_throttled_run_starts_when_its_time_has_come(scene: Scene) -> None:
    await scene.register(flow="- - 1000000 0")
    throttled = lane(throttle="shop/work:")
    await make_runs(scene, "a", "b", "c", in_lane=throttled)
    assert await claim_ids(scene) == ["a"]
    scene.now_ms = NOW_MS + 999
    await scene.fire()
    assert await claim_ids(scene) == []
    scene.now_ms = NOW_MS + 1_000
    await scene.fire()
    assert await claim_ids(scene) == ["b"]
    assert await claim_ids(scene) == []


async def test_a_run_that_has_started_is_not_throttled_again(scene: Scene) -> None:
    await scene.register(flow="- - 1000000 0")
    await make_runs(scene, "a", "b", in_lane=lane(throttle="shop/work:"))
    assert await claim_ids(scene) == ["a"]
    await scene.park(claim_of("a"), sleep_op(due_ms=NOW_MS + 10))
    scene.now_ms = NOW_MS + 10
    await scene.fire()
    assert await claim_ids(scene) == ["a"]


async def test_a_burst_may_start_at_once(scene: Scene) -> None:
    await scene.register(flow="- - 1000000 2000000")
    await make_runs(scene, *"abcde", in_lane=lane(throttle="shop/work:"))
    assert await claim_ids(scene) == ["a", "b", "c"]
    scene.now_ms += 1_000
    await scene.fire()
    assert await claim_ids(scene) == ["d"]


async def test_functions_without_limits_are_not_held_up(scene: Scene) -> None:
    await scene.register(flow="1 - - -")
    await make_runs(scene, "a", "b", in_lane=LIMIT)
    await scene.make_run("free", fn="shop/other")
    assert sorted(await claim_ids(scene)) == ["a", "free"]
