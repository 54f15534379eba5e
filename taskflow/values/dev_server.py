"""The dev server that runs in this folder, as `taskflow dev` tells of it in `.taskflow/dev.json`.

It is believed only when the folder and the file are the user's own and nobody else may write to them: whoever could write there
would be sent all events.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import orjson

FOLDER = ".taskflow"
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True, kw_only=True)
class DevInfo:
    """What dev.json says of a dev server that runs."""

    pid: int
    app: str  # as given to -A
    app_id: str  # empty until the app could be imported
    store: str
    broker: str
    namespace: str


def dev_folder(base: Path | None = None) -> Path:
    return (base or Path.cwd()) / FOLDER


def running_dev(base: Path | None = None) -> DevInfo | None:
    """The dev server that runs in this directory, or None. What a dead one left behind is ignored, and what is not ours."""
    try:
        folder = dev_folder(base)
        if not (is_ours(folder) and is_ours(folder / "dev.json")):
            return None
        info = DevInfo(**orjson.loads((folder / "dev.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return info if is_alive(info.pid) and is_locked(folder / "dev.lock") else None


def dev_hint(url: str) -> str:
    """What to add to an error about a server at `url`, or "host:port/db", that is not the dev server of this folder; or empty."""
    info = running_dev()
    place = url.rpartition("@")[2].rpartition("//")[2]  # without scheme and login
    if info is None or place in info.store or place in info.broker:
        return ""
    return f' A taskflow dev runs in this folder; to use it: export TASKFLOW_BROKER="$(cat {FOLDER}/url)"'


def is_ours(path: Path) -> bool:
    """Whether it belongs to this user, and nobody else may write to it. A link is not followed."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return False
    if not hasattr(os, "geteuid"):  # Windows, where no dev server runs
        return True
    return found.st_uid == os.geteuid() and not found.st_mode & WRITABLE_BY_OTHERS


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock."""
    try:
        import fcntl
    except ImportError:  # Windows, where no dev server runs
        return False
    try:
        with path.open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
