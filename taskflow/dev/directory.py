"""The folder `.taskflow/`: `taskflow dev` keeps its data there, and tells other commands in this directory that it runs.

.taskflow/dev.json    the URLs of the dev server while it runs; they have the password, so only the user may read the file
.taskflow/url         the URL of the embedded store, for `export TASKFLOW_BROKER="$(cat .taskflow/url)"`
.taskflow/dev.lock    locked by the dev server; the kernel unlocks it when the process ends, so a stale dev.json is never used
.taskflow/valkey/     the data of the embedded store
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import orjson

from taskflow.errors import ConfigError
from taskflow.redis.address import redact
from taskflow.values.dev_server import DevInfo, dev_folder, is_ours, running_dev


def write_info(folder: Path, info: DevInfo) -> None:
    """Replace dev.json in one move, so that no reader sees half of it."""
    told = orjson.dumps(asdict(info), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    write_private(folder / "dev.json", told)


def write_private(path: Path, content: bytes) -> None:
    """Replace a file by one that only its owner may read, in one move."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    draft.replace(path)


def make_private(folder: Path) -> None:
    """Make a folder that only its owner may enter. Raises ConfigError when it is somebody else's."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if not folder.is_symlink() and folder.stat().st_uid == os.geteuid():
        folder.chmod(0o700)
    if not is_ours(folder):
        raise ConfigError(
            f"{folder} is not yours alone, or a link: whoever may write there reads all events. "
            "Remove it, or work in another folder."
        )


@contextmanager
def claimed_folder(base: Path | None = None) -> Iterator[Path]:
    """Claim the folder for this dev server, for as long as the block takes. Raises ConfigError while another one runs here."""
    # Imported here: Windows has no fcntl, and `taskflow send` runs there.
    import fcntl

    folder = dev_folder(base)
    make_private(folder)
    (folder / ".gitignore").write_text("*\n")
    with (folder / "dev.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(already_running(folder)) from None
        try:
            yield folder
        finally:
            for name in ("dev.json", "url"):
                (folder / name).unlink(missing_ok=True)


def already_running(folder: Path) -> str:
    info = running_dev(folder.parent)
    who = f"pid {info.pid}, store {redact(info.store)}" if info else "it is just starting"
    return f"taskflow dev runs already in {folder.parent} ({who}). Stop that one first, or start this one in another directory."
