"""The number of CPUs that a worker may use, by the scheduler and by the quota of its container."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def available_cpus(root: Path = Path("/")) -> int:
    """The number of CPUs, at least 1; a quota of one and a half CPUs counts as 2. /proc and /sys are read below `root`."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(math.ceil(quota) for quota in cpu_quotas(root))]))


def cpu_quotas(root: Path) -> Iterator[float]:
    """The quotas, in CPUs, of this process's control groups and their parent groups (Linux, versions 1 and 2)."""
    try:
        memberships = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in memberships:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup"
        if controllers:
            mount = next((mount / name for name in ("cpu", controllers) if (mount / name).is_dir()), mount)
        for group in [PurePosixPath(path), *PurePosixPath(path).parents]:
            quota = quota_of(mount / str(group).lstrip("/"))
            if quota is not None:
                yield quota


def quota_of(folder: Path) -> float | None:
    """The quota of a control group in CPUs; None if there is no limit."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float(quota) / float(period) if float(quota) > 0 else None
    except (OSError, ValueError):  # there is no such file, or it says "max"
        return None
