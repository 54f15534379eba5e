"""Which changes ask for a reload."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from taskflow.dev.reload import changes, is_code


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("shop.py", True), ("shop/tasks.py", True), ("shop/data.json", False), ("dump.rdb", False),
        (".taskflow/valkey/x.py", False), (".venv/lib/x.py", False), ("shop/__pycache__/x.py", False),
        ("shop/tasks.pyc", False),
    ],
)  # fmt: skip
def test_only_the_users_own_python_files_count(path: str, expected: bool) -> None:
    # The project itself may live below a folder of any name.
    root = Path("/home/me/.venv/project")
    assert is_code(str(root / path), root) is expected


def test_change_is_told_and_stopping_ends_the_watch(tmp_path: Path) -> None:
    stopping = threading.Event()
    for changed in changes(tmp_path, stopping):
        if changed:
            assert {path.name for path in changed} == {"shop.py"}
            stopping.set()
        else:
            (tmp_path / "notes.txt").write_text("x")
            (tmp_path / "shop.py").write_text("x = 1\n")
    assert stopping.is_set()
