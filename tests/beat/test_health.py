"""S13.3: the probes of `taskflow beat`, with real processes and a real store."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from taskflow.beat.health import LOOP_LIMIT_S, BeatHealth
from tests.health import ask, wait_for
from tests.processes import TaskflowProcess
from tests.servers import ValkeyServer, free_port


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as started:
        yield started


def beat_on(server: ValkeyServer, port: int, folder: Path) -> TaskflowProcess:
    env = {"TASKFLOW_BROKER": server.url, "TASKFLOW_STORE": server.url}
    return TaskflowProcess("beat", "--health-port", str(port), cwd=folder, env=env)


def test_a_beat_that_leads_and_one_that_stands_by_are_ready(server: ValkeyServer, tmp_path: Path) -> None:
    leading, standing_by = free_port(), free_port()
    with beat_on(server, leading, tmp_path) as first:
        first.wait_for_line("this beat leads")
        with beat_on(server, standing_by, tmp_path) as second:
            for port in (leading, standing_by):
                wait_for(port, "/readyz", 200)
                assert ask(port, "/livez")[0] == 200
                assert ask(port, "/startupz")[0] == 200
            assert ask(leading, "/readyz")[1] == {"ok": True, "why": "", "leads": True}
            assert ask(standing_by, "/readyz")[1] == {"ok": True, "why": "", "leads": False}
            assert second.stop() == 0
        assert first.stop() == 0


@pytest.mark.parametrize("how", ["killed", "paused"])
def test_without_its_store_a_beat_is_live_and_not_ready_until_it_is_back(
    server: ValkeyServer, tmp_path: Path, how: str
) -> None:
    """S9.5"""
    port = free_port()
    with beat_on(server, port, tmp_path) as beat:
        wait_for(port, "/readyz", 200)
        if how == "killed":
            server.kill()
        else:
            server.pause()
        try:
            wait_for(port, "/readyz", 503)
            assert ask(port, "/livez")[0] == 200
            assert ask(port, "/startupz")[0] == 200
        finally:
            if how == "killed":
                server.restart()
            else:
                server.resume()
        wait_for(port, "/readyz", 200)
        assert beat.stop() == 0


def test_a_beat_whose_event_loop_stands_still_is_neither_live_nor_ready() -> None:
    health = BeatHealth()
    now_s = health.latest.turned_s
    health.latest = replace(health.latest, went_well_s=now_s)
    assert health.live().ok
    assert health.ready().ok
    health.latest = replace(health.latest, turned_s=now_s - LOOP_LIMIT_S)
    assert health.live().why == health.ready().why == "its event loop has stood still for 10 s"


def test_a_port_that_is_taken_is_an_error_at_the_start(server: ValkeyServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with beat_on(server, port, tmp_path) as beat:
            assert beat.wait() == 1
            assert f"nothing can listen for probes on port {port} of 127.0.0.1" in beat.stderr
