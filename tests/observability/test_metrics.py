"""S13.1: what is counted comes out as Prometheus reads it, added up over processes."""

from __future__ import annotations

from pathlib import Path

import orjson

from taskflow.observability.families import (
    DEPTH,
    FAMILIES,
    QUEUE_WAIT,
    RUN_BUCKETS,
    RUNS_STARTED,
    SLOTS,
    WAIT_BUCKETS,
)
from taskflow.observability.meter import MAX_ERRORS, Meter
from taskflow.observability.metrics import Tally, exposition
from tests.observability.prometheus import parse


def test_counters_and_gauges_have_their_labels() -> None:
    tally = Tally()
    tally.add((RUNS_STARTED.name, "shop/fulfil", "event"))
    tally.add((RUNS_STARTED.name, "shop/fulfil", "event"), 2)
    tally.set(DEPTH, 0.25, "shop", 'a "queue"\\\nof two lines')
    found = parse(exposition(tally))
    assert found.value("taskflow_runs_started_total", function="shop/fulfil", cause="event") == 3
    assert found.value("taskflow_queue_depth", app="shop", queue='a "queue"\\\nof two lines') == 0.25


def test_a_histogram_counts_each_time_in_all_buckets_that_hold_it() -> None:
    meter = Meter()
    for waited_ms in (0, 10, 11, 3_600_000, 3_600_001):
        meter.run_started("shop/fulfil", "event", waited_ms)
    found = parse(exposition(meter.tally))

    def bucket(le: str) -> float | None:
        return found.value("taskflow_queue_wait_seconds_bucket", function="shop/fulfil", le=le)

    assert [bucket(le) for le in ("0.01", "0.05", "1800", "3600", "+Inf")] == [2, 3, 3, 4, 5]
    assert found.value("taskflow_queue_wait_seconds_count", function="shop/fulfil") == 5
    assert found.value("taskflow_queue_wait_seconds_sum", function="shop/fulfil") == 7200.022


def test_nothing_counted_is_an_empty_answer() -> None:
    assert parse(exposition(Tally())).rows == {}


def test_tallies_of_several_processes_add_up() -> None:
    sums = Tally()
    for waited_ms in (5, 500):
        meter = Meter()
        meter.run_started("shop/fulfil", "cron", waited_ms)
        meter.tally.set(SLOTS, 3, "busy")
        sums.merge(Tally.from_json(orjson.loads(orjson.dumps(meter.tally.take().to_json()))))
        assert meter.tally.take().to_json() == [[], [], []], "what was taken is not told again"
    found = parse(exposition(sums))
    assert found.value("taskflow_runs_started_total", function="shop/fulfil", cause="cron") == 2
    assert found.value("taskflow_queue_wait_seconds_count", function="shop/fulfil") == 2
    assert found.value("taskflow_slots", state="busy") == 6


def test_a_row_that_was_merged_is_not_shared() -> None:
    one, other = Tally(), Tally()
    one.observe((QUEUE_WAIT.name, "f"), WAIT_BUCKETS, 1.0)
    other.merge(one)
    one.observe((QUEUE_WAIT.name, "f"), WAIT_BUCKETS, 1.0)
    assert parse(exposition(other)).value("taskflow_queue_wait_seconds_count", function="f") == 1


def test_classes_of_errors_beyond_a_number_share_a_row() -> None:
    meter = Meter()
    for number in range(MAX_ERRORS + 5):
        meter.attempt_failed("shop/fulfil", f"Error{number}")
    found = parse(exposition(meter.tally))
    assert len(found.rows) == MAX_ERRORS + 1
    assert found.value("taskflow_attempts_failed_total", function="shop/fulfil", error="other") == 5


def test_buckets_ascend() -> None:
    for family in FAMILIES.values():
        assert list(family.buckets) == sorted(set(family.buckets))
        assert bool(family.buckets) is (family.kind == "histogram")
        assert family.name.endswith("_total") is (family.kind == "counter")
    assert RUN_BUCKETS[-1] == 7 * 24 * 3600


def test_the_page_lists_every_metric() -> None:
    page = (Path(__file__).parents[2] / "docs" / "observability.md").read_text()
    for family in FAMILIES.values():
        labels = ", ".join(f"`{label}`" for label in family.labels)
        assert f"| `{family.name}` | {family.kind} | {labels} | {family.help} |" in page
