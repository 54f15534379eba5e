"""The real store behind the simulated network: a Valkey of our own, asked one command at a time, while the world stands still."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import hiredis

from taskflow.dev.valkey import EmbeddedValkey
from taskflow.redis.connection import Argument, pack_command
from taskflow.redis.scripts import load_scripts
from taskflow.store.store import PACKAGE

READ_BYTES = 1 << 20
TIMEOUT_S = 10.0
# Small collections keep the order of their insertion; beyond these sizes they are hash tables with a seed of their own, and a
# simulation would not repeat itself.
ORDERED = "1000000"


class SimulationValkey(EmbeddedValkey):
    """An embedded Valkey that writes nothing to disk, listens on a unix socket, and keeps all collections in order."""

    @property
    def socket_path(self) -> Path:
        return self.folder.resolve() / "valkey.sock"

    def serves(self) -> bool:
        """Nobody else knows its folder, so it has no password."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(self.socket_path))
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False

    def command(self, binary: Path) -> list[str]:
        options = ["--save", "", "--appendonly", "no", "--unixsocket", str(self.socket_path)]
        for kind in ("hash", "set", "zset"):
            options += [f"--{kind}-max-listpack-entries", ORDERED, f"--{kind}-max-listpack-value", ORDERED]
        return [
            str(binary),
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self.folder),
            *options,
        ]


class StoreServer:
    """Blocking access: commands on one socket, what is published on another."""

    def __init__(self, path: Path) -> None:
        self.commands = Line(path)
        self.published = Line(path)
        self.published.ask(pack_command(("PSUBSCRIBE", "*")))
        self.names: dict[bytes, str] = {}  # of scripts, by sha
        self.publishing: set[bytes] = set()  # shas of scripts that may publish
        self.nudging: set[bytes] = set()  # ... that may push a nudge for beat

    def reset(self) -> None:
        """Empty it, and teach it the scripts as they are now."""
        self.ask("FLUSHALL")
        self.ask("SET", "tf:{0}:secret", "the same in each world")
        self.learn()

    def learn(self) -> None:
        scripts = list(load_scripts(PACKAGE).values())
        known = self.ask("SCRIPT", "EXISTS", *[script.sha for script in scripts])
        for script, is_known in zip(scripts, known, strict=True):
            sha = script.sha.encode()
            if not is_known:
                self.ask("SCRIPT", "LOAD", script.source)
            self.names[sha] = script.name
            if "PUBLISH" in script.source:
                self.publishing.add(sha)
            if "nudge" in script.source:
                self.nudging.add(sha)

    def ask(self, *command: Argument) -> Any:
        """Run a command; its reply. Raises hiredis.ReplyError."""
        return self.ask_all([command])[0]

    def ask_all(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """Run commands in one round trip; their replies."""
        if not commands:
            return []
        first, _ = self.commands.ask(b"".join(map(pack_command, commands)))
        replies = [first, *[self.commands.next()[0] for _ in commands[1:]]]
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise reply
        return replies

    def ask_raw(self, packed: bytes) -> tuple[Any, bytes]:
        """The reply of a packed command, and the same as it came."""
        return self.commands.ask(packed)

    def take_published(self) -> list[tuple[bytes, bytes]]:
        """Channel and message of all that was published since the last call."""
        messages: list[tuple[bytes, bytes]] = []
        reply, _ = self.published.ask(pack_command(("PING",)))
        while reply[0] == b"pmessage":
            messages.append((reply[2], reply[3]))
            reply, _ = self.published.next()
        return messages

    def close(self) -> None:
        self.commands.close()
        self.published.close()


class Line:
    """One blocking connection."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(TIMEOUT_S)
        self.socket.connect(str(path))
        self.reader = hiredis.Reader()

    def ask(self, packed: bytes) -> tuple[Any, bytes]:
        self.socket.sendall(packed)
        return self.next()

    def next(self) -> tuple[Any, bytes]:
        """The next reply, and what was read for it."""
        raw = b""
        while (reply := self.reader.gets()) is False:
            data = self.socket.recv(READ_BYTES)
            if not data:
                raise ConnectionError("the simulation's store has ended; its log is in its folder")
            raw += data
            self.reader.feed(data)
        return reply, raw

    def close(self) -> None:
        self.socket.close()


class OwnServer:
    """A Valkey for the simulations of this process.

    with OwnServer() as server:
        outcome = simulate(7, server)
    """

    def __enter__(self) -> StoreServer:
        self.folder = tempfile.TemporaryDirectory(prefix="taskflow-simulation-")
        self.valkey = SimulationValkey(Path(self.folder.name)).start()
        self.server = StoreServer(self.valkey.socket_path)
        return self.server

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.close()
        self.valkey.stop()
        self.folder.cleanup()
