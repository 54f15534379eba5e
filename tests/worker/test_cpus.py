"""How many processes a worker starts: as many as CPUs, less where a container has a quota."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taskflow.worker.supervisor.cpus import available_cpus, cpu_quotas


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_without_control_groups_there_is_no_quota(tmp_path: Path) -> None:
    assert list(cpu_quotas(tmp_path)) == []
    assert available_cpus(tmp_path) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("quota", "cpus"), [("50000 100000", 1), ("100000 100000", 1), ("max 100000", None)])
def test_a_quota_of_version_2_counts(tmp_path: Path, quota: str, cpus: int | None) -> None:
    write(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": f"{quota}\n"})
    assert available_cpus(tmp_path) == (cpus or len(os.sched_getaffinity(0)))


def test_the_smallest_quota_of_a_group_and_those_around_it_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/kube/pod/box\n",
        "sys/fs/cgroup/kube/pod/box/cpu.max": "400000 100000\n",
        "sys/fs/cgroup/kube/pod/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/kube/cpu.max": "max 100000\n",
    }
    write(tmp_path, files)
    assert min(cpu_quotas(tmp_path)) == 1.5


@pytest.mark.parametrize("path", ["/", "/docker/5f2c"])
def test_a_quota_of_version_1_counts_wherever_the_container_sees_its_group(tmp_path: Path, path: str) -> None:
    files = {
        "proc/self/cgroup": f"11:memory:{path}\n4:cpu,cpuacct:{path}\n1:name=systemd:{path}\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }
    write(tmp_path, files)
    assert list(cpu_quotas(tmp_path)) == [0.5]
    write(tmp_path, {"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n"})
    assert list(cpu_quotas(tmp_path)) == []
