"""`taskflow beat` as users run it. Rules S8.1, S9.5."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.processes import TaskflowProcess
from tests.servers import ValkeyServer, free_port


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    """A server of this test's own, to stop and restart."""
    with ValkeyServer() as server:
        yield server


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_beat_needs_only_urls_leads_and_gives_the_lead_away_when_it_stops(
    tmp_path: Path, valkey_url: str, namespace: str, number: signal.Signals
) -> None:
    arguments = ("--broker", valkey_url, "--store", valkey_url, "--namespace", namespace)
    with (
        TaskflowProcess("beat", *arguments, cwd=tmp_path) as beat,
        redis.Redis.from_url(valkey_url) as client,
    ):
        line = beat.wait_for_line("beat is ready")
        assert line.endswith(f"broker {valkey_url}, store {valkey_url}, namespace {namespace}")
        beat.wait_for_line("this beat leads")
        assert beat.stop(number) == 0
        assert client.hget(f"{namespace}:{{0}}:leader", "until_ms") == b"0"
        assert len(beat.stderr.splitlines()) == 2


def test_beat_takes_the_urls_from_the_app(tmp_path: Path, valkey_url: str, namespace: str) -> None:
    settings = f"broker={valkey_url!r}, store={valkey_url!r}, namespace={namespace!r}"
    (tmp_path / "shop.py").write_text(f"from taskflow import TaskFlow\napp = TaskFlow('shop', {settings})\n")
    with TaskflowProcess("beat", "-A", "shop:app", "--json-logs", cwd=tmp_path) as beat:
        assert f"namespace {namespace}" in beat.wait_for_line("beat is ready")
        assert beat.stop() == 0


def test_second_beat_stands_by_and_takes_over_when_the_first_stops(
    tmp_path: Path, valkey_url: str, namespace: str
) -> None:
    env = {"TASKFLOW_BROKER": valkey_url, "TASKFLOW_STORE": valkey_url, "TASKFLOW_NAMESPACE": namespace}
    with (
        TaskflowProcess("beat", cwd=tmp_path, env=env) as first,
        TaskflowProcess("beat", cwd=tmp_path, env=env) as second,
    ):
        for beat in (first, second):
            beat.wait_for_line("beat is ready")
        leader, other = (first, second) if "this beat leads" in first.stderr else (second, first)
        leader.wait_for_line("this beat leads")
        assert "this beat leads" not in other.stderr
        assert leader.stop() == 0
        other.wait_for_line("this beat leads")
        assert other.stop() == 0


def test_store_that_is_down_is_named(tmp_path: Path) -> None:
    port = free_port()
    url = f"redis://:s3cret@127.0.0.1:{port}/0"
    with TaskflowProcess("beat", "--store", url, "--broker", url, cwd=tmp_path) as beat:
        assert beat.wait(deadline_s=10) == 1
        (line,) = beat.stderr.splitlines()
        assert line.startswith(f"taskflow: the store at 127.0.0.1:{port}/0 can't be reached: ")


def test_beat_outlives_a_restart_of_the_store_and_stops_while_it_is_away(
    tmp_path: Path, server: ValkeyServer
) -> None:
    with TaskflowProcess("beat", "--store", server.url, "--broker", server.url, cwd=tmp_path) as beat:
        beat.wait_for_line("this beat leads")
        server.restart()
        beat.wait_for_line("is back")
        server.pause()
        assert beat.stop(deadline_s=8) == 0


def test_option_that_the_code_overrules_is_no_silent_one(tmp_path: Path, valkey_url: str) -> None:
    (tmp_path / "shop.py").write_text(
        "from taskflow import TaskFlow\napp = TaskFlow('shop', store='redis://elsewhere')\n"
    )
    with TaskflowProcess("beat", "-A", "shop", "--store", valkey_url, cwd=tmp_path) as beat:
        assert beat.wait() == 1
        assert "--store has no effect: the code of app 'shop' sets its own store" in beat.stderr
