"""S13.1: the leading beat tells how much there is to do in the store, and nobody else does."""

from __future__ import annotations

from pathlib import Path

from taskflow import TaskFlow
from taskflow.beat.gauges import PAUSE_MS, StoreGauges
from taskflow.beat.service import Beat
from taskflow.observability.metrics import exposition
from taskflow.store.store import Store
from tests.beat.beats import Beats
from tests.observability.prometheus import Scrape, parse, scrape
from tests.processes import TaskflowProcess, wait_until
from tests.servers import ValkeyServer, free_port
from tests.store.scene import NOW_MS, Scene


async def gauges_of(store: Store, now_ms: int) -> Scrape:
    gauges = StoreGauges(store)
    assert await gauges.run_once(now_ms) == now_ms + PAUSE_MS
    return parse(exposition(gauges.latest))


async def test_runs_count_by_function_queue_and_status(beats: Beats) -> None:
    scene = Scene(beats.store)
    await scene.make_run("waits")
    await scene.make_run("waits too")
    await scene.claimed_run("executes")
    found = await gauges_of(beats.store, NOW_MS + 2_500)
    assert found.total("taskflow_runs_live", status="queued") == 2
    assert found.total("taskflow_runs_live", status="running") == 1
    assert found.total("taskflow_queue_depth") == 2
    assert found.total("taskflow_queue_slots_wanted") == 3
    assert found.total("taskflow_queue_oldest_seconds") == 2.5


async def test_an_empty_store_has_nothing_to_do(beats: Beats) -> None:
    found = await gauges_of(beats.store, NOW_MS)
    assert found.value("taskflow_timers") == 0
    assert found.value("taskflow_timers_late_seconds") == 0
    assert found.value("taskflow_outbox_oldest_seconds") == 0
    assert found.value("taskflow_dead_letters") == 0
    assert found.value("taskflow_workers") == 0
    assert "taskflow_queue_depth" not in found.names


async def test_timers_are_late_once_they_are_due(beats: Beats) -> None:
    scene = Scene(beats.store)
    await scene.make_run("starts", start_at_ms=NOW_MS + 6_000)
    assert (await gauges_of(beats.store, NOW_MS)).value("taskflow_timers_late_seconds") == 0
    found = await gauges_of(beats.store, NOW_MS + 7_500)
    assert found.value("taskflow_timers") == 1
    assert found.value("taskflow_timers_late_seconds") == 1.5


async def test_an_event_of_the_engine_that_is_not_published_has_an_age(beats: Beats) -> None:
    scene = Scene(beats.store)
    await scene.finish(await scene.claimed_run("fails"), "failed")
    found = await gauges_of(beats.store, NOW_MS + 4_000)
    assert found.value("taskflow_outbox_oldest_seconds") == 4


async def test_dead_letters_and_paused_queues_count(beats: Beats) -> None:
    await beats.store.history.keep_dead_letter(b"?", "no JSON", now_ms=NOW_MS)
    await beats.store.steering.pause_queue("shop", "reports", now_ms=NOW_MS)
    found = await gauges_of(beats.store, NOW_MS)
    assert found.value("taskflow_dead_letters") == 1
    assert found.value("taskflow_queue_paused", app="shop", queue="reports") == 1


async def test_the_gauges_are_read_now_and_then(beats: Beats) -> None:
    gauges = StoreGauges(beats.store)
    due_ms = await gauges.run_once(NOW_MS)
    first = gauges.latest
    assert await gauges.run_once(due_ms - 1) == due_ms
    assert gauges.latest is first
    await gauges.run_once(due_ms)
    assert gauges.latest is not first


async def test_a_beat_that_stands_by_has_none_and_one_without_metrics_reads_none(
    app: TaskFlow, beats: Beats
) -> None:
    leading = Beat(app.config, clock=beats.clock, has_metrics=True)
    standing_by = Beat(app.config, clock=beats.clock, has_metrics=True)
    for beat in (leading, standing_by):
        await beat.start()
        beats.all.append(beat)
        await beat.run_once()
    assert leading.gauges is not None and leading.gauges.latest.gauges
    assert standing_by.gauges is not None and not standing_by.gauges.latest.gauges
    assert (await beats.start()).gauges is None

    leading.gauges.next_ms = beats.clock.now_ms() + 3_600_000
    await leading.leadership.resign()
    await standing_by.run_once()
    beats.clock.advance(seconds=5)
    await leading.run_once()
    assert standing_by.gauges.latest.gauges
    assert not leading.gauges.latest.gauges


def test_one_of_two_beats_tells_what_there_is_to_do(tmp_path: Path) -> None:
    leading, standing_by = free_port(), free_port()
    with ValkeyServer() as server:
        env = {"TASKFLOW_BROKER": server.url, "TASKFLOW_STORE": server.url}
        with TaskflowProcess("beat", "--health-port", str(leading), cwd=tmp_path, env=env) as first:
            first.wait_for_line("this beat leads")
            with TaskflowProcess("beat", "--health-port", str(standing_by), cwd=tmp_path, env=env) as second:
                second.wait_for_line("answering probes")
                wait_until(
                    lambda: scrape(leading).value("taskflow_timers") == 0,
                    what="the gauges of the leading beat",
                )
                wait_until(
                    lambda: scrape(standing_by).value("taskflow_ready") == 1, what="the other one to stand by"
                )
                assert scrape(leading).value("taskflow_beat_leads") == 1
                assert scrape(standing_by).value("taskflow_beat_leads") == 0
                assert "taskflow_timers" not in scrape(standing_by).names
                assert second.stop() == 0
            assert first.stop() == 0
