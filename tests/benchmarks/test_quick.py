"""The benchmarks work. What they measure is nobody's to judge here: a timed test would fail on a busy machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.live import FIGURES, measure_peers
from benchmarks.peers.taskflow import PEER as TASKFLOW
from benchmarks.report import Scale
from benchmarks.start import IMPORTS, measure_imports, measure_starts
from tests.processes import REPOSITORY


def test_a_quick_benchmark_prints_its_table_and_writes_its_json(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "drain", "--quick", "--repeat", "1", "--json", str(path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert "no-op runs drained" in done.stdout
    told = json.loads(path.read_text())
    assert told["machine"]["is_quick"] is True
    assert "PING" in told["machine"]["round_trip"]
    figures = told["benchmarks"]["drain"]["figures"]
    assert figures["per_s"]["median"] > 0
    assert figures["per_s"]["target"] == ">= 12,000"


def test_live_traffic_is_measured_with_the_cpu_of_each_part() -> None:
    figures = measure_peers([TASKFLOW], Scale(is_quick=True))
    assert set(figures) == {f"taskflow_{key}" for key in FIGURES}, "without peers there is no ratio"
    assert figures["taskflow_per_s"] > 0
    parts = ("worker_us", "server_us", "producer_us")
    assert figures["taskflow_all_us"] == sum(figures[f"taskflow_{part}"] for part in parts)


def test_the_start_of_a_worker_is_measured_with_its_cpu_and_its_imports() -> None:
    figures = measure_starts(["taskflow"], Scale(is_quick=True))
    assert set(figures) == {"taskflow_ms", "taskflow_cpu_ms"}, "without Dramatiq there is no ratio"
    assert figures["taskflow_ms"] > 0
    assert set(measure_imports(1)) == set(IMPORTS)
