"""The outbox: events that tell of ended runs are stored with the end, and published after it. Rules S5.5, S6.2, S9.1."""

from __future__ import annotations

from tests.store.scene import EVENT, NOW_MS, Scene, sleep_op


async def test_a_failed_run_and_its_news_are_stored_together(scene: Scene) -> None:
    """S9.1: no moment at which the one is there without the other."""
    await scene.finish(await scene.claimed_run(), "failed", uid="F1")
    state = await scene.state()
    assert state["outbox"] == {b"F1": NOW_MS}
    assert state["outbox:events"] == {b"F1": EVENT}
    assert await scene.status() == "failed"


async def test_a_completed_run_has_no_news(scene: Scene) -> None:
    """S5.5"""
    await scene.finish(await scene.claimed_run())
    assert "outbox" not in await scene.keys()


async def test_a_cancelled_run_has_news_once(scene: Scene) -> None:
    """S6.2: whoever comes second finds it final."""
    await scene.park(await scene.claimed_run(), sleep_op())
    assert await scene.cancel(uid="F1") == "cancelled"
    assert await scene.cancel(uid="F2") == "final"
    assert (await scene.state())["outbox"] == {b"F1": NOW_MS}


async def test_a_cancellation_that_is_only_requested_has_no_news_yet(scene: Scene) -> None:
    """S6.2"""
    claim = await scene.claimed_run()
    assert await scene.cancel(uid="F1") == "requested"
    assert "outbox" not in await scene.keys()
    assert await scene.finish(claim) == "cancel", "it may end no other way"
    assert await scene.finish(claim, "cancelled", uid="F2") == "ok"
    assert (await scene.state())["outbox"] == {b"F2": NOW_MS}


async def test_what_nobody_published_is_found_after_a_while(scene: Scene) -> None:
    """S9.1: the process that ended the run died before it could."""
    await scene.finish(await scene.claimed_run(), "failed", uid="F1")
    find_lost = scene.store.duties.find_lost
    assert (await find_lost(hint_age_ms=3_000, event_age_ms=5_000, now_ms=NOW_MS + 4_999))[1] == []
    for _ in range(2):  # again and again, until it is cleared
        _, events = await find_lost(hint_age_ms=3_000, event_age_ms=5_000, now_ms=NOW_MS + 5_000)
        assert events == [("F1", EVENT)]
    await scene.store.routing.clear_outbox(["F1"])
    assert not {"outbox", "outbox:events"} & await scene.keys()
    assert (await find_lost(hint_age_ms=3_000, event_age_ms=5_000, now_ms=NOW_MS + 9_000))[1] == []
