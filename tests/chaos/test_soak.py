"""The soak: what it calls a problem, and a small one that has none."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from benchmarks.soak import LIST, Sample, events, judge, kind_of, slope, slopes
from tests.processes import REPOSITORY


def samples(*, worker_mb_per_s: float = 0.0, store_mb_per_s: float = 0.0) -> list[Sample]:
    """200 s at 5,000 runs a second; the store's memory goes up and down with the trims."""
    return [
        Sample(
            at_s, at_s * 5_000, 70 + worker_mb_per_s * at_s, 5 + store_mb_per_s * at_s + at_s % 10 * 7, 100
        )
        for at_s in range(200)
    ]


def test_memory_that_goes_up_and_down_is_no_growth() -> None:
    assert slopes(samples()) == {"worker": pytest.approx(0), "store": pytest.approx(0, abs=0.2)}
    assert judge(samples(), Counter(app=1, seq=1), 0.5) == []


def test_growth_and_keys_of_runs_are_problems() -> None:
    growing = samples(worker_mb_per_s=0.05, store_mb_per_s=0.1)
    assert slope(growing, "worker_mb") == pytest.approx(1.0)
    told = "\n".join(judge(growing, Counter(run=3, app=1), 0.5))
    assert "memory of the worker grows by 1.00 MB" in told
    assert "memory of the store grows by 2." in told
    assert "3 run" in told
    assert "app" not in told


def test_keys_are_told_apart_by_the_first_part_of_their_name() -> None:
    assert kind_of("tf:{0}:run:01ABC-x") == "run"
    assert kind_of("tf:{0}:ready:bench/limited\x1ffn:bench/limited:0:t") == "ready"
    assert kind_of("tf:{0}:seq") == "seq"
    assert kind_of("tfb:q:taskflow.events.bench") == "broker"


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
