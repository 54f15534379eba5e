"""Finds the `taskflow dev` that runs in this folder: it describes itself in `.taskflow/dev.json`.

The file is used only when the folder and the file belong to the user and nobody else may write to them: a stranger who could write
the file could have all events sent to a server of his.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

import orjson

from taskflow.values.record import record

FOLDER = ".taskflow"
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


@record(kw_only=True)
class DevInfo:
    """The content of dev.json: a running dev server."""

    pid: int
    app: str  # as given to -A
    app_id: str  # empty until the app could be imported
    store: str
    broker: str
    namespace: str


def dev_folder(base: Path | None = None) -> Path:
    return (base or Path.cwd()) / FOLDER


def running_dev(base: Path | None = None) -> DevInfo | None:
    """The dev server that runs in this directory, or None. The file of a dead server, or of another user, is ignored."""
    try:
        folder = dev_folder(base)
        if not (is_ours(folder) and is_ours(folder / "dev.json")):
            return None
        info = DevInfo(**orjson.loads((folder / "dev.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return info if is_alive(info.pid) and is_locked(folder / "dev.lock") else None


def dev_hint(url: str) -> str:
    """A hint for errors about the server at `url` or "host:port/db": another one, of `taskflow dev`, runs here. Or "".

    Code often runs below the folder of the dev server, so the folders above are looked at, too.
    """
    here = Path.cwd()
    base = next((each for each in (here, *here.parents) if running_dev(each)), None)
    info = running_dev(base) if base else None
    place = url.rpartition("@")[2].rpartition("//")[2]  # without scheme and login
    if base is None or info is None or place in info.store or place in info.broker:
        return ""
    where = "this folder" if base == here else str(base)
    return f" A taskflow dev runs in {where}; to use it: {export_line(base)}"


def export_line(base: Path) -> str:
    """The line for a shell, in whatever folder, after which code uses the dev server of the folder `base`."""
    return f'export TASKFLOW_BROKER="$(cat {shlex.quote(str(dev_folder(base) / "url"))})"'


def is_ours(path: Path) -> bool:
    """Whether the file or folder belongs to this user, and nobody else may write to it. A link is never ours: it isn't followed."""
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
    """Whether a process holds the lock on the file."""
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
