"""What `taskflow dev` tells other commands in its folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taskflow.dev.directory import DevInfo, claimed_folder, running_dev, write_info
from taskflow.errors import ConfigError

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
