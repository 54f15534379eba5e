"""The outbox: events that tell of ended runs are stored with the end, and published after it. Rules S5.5, S6.2, S9.1."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from taskflow.event import Event, decode_message, encode_event
from taskflow.store.hints import events_of
from tests.store.scene import CHILD, DAY_MS, ERROR, EVENT, FN, NOW_MS, Scene, news_uid, sleep_op


async def outbox(scene: Scene) -> dict[str, Any]:
    """The events in the outbox, by uid; each stands in both of its keys."""
    state = await scene.state()
    events = {uid.decode(): orjson.loads(event) for uid, event in state.get("outbox:events", {}).items()}
    assert {uid.decode() for uid in state.get("outbox", {})} == set(events)
    return events


@pytest.mark.parametrize("status", ["failed", "cancelled"])
async def test_the_news_has_the_form_of_every_event(scene: Scene, status: str) -> None:
    """S5.5, S6.2: byte by byte as an event of an app, with an id that follows from the run."""
    claim = await scene.claimed_run()
    _, hints = await scene.claims.finish(
        claim, status, ERROR, has_pending=False, kept_ms=DAY_MS, now_ms=NOW_MS
    )
    ((uid, text),) = events_of(hints)
    data = {"function_id": FN, "run_id": "r1", "error": orjson.loads(ERROR), "event": orjson.loads(EVENT)}
    told = Event(f"taskflow/function.{status}", data)
    assert uid == news_uid("r1", status)
    assert encode_event(told, now_ms=NOW_MS, max_bytes=1 << 20, uid=uid, internal=True) == (uid, text)
    (event,) = decode_message(b"[" + text + b"]")
    assert event["data"] == data


async def test_a_failed_run_and_its_news_are_stored_together(scene: Scene) -> None:
    """S9.1: no moment at which the one is there without the other."""
    await scene.finish(await scene.claimed_run(), "failed")
    assert (await scene.state())["outbox"] == {news_uid("r1", "failed").encode(): NOW_MS}
    ((_, news),) = (await outbox(scene)).items()
    assert news["name"] == "taskflow/function.failed"
    assert await scene.status() == "failed"


async def test_a_completed_run_has_no_news(scene: Scene) -> None:
    """S5.5"""
    await scene.finish(await scene.claimed_run())
    assert await outbox(scene) == {}


async def test_a_cancelled_run_has_news_once(scene: Scene) -> None:
    """S6.2: whoever comes second finds it final."""
    await scene.park(await scene.claimed_run(), sleep_op())
    assert await scene.cancel() == "cancelled"
    scene.now_ms += 1
    assert await scene.cancel() == "final"
    assert list(await outbox(scene)) == [news_uid("r1", "cancelled")]


async def test_a_cancellation_that_is_only_requested_has_no_news_yet(scene: Scene) -> None:
    """S6.2"""
    claim = await scene.claimed_run()
    assert await scene.cancel() == "requested"
    assert await outbox(scene) == {}
    assert await scene.finish(claim) == "cancel", "it may end no other way"
    assert await scene.finish(claim, "cancelled") == "ok"
    assert list(await outbox(scene)) == [news_uid("r1", "cancelled")]


async def test_a_timeout_is_told_in_the_turn_in_which_it_falls_due(scene: Scene) -> None:
    """S6.3: by the script that cancels the run, to whoever ran it."""
    await scene.make_run("late", start_timeout_ms=1_000)
    fired = await scene.store.duties.fire_timers(limit=10, now_ms=NOW_MS + 1_000)
    ((uid, text),) = events_of(fired.hints)
    assert await outbox(scene) == {uid: orjson.loads(text)}
    assert orjson.loads(text)["data"]["error"]["name"] == "RunTimeout"


async def test_a_lost_claim_tells_nothing(scene: Scene) -> None:
    """S9.4"""
    claim = await scene.claimed_run()
    await scene.hand_back(CHILD)
    assert await scene.finish(claim, "failed") == "fenced"
    assert await outbox(scene) == {}


async def test_what_nobody_published_is_found_after_a_while(scene: Scene) -> None:
    """S9.1: the process that ended the run died before it could."""
    await scene.finish(await scene.claimed_run(), "failed")
    assert (await scene.find_lost(event_age_ms=5_000, later_ms=4_999)).events == []
    for _ in range(2):  # again and again, until it is cleared
        lost = await scene.find_lost(event_age_ms=5_000, later_ms=5_000)
        assert [uid for uid, _ in lost.events] == [news_uid("r1", "failed")]
    await scene.store.routing.clear_outbox([news_uid("r1", "failed")])
    assert not {"outbox", "outbox:events"} & await scene.keys()
    assert (await scene.find_lost(event_age_ms=5_000, later_ms=9_000)).events == []
