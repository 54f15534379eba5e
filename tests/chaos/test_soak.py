"""The soak: what it calls a problem, and a small one that has none."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from benchmarks.soak import LIST, Sample, events, growth, judge, kind_of
from tests.processes import REPOSITORY


def samples(*, worker_growth: float = 0.0, store_growth: float = 0.0) -> list[Sample]:
    """200 s at 5,000 runs a second, then at 8,000, so that more is kept: it goes up and down with the trims. Per 100,000 runs."""
    taken, runs = [], 0
    for at_s in range(200):
        speed = 5_000 if at_s < 140 else 8_000
        runs += speed
        keys = speed * (3 + at_s % 10)
        store_mb = 5 + store_growth * runs / 1e5 + keys * 0.0009
        taken.append(Sample(runs, 70 + worker_growth * runs / 1e5, store_mb, keys))
    return taken


def test_memory_that_goes_up_and_down_with_what_is_kept_is_no_growth() -> None:
    assert growth(samples()) == {"worker": pytest.approx(0), "store": pytest.approx(0, abs=1e-6)}
    assert judge(samples(), Counter(app=1, seq=1), 0.5) == []


def test_growth_and_keys_of_runs_are_problems() -> None:
    told = "\n".join(judge(samples(worker_growth=1.0, store_growth=1.5), Counter(run=3, app=1), 0.5))
    assert "memory of the worker grows by 1.00 MB" in told
    assert "memory of the store grows by 1.50 MB" in told
    assert "3 run" in told
    assert "app" not in told


def test_growth_shows_where_the_number_of_keys_stays_the_same() -> None:
    steady = [Sample(number * 5_000, 70.0, 5 + number * 0.05, 100) for number in range(200)]
    assert growth(steady) == {"worker": pytest.approx(0), "store": pytest.approx(1.0)}


def test_keys_are_told_apart_by_the_first_part_of_their_name() -> None:
    assert kind_of("tf:{0}:run:01ABC-x") == "run"
    assert kind_of("tf:{0}:ready:bench/limited\x1ffn:bench/limited:0:t") == "ready"
    assert kind_of("tf:{0}:seq") == "seq"
    assert kind_of("tf:{b}:q:taskflow.events.bench") == "broker"


def test_the_mix_of_a_list_adds_up() -> None:
    names = Counter(event.name for event in events(0))
    assert names == {"bench/noop": 70, "bench/warm": 20, "bench/limited": 10}
    assert names.total() == LIST


@pytest.mark.chaos
@pytest.mark.timeout(120)
def test_a_small_soak_leaves_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", "--runs", "2000", "--retention", "1s"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2,000 runs in" in done.stdout
    assert "after the retention" in done.stdout
