"""A short chaos on each broker, and Ctrl-C in the middle of one. `make chaos` does it for minutes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.brokers.conftest import require
from tests.processes import REPOSITORY, heed_signals, is_alive, wait_until
from tests.servers import FOLDER_PREFIX, RABBITMQ_HINT, REDIS_HINT, RabbitMQServer, RedisServer

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]

MINUTES = 0.35  # on each of three brokers: a minute in all


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder with a short name: the servers in it have Unix sockets, whose paths may have 107 characters."""
    with tempfile.TemporaryDirectory(prefix="tf-") as name:
        yield Path(name)


@contextmanager
def chaos(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m chaos`, with its output and temporary files in `folder`."""
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "chaos", *arguments],
            cwd=REPOSITORY,
            env={**os.environ, "TMPDIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
            preexec_fn=heed_signals,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(60)


@pytest.mark.parametrize(
    "broker",
    [
        "valkey",
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("rabbitmq", marks=pytest.mark.rabbitmq),
    ],
)
def test_nothing_is_amiss_after_a_short_chaos(folder: Path, broker: str) -> None:
    require(broker != "redis" or RedisServer.is_installed(), REDIS_HINT)
    require(broker != "rabbitmq" or RabbitMQServer.is_installed(), RABBITMQ_HINT)
    seed = os.environ.get("CHAOS_SEED", "7")
    with chaos(folder, "--minutes", str(MINUTES), "--seed", seed, "--broker", broker) as process:
        code = process.wait(170)
    told = (folder / "output").read_text()
    assert code == 0, told
    assert "problems" in told


def test_ctrl_c_leaves_no_process_and_no_file(folder: Path) -> None:
    with chaos(folder, "--minutes", "5", "--seed", "1") as process:
        wait_until(
            lambda: any(path.stat().st_size for path in folder.glob("taskflow-chaos-*/journal")),
            what="executed steps",
            deadline_s=60,
        )
        pids = descendants(process.pid)
        assert len(pids) >= 7, "a store, two workers with two children each, two beats"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) != 0
    wait_until(lambda: not any(map(is_alive, pids)), what="the end of all processes", deadline_s=20)
    assert [path.name for path in folder.iterdir()] == ["output"]
    mine = f"{FOLDER_PREFIX}{process.pid}-*"
    assert not list(Path(tempfile.gettempdir()).glob(mine))


def descendants(pid: int) -> list[int]:
    """The pids of all processes below this one, from all of its threads."""
    children = [
        int(child)
        for path in Path(f"/proc/{pid}/task").glob("*/children")
        for child in path.read_text().split()
    ]
    return children + [below for child in children for below in descendants(child)]
