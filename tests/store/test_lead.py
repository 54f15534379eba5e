"""The lead among beats, and what its fence guards. Rules S8.1, S9.4."""

from __future__ import annotations

from taskflow.store.duties import Fence
from taskflow.store.routing import RunPlan
from taskflow.types import RunId
from tests.store.scene import EVENT, NOW_MS, Scene

TERM_MS = 8_000


async def lead(scene: Scene, beat: str, at_ms: int) -> Fence | None:
    return await scene.store.duties.lead(beat, now_ms=NOW_MS + at_ms, term_ms=TERM_MS)


async def test_one_beat_leads_until_its_term_is_over(scene: Scene) -> None:
    """S8.1"""
    assert await lead(scene, "one", 0) == 1
    assert await lead(scene, "two", TERM_MS - 1) is None
    assert await lead(scene, "one", TERM_MS - 1) == 1, "it stays the same reign"
    assert await lead(scene, "two", 2 * TERM_MS - 2) is None
    assert await lead(scene, "two", 2 * TERM_MS - 1) == 2
    assert await lead(scene, "one", 2 * TERM_MS) is None


async def test_a_beat_that_comes_back_late_gets_a_new_fence_too(scene: Scene) -> None:
    """S8.1: what it began before must not be committed."""
    assert await lead(scene, "one", 0) == 1
    assert await lead(scene, "one", TERM_MS) == 2


async def test_only_the_leader_gives_the_lead_away(scene: Scene) -> None:
    """S8.1"""
    await lead(scene, "one", 0)
    await scene.store.duties.abdicate("two")
    assert await lead(scene, "two", 1) is None
    await scene.store.duties.abdicate("one")
    assert await lead(scene, "two", 1) == 2


async def fire(scene: Scene, fence: int, tick_ms: int, *, run_id: str = "") -> str:
    plan = RunPlan("shop/work", "default", RunId(run_id)) if run_id else None
    outcome, _ = await scene.store.duties.fire_cron(
        "shop/work cron", NOW_MS + tick_ms, fence=Fence(fence), plan=plan, event=EVENT, version="1",
        now_ms=NOW_MS + tick_ms,
    )  # fmt: skip
    return outcome


async def test_a_tick_is_fired_once_whoever_leads(scene: Scene) -> None:
    """S8.1"""
    await lead(scene, "one", 0)
    assert await fire(scene, 1, 1_000, run_id="tick") == "fired"
    assert await fire(scene, 1, 1_000, run_id="tick") == "known"
    await lead(scene, "two", TERM_MS)
    assert await fire(scene, 2, 1_000, run_id="tick") == "known"
    assert await fire(scene, 2, 500, run_id="earlier") == "known"
    assert await scene.status("earlier") == ""
    assert await fire(scene, 2, 2_000, run_id="next") == "fired"


async def test_a_deposed_leader_fires_nothing(scene: Scene) -> None:
    """S9.4"""
    await lead(scene, "one", 0)
    await lead(scene, "two", TERM_MS)
    before = await scene.state()
    assert await fire(scene, 1, 1_000, run_id="tick") == "fenced"
    assert await fire(scene, 1, 1_000) == "fenced"
    assert await scene.state() == before
    assert await fire(scene, 2, 1_000, run_id="tick") == "fired"


async def test_a_tick_can_be_noted_without_a_run(scene: Scene) -> None:
    """S8.1: where a cron begins."""
    await lead(scene, "one", 0)
    assert await fire(scene, 1, 1_000) == "fired"
    assert await scene.store.registry.last_ticks() == {"shop/work cron": NOW_MS + 1_000}
    assert await fire(scene, 1, 1_000, run_id="tick") == "known"
    assert not [key for key in await scene.keys() if key.startswith("run:")]


async def test_the_run_of_a_tick_has_an_event_that_is_kept(scene: Scene) -> None:
    """S10.2, S10.1: as any event, and so removed as any."""
    await lead(scene, "one", 0)
    await fire(scene, 1, 1_000, run_id="tick")
    assert await scene.status("tick") == "queued"
    assert (await scene.fields("tick"))["cause"] == "cron"
