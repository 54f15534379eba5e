"""`.taskflow/`, where `taskflow dev` keeps its data, and says to other commands in this directory that it runs.

.taskflow/dev.json    its URLs, while it runs
.taskflow/dev.lock    locked by it: the kernel frees it with the process, so a stale dev.json is never believed
.taskflow/valkey/     the data of the embedded store
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from taskflow.errors import ConfigError

FOLDER = ".taskflow"


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
    """The dev server that runs in this directory, or None. What a dead one left behind is ignored."""
    folder = dev_folder(base)
    try:
        info = DevInfo(**orjson.loads((folder / "dev.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return info if is_alive(info.pid) and is_locked(folder / "dev.lock") else None


def write_info(folder: Path, info: DevInfo) -> None:
    """Replace dev.json in one move, so that nobody reads half of it."""
    draft = folder / "dev.json.new"
    draft.write_bytes(orjson.dumps(asdict(info), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    draft.replace(folder / "dev.json")


@contextmanager
def claimed_folder(base: Path | None = None) -> Iterator[Path]:
    """The folder, ours alone until the end. Raises ConfigError while another dev server runs here."""
    import fcntl  # a worker can't run on Windows, but `taskflow send` can

    folder = dev_folder(base)
    folder.mkdir(exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    with (folder / "dev.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(already_running(folder)) from None
        try:
            yield folder
        finally:
            (folder / "dev.json").unlink(missing_ok=True)


def already_running(folder: Path) -> str:
    info = running_dev(folder.parent)
    who = f"pid {info.pid}, store {info.store}" if info else "it is just starting"
    return f"taskflow dev runs already in {folder.parent} ({who}). Stop that one first, or start this one in another directory."


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
