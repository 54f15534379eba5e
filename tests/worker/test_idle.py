"""What a worker and a beat with nothing to do ask of the servers."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import redis

from tests.processes import TaskflowProcess, wait_until
from tests.servers import ValkeyServer

WATCH_S = 8.0
MOST_A_S = 1.0
APP = 'from taskflow import TaskFlow\n\napp = TaskFlow("idle")\n\n@app.function()\nasync def work(ctx): ...\n'


def commands_by_connection(url: str, seconds: float) -> dict[str, Counter[str]]:
    """What each connection sends in that time; a script counts once, whatever it calls."""
    sent: dict[str, Counter[str]] = {}
    until_s = time.monotonic() + seconds
    with redis.Redis.from_url(url, decode_responses=True) as client, client.monitor() as monitor:
        while (left_s := until_s - time.monotonic()) > 0:
            if monitor.connection.can_read(timeout=left_s):
                seen = monitor.next_command()
                if seen["client_type"] != "lua":
                    name = seen["command"].split()[0]
                    sent.setdefault(seen["client_port"], Counter())[name] += 1
    return sent


def is_quiet(url: str) -> bool:
    return max((sent.total() for sent in commands_by_connection(url, 1.0).values()), default=0) <= 3


def test_an_idle_worker_and_its_beat_send_one_command_a_second_over_a_connection_at_most(
    tmp_path: Path,
) -> None:
    (tmp_path / "idle.py").write_text(APP)
    with ValkeyServer() as server:
        env = {"TASKFLOW_BROKER": server.url, "TASKFLOW_STORE": server.url}
        with TaskflowProcess(
            "worker", "-A", "idle:app", "-B", "-Q", "default,mail,video", cwd=tmp_path, env=env
        ) as worker:
            worker.wait_for_line("is ready")
            worker.wait_for_line("this beat leads")
            wait_until(lambda: is_quiet(server.url), what="the end of what follows a start")
            sent = commands_by_connection(server.url, WATCH_S)
            worker.stop()
    assert any("BLPOP" in commands for commands in sent.values()), "beat"
    assert any("XREADGROUP" in commands for commands in sent.values()), "a child"
    # A duty may fall due at both ends of the time: two each.
    most = MOST_A_S * WATCH_S + 2
    assert {port: commands for port, commands in sent.items() if commands.total() > most} == {}
