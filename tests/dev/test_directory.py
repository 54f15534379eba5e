"""What `taskflow dev` tells other commands in its folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taskflow.dev.directory import claimed_folder, write_info
from taskflow.errors import ConfigError
from taskflow.values.dev_server import DevInfo, dev_hint, running_dev

URL = "redis://127.0.0.1:2222/0"


def info(pid: int) -> DevInfo:
    return DevInfo(pid=pid, app="shop.app", app_id="shop", store=URL, broker=URL, namespace="tf")


def test_running_server_is_found_until_it_ends(tmp_path: Path) -> None:
    assert running_dev(tmp_path) is None
    with claimed_folder(tmp_path) as folder:
        assert running_dev(tmp_path) is None  # it is just starting
        write_info(folder, info(os.getpid()))
        assert running_dev(tmp_path) == info(os.getpid())
    assert running_dev(tmp_path) is None
    assert not (folder / "dev.json").exists()
    assert (folder / ".gitignore").read_text() == "*\n"


def test_second_server_in_a_folder_is_refused(tmp_path: Path) -> None:
    with claimed_folder(tmp_path) as folder:
        with pytest.raises(ConfigError, match=r"runs already in .* \(it is just starting\)"):
            claimed_folder(tmp_path).__enter__()
        write_info(folder, info(os.getpid()))
        with pytest.raises(ConfigError, match=rf"runs already in .* \(pid {os.getpid()}, store {URL}\)"):
            claimed_folder(tmp_path).__enter__()
    with claimed_folder(tmp_path):
        pass


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"no json"])
def test_file_that_can_not_be_read_is_ignored(tmp_path: Path, content: bytes) -> None:
    with claimed_folder(tmp_path) as folder:
        (folder / "dev.json").write_bytes(content)
        assert running_dev(tmp_path) is None


def test_only_the_user_may_read_and_write_the_folder(tmp_path: Path) -> None:
    (tmp_path / ".taskflow").mkdir(mode=0o755)
    with claimed_folder(tmp_path) as folder:
        write_info(folder, info(os.getpid()))
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "dev.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", [".taskflow", ".taskflow/dev.json"])
def test_what_others_may_write_to_is_not_believed(tmp_path: Path, name: str) -> None:
    """Who could write there would be sent all events."""
    with claimed_folder(tmp_path) as folder:
        write_info(folder, info(os.getpid()))
        assert running_dev(tmp_path) is not None
        (tmp_path / name).chmod(0o777)
        assert running_dev(tmp_path) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_belongs_to_another_user_is_not_believed(tmp_path: Path) -> None:
    with claimed_folder(tmp_path) as folder:
        write_info(folder, info(os.getpid()))
        os.chown(folder / "dev.json", 12345, 12345)
        assert running_dev(tmp_path) is None
    os.chown(folder, 12345, 12345)
    with pytest.raises(ConfigError, match="is not yours alone"):
        claimed_folder(tmp_path).__enter__()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".taskflow").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="or a link"):
        claimed_folder(tmp_path).__enter__()


def test_an_error_about_another_server_names_the_one_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert dev_hint("redis://localhost:6379/0") == ""
    with claimed_folder(tmp_path) as folder:
        write_info(folder, info(os.getpid()))
        line = f'export TASKFLOW_BROKER="$(cat {tmp_path}/.taskflow/url)"'
        assert f"runs in this folder; to use it: {line}" in dev_hint("redis://localhost:6379/0")
        assert dev_hint("localhost:6379/0") != ""
        assert dev_hint(URL) == ""
        assert dev_hint("127.0.0.1:2222/0") == ""
        below = tmp_path / "scripts"
        below.mkdir()
        monkeypatch.chdir(below)
        assert f"runs in {tmp_path}; to use it: {line}" in dev_hint("redis://localhost:6379/0")
