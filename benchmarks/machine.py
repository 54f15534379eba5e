"""What the figures were taken on, and what processes use: CPU time and memory, from /proc (Linux)."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.yardstick import yardsticks
from tests.servers import ValkeyServer

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def facts() -> dict[str, Any]:
    """CPU, cores, versions, the load that was there before, and how fast the machine is just now."""
    version = subprocess.run(
        [ValkeyServer.binary(), "--version"], capture_output=True, text=True, check=True
    ).stdout
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "valkey": version.split()[2].removeprefix("v="),
        "store": "embedded Valkey, TCP on loopback, AOF with appendfsync everysec, a fresh one for each repetition",
        "load_before": [round(load, 2) for load in os.getloadavg()],
        **yardsticks(),
    }


def cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.processor() or "unknown"


def cpu_s(pids: Iterable[int]) -> float:
    """CPU time (user and system) that the processes have used so far, in seconds."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_S


def pss_mb(pids: Iterable[int]) -> float:
    """Memory of the processes, with what they share counted once (PSS), in MB of 10^6 bytes."""
    return sum(memory_kb(pid, "Pss") for pid in pids) * 1024 / 1e6


def rss_mb(pids: Iterable[int]) -> float:
    """Resident memory of the processes, in MB of 10^6 bytes."""
    return sum(memory_kb(pid, "Rss") for pid in pids) * 1024 / 1e6


def memory_kb(pid: int, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0
