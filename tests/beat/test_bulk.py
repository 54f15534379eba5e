"""Bulk operations: beat carries them on, a portion at a time; each run is counted once, whichever beat dies. Rule S14.6."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from taskflow import Context, NonRetriableError, Step, TaskFlow
from taskflow.beat import bulk as duty
from taskflow.beat.service import Beat
from taskflow.errors import ConfigError
from taskflow.runs.bulk import BulkAction, BulkRequest, BulkView, carry_on, count_matching
from taskflow.store.bulk import BulkStatus
from taskflow.store.store import Store
from taskflow.testing import Harness
from tests.beat.beats import START_MS, Beats
from tests.store.scene import FN, Scene

MAX_BYTES = 1 << 18


def cancels(scene: Scene, functions: list[str] | None = None, **options: Any) -> BulkRequest:
    return BulkRequest.plan(
        BulkAction.CANCEL, functions, reason="a test", who="ann", now_ms=scene.now_ms, **options
    )


async def start(store: Store, request: BulkRequest, bulk_id: str = "B1") -> None:
    total = await count_matching(store, request)
    assert await store.bulks.create(bulk_id, replace(request, total=total).dump(), now_ms=request.created_ms)


async def view(store: Store, bulk_id: str = "B1") -> BulkView:
    stored = await store.bulks.find(bulk_id)
    assert stored is not None
    return BulkView.of(stored)


@pytest.fixture
async def scene(beats: Beats) -> Scene:
    scene = Scene(beats.store)
    scene.now_ms = START_MS
    await scene.register()
    return scene


async def make_runs(scene: Scene, count: int, *, fn: str = FN) -> list[str]:
    run_ids = [f"{fn[-4:]}{number:04}" for number in range(count)]
    await asyncio.gather(*[scene.make_run(run_id, fn=fn) for run_id in run_ids])
    return run_ids


async def statuses(scene: Scene, run_ids: list[str]) -> set[str]:
    return {fields["status"].decode() for fields in await scene.store.history.many(run_ids, ("status",))}


async def turns(beats: Beats, beat: Beat, bulk_id: str = "B1") -> BulkView:
    """Give the beat its turns until the operation has ended."""
    for _ in range(100):
        beats.clock.advance(seconds=1)
        await beat.run_once()
        if (told := await view(beats.store, bulk_id)).status != "running":
            return told
    raise AssertionError(f"it does not end: {told}")


async def test_beat_cancels_all_that_match_and_no_run_that_was_made_later(beats: Beats, scene: Scene) -> None:
    wanted, others = await make_runs(scene, 250), await make_runs(scene, 10, fn="shop/other")
    await start(scene.store, cancels(scene, [FN]))
    scene.now_ms += 1
    await scene.make_run("later")
    told = await turns(beats, await beats.start())
    assert (told.status, told.request.total, told.looked, told.done, told.failed) == (
        "completed",
        250,
        250,
        250,
        0,
    )
    assert await statuses(scene, wanted) == {"cancelled"}
    assert await statuses(scene, [*others, "later"]) == {"queued"}
    assert b"a test" in (await scene.store.history.many(wanted[:1], ("error",)))[0]["error"]
    assert await scene.store.bulks.running() == []


async def test_another_beat_goes_on_when_one_dies_between_two_portions(
    beats: Beats, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duty, "PORTIONS", 1)
    run_ids = await make_runs(scene, 300)
    await start(scene.store, cancels(scene))
    first, second = await beats.start(), await beats.start()
    await first.run_once()
    assert 0 < (await view(scene.store)).done < 300
    await beats.die(first)
    told = await turns(beats, second)
    assert (told.looked, told.done) == (300, 300)
    assert await statuses(scene, run_ids) == {"cancelled"}


async def test_a_beat_that_was_deposed_changes_nothing_and_counts_nothing_twice(scene: Scene) -> None:
    """It read the operation before another beat did that portion."""
    await make_runs(scene, 120)
    await start(scene.store, cancels(scene))
    (read_before,) = await scene.store.bulks.running()
    for _ in range(3):
        for stored in await scene.store.bulks.running():
            await carry_on(scene.store, stored, max_event_bytes=MAX_BYTES, now_ms=scene.now_ms)
        before = await view(scene.store)
        await carry_on(scene.store, read_before, max_event_bytes=MAX_BYTES, now_ms=scene.now_ms)
        assert await view(scene.store) == before
    while running := await scene.store.bulks.running():
        await carry_on(scene.store, running[0], max_event_bytes=MAX_BYTES, now_ms=scene.now_ms)
    assert (await view(scene.store)).done == 120


async def test_an_operation_that_is_stopped_goes_no_further(
    beats: Beats, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duty, "PORTIONS", 1)
    await make_runs(scene, 300)
    await start(scene.store, cancels(scene))
    beat = await beats.start()
    await beat.run_once()
    done = (await view(scene.store)).done
    assert await scene.store.bulks.stop("B1", now_ms=scene.now_ms)
    assert await scene.store.bulks.stop("B1", now_ms=scene.now_ms) is False
    assert await scene.store.bulks.stop("none", now_ms=scene.now_ms) is None
    await beats.pass_seconds(5, beat)
    told = await view(scene.store)
    assert (told.status, told.done) == (BulkStatus.STOPPED, done)
    assert told.ended_ms == scene.now_ms


async def test_a_condition_a_status_and_a_time_choose(beats: Beats, scene: Scene) -> None:
    await scene.make_run("old")
    scene.now_ms += 1_000
    await scene.make_run("later", start_at_ms=scene.now_ms + 60_000)
    await scene.make_run("new")
    for bulk_id, request in (
        ("B1", cancels(scene, statuses=["scheduled"])),
        ("B2", cancels(scene, since_ms=scene.now_ms, if_exp="event.data.n == 2")),
        ("B3", cancels(scene, since_ms=scene.now_ms, if_exp="event.data.n == 1")),
    ):
        await start(scene.store, request, bulk_id)
    beat = await beats.start()
    totals = [(await turns(beats, beat, bulk_id)).request.total for bulk_id in ("B1", "B2", "B3")]
    assert totals == [1, 0, 2]
    assert [await scene.status(each) for each in ("old", "later", "new")] == [
        "queued",
        "cancelled",
        "cancelled",
    ]


def test_what_makes_no_sense_is_refused() -> None:
    for action, statuses, over_ms, told in (
        (BulkAction.CANCEL, ["failed"], 0, "cancel concerns runs"),
        (BulkAction.RERUN, ["queued"], 0, "rerun concerns runs"),
        (BulkAction.CANCEL, [], 1, "over spreads"),
    ):
        with pytest.raises(ConfigError, match=told):
            BulkRequest.plan(action, None, statuses=statuses, over_ms=over_ms, who="ann", now_ms=START_MS)
    with pytest.raises(ConfigError, match="if_exp"):
        BulkRequest.plan(BulkAction.CANCEL, None, if_exp="1 +", who="ann", now_ms=START_MS)


async def test_the_newest_operations_are_kept(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """And all that go on."""
    monkeypatch.setattr("taskflow.store.bulk.MOST_KEPT", 3)
    for number in range(6):
        await start(scene.store, cancels(scene), f"B{number}")
        if number:
            await scene.store.bulks.stop(f"B{number}", now_ms=scene.now_ms)
        scene.now_ms += 1
    assert [each.id for each in await scene.store.bulks.newest(limit=10)] == ["B5", "B4", "B3", "B0"]
    assert [each.id for each in await scene.store.bulks.newest(limit=10, before="B4")] == ["B3", "B0"]


async def test_runs_are_rerun_once_oldest_first_and_spread_over_a_time(app: TaskFlow) -> None:
    """Also when a beat dies after it has made reruns, and before it noted that."""

    @app.function(trigger="order", retries=0)
    async def broken(ctx: Context[Step]) -> str:
        if ctx.event.data["is_broken"]:
            raise NonRetriableError("no stock")
        return "fine"

    async with Harness(app) as harness:
        store = harness.store
        run_ids = [(await harness.send("order", {"is_broken": number < 5})).id for number in range(6)]
        rerun_before = await app.arerun(run_ids[0])
        await harness.settled()
        request = BulkRequest.plan(
            BulkAction.RERUN, [broken.id], over_ms=60_000, who="ann", now_ms=harness.clock.now_ms()
        )
        await start(store, request)
        (read_before,) = await store.bulks.running()
        stored, now_ms = read_before, harness.clock.now_ms()
        # As if the first beat died before it could note the portion.
        advance, store.bulks.advance = store.bulks.advance, _dies  # type: ignore[method-assign, assignment]
        with pytest.raises(ZeroDivisionError):
            await carry_on(store, stored, max_event_bytes=MAX_BYTES, now_ms=now_ms)
        store.bulks.advance = advance  # type: ignore[method-assign]
        await carry_on(store, stored, max_event_bytes=MAX_BYTES, now_ms=now_ms)
        told = await view(store)
        # The first run was rerun before; that rerun failed too, and stands for it.
        assert (told.status, told.looked, told.done, told.request.total) == ("completed", 5, 5, 6)
        rows = await store.history.many([*run_ids[1:5], rerun_before.id], ("rerun_by",))
        new_ids = [fields["rerun_by"].decode() for fields in rows]
        made = await store.history.many(new_ids, ("score", "created"))
        # Without a score a run starts when it is made.
        due_ms = [int(fields.get("score", fields["created"])) - request.created_ms for fields in made]
        assert due_ms == [0, 10_000, 20_000, 30_000, 40_000]
        assert len(set(new_ids)) == 5
        counts = await store.listing.count([broken.id])
        assert (counts[""], counts["live"]) == (12, 5)


async def _dies(*_: object, **__: object) -> None:
    raise ZeroDivisionError


async def test_why_reruns_fail_is_told(beats: Beats, scene: Scene) -> None:
    await scene.finish(await scene.claimed_run("gone", fn="shop/gone"), "failed")
    request = BulkRequest.plan(BulkAction.RERUN, None, who="ann", now_ms=scene.now_ms)
    await start(scene.store, request)
    told = await turns(beats, await beats.start())
    assert (told.status, told.done, told.failed) == ("completed", 0, 1)
    assert told.problems == ["no worker has registered the function shop/gone"]
