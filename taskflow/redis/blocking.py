"""A blocking client of a Redis or Valkey server: one socket, pipelines, and a deadline on everything.

It is our own because each send of a producer goes over it: a message costs 11 us here, where one command in a pipeline of redis-py
costs 16 to 18 us (measured with an embedded Valkey on one machine). Also, redis-py has no deadline for a whole call, DNS and TLS
included, and no connection that survives a fork of its process.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import hiredis

from taskflow.redis.address import ServerAddress, parse_server_url
from taskflow.redis.topology import CHECK_EVERY_S, HOME_KEY, topology_of

Argument: TypeAlias = str | bytes | int | float
Command: TypeAlias = tuple[Argument, ...]

NO_REPLY = object()
TIMEOUT_STEP_S = 0.05
"""Limits of a socket operation are rounded down to these steps, so that they seldom change: each change is a system call."""


class ServerLost(ConnectionError):
    """The connection can't be used any more: it was refused, broke, was silent for too long, or its server isn't ready."""


class ServerNotReady(ServerLost):
    """This server can't serve now (a replica, or one that starts), or another takes over: try again in a moment."""


class ServerRefused(Exception):
    """The server answered a command with an error."""


class RespClient:
    """One connection. `call` and `pipeline` may come from any thread, `send` and `read` from one at a time.

    `timeout_s` bounds the connecting (with DNS and authentication) and each answer; past it ServerLost is raised. ServerLost also
    means that another server is the right one now: the next connection goes there. `home_key`: see `topology`. `forks`: the process
    forks at any time, so names are looked up without a thread, which may take longer than `timeout_s`.
    """

    def __init__(
        self,
        url: str,
        *,
        what: str = "broker",
        timeout_s: float = 5.0,
        scripts: Callable[[], Sequence[Command]] = list,
        home_key: str = HOME_KEY,
        forks: bool = False,
    ) -> None:
        self.server = parse_server_url(url, what=what)
        self._forks = forks
        self.topology = topology_of(self.server, home_key=home_key)
        self.timeout_s = timeout_s
        self.client_id = 0
        # On the monotonic clock; if set, it replaces `timeout_s`.
        self.deadline: float | None = None
        self._check_master_s = math.inf  # on the monotonic clock
        self._scripts = scripts
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._socket: socket.socket | None = None
        self._socket_timeout_s = 0.0  # as it was set last
        self._reader = hiredis.Reader(notEnoughData=NO_REPLY)

    @property
    def is_connected(self) -> bool:
        return self._socket is not None

    def fileno(self) -> int:
        return self._live_socket().fileno()

    def connect(self) -> None:
        """Connect, authenticate, select the database."""
        deadline = self._until()
        self._pid = os.getpid()
        self._reader = hiredis.Reader(notEnoughData=NO_REPLY)
        self._socket_timeout_s = 0.0
        try:
            self._socket = open_socket(
                self.topology.locate(deadline - time.monotonic()), deadline, in_thread=not self._forks
            )
        except OSError as error:
            kind = ServerNotReady if self.server.nodes else ServerLost
            raise kind(f"can't connect to {self.address}: {describe_os_error(error)}") from error
        try:
            replies = self.pipeline(self._handshake(), deadline=deadline)
        except BaseException:
            self.close()
            raise
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                self.close()
                raise ServerLost(f"{self.address} refused the connection: {reply}") from reply
        self.client_id = int(replies[-1])
        if self.topology.may_change_in_silence:
            self._check_master_s = time.monotonic() + CHECK_EVERY_S
        if probe := self.topology.probe:
            # Raises ServerLost when this is the wrong server.
            self.pipeline(probe, deadline=deadline)

    @property
    def address(self) -> str:
        server = self.server
        if server.path:
            return f"unix socket {server.path}"
        return str(server) if server.nodes else f"{server.host}:{server.port}"

    def call(self, *command: Argument) -> Any:
        """Send one command and return its reply. Raises ServerRefused for an error reply.

        When the server does not know a script, all scripts are loaded and the command is sent again. They are not loaded on
        connecting, since most connections call none, and another connection has usually loaded them already.
        """
        reply = self.pipeline([command])[0]
        if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
            self.load_scripts()
            reply = self.pipeline([command])[0]
        if isinstance(reply, hiredis.ReplyError):
            raise ServerRefused(str(reply)) from reply
        return reply

    def load_scripts(self) -> None:
        self.pipeline(self._scripts())

    def pipeline(self, commands: Sequence[Command], *, deadline: float | None = None) -> list[Any]:
        """Send all commands, then read as many replies. Error replies are returned as `hiredis.ReplyError` values."""
        return self.exchange(pack_all(commands), len(commands), deadline=deadline)

    def exchange(self, packed: bytes, count: int, *, deadline: float | None = None) -> list[Any]:
        """As `pipeline`, for `count` commands in the form in which they are sent."""
        # Before the lock: after a fork, a thread that exists only in the parent may hold it.
        if self._pid != os.getpid():
            self._live_socket()
        with self._lock:
            connection = self._socket or self._live_socket()
            until = deadline or self.deadline or time.monotonic() + self.timeout_s
            try:
                self._write(connection, packed, until)
                return self._read_all(connection, count, until)
            except BaseException:
                # Without this, after a Ctrl-C for example, the next reply would be taken for that of another command.
                self.close()
                raise

    def send(self, commands: Sequence[Command]) -> None:
        """Write the commands; don't wait for the replies."""
        self._write(self._live_socket(), pack_all(commands), self._until())

    def read(self, deadline: float) -> Any:
        """Return the next reply. Past `deadline` (monotonic clock) the connection is closed, and ServerLost raised."""
        return self._read_all(self._live_socket(), 1, deadline)[0]

    def try_read(self) -> Any:
        """Return the next reply if all of it has arrived, else NO_REPLY; never waits."""
        reply = self._next_reply()
        while reply is NO_REPLY and self.wait_readable(0):
            self._receive(self._live_socket(), self.timeout_s)
            reply = self._next_reply()
        return reply

    def wait_readable(self, timeout_s: float) -> bool:
        """Wait until there is something to read, or the connection has ended; return whether that came within `timeout_s`."""
        connection = self._live_socket()
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return True
        # Not select.select: that takes no descriptor above 1023.
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def close(self) -> None:
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()
        self.topology.close()

    def hang_up(self) -> None:
        """Close the connection for good, even if forked processes hold copies of the socket."""
        if self._socket is not None and self._pid == os.getpid():
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self.close()

    def _until(self) -> float:
        return time.monotonic() + self.timeout_s if self.deadline is None else self.deadline

    def _handshake(self) -> list[Command]:
        commands: list[Command] = list(self.server.greeting)
        commands.append(("CLIENT", "ID"))
        return commands

    def _live_socket(self) -> socket.socket:
        if self._pid != os.getpid():
            # The topology is made anew: a thread that exists only in the parent may hold the lock of the old one.
            self.topology = topology_of(self.server, home_key=self.topology.home_key)
            # Closes our copy of the socket; the parent's stays open.
            self.close()
            raise ServerLost(f"the connection to {self.address} was made before a fork; connect again")
        if self._socket is None:
            raise ServerLost(f"the connection to {self.address} is closed")
        return self._socket

    def _write(self, connection: socket.socket, packed: bytes, deadline: float) -> None:
        now_s = time.monotonic()
        if now_s >= self._check_master_s:
            self._check_master_s = now_s + CHECK_EVERY_S
            if not self.topology.is_current():
                self._lose(ConnectionError("it has another master now"), ServerNotReady)
        try:
            self._limit(connection, deadline - now_s)
            connection.sendall(packed)
        except OSError as error:
            self._lose(error)

    def _read_all(self, connection: socket.socket, count: int, deadline: float) -> list[Any]:
        replies: list[Any] = []
        gets = self._reader.gets
        while True:
            try:
                while (reply := gets()) is not NO_REPLY:
                    if isinstance(reply, hiredis.ReplyError):
                        self._heed(reply)
                    replies.append(reply)
                    if len(replies) == count:
                        return replies
            except hiredis.ProtocolError as error:
                self._lose(error)
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                self._lose(TimeoutError("no answer in time"))
            self._receive(connection, remaining_s)

    def _next_reply(self) -> Any:
        try:
            reply = self._reader.gets()
        except hiredis.ProtocolError as error:
            self._lose(error)
        if isinstance(reply, hiredis.ReplyError):
            self._heed(reply)
        return reply

    def _heed(self, refusal: hiredis.ReplyError) -> None:
        """Give the connection up if the refusal says that this server can't serve now."""
        if str(refusal).startswith(self.topology.refusals):
            self.topology.heed(str(refusal))
            self._lose(ConnectionError(str(refusal)), ServerNotReady)

    def _receive(self, connection: socket.socket, timeout_s: float) -> None:
        try:
            self._limit(connection, timeout_s)
            data = connection.recv(65536)
        except OSError as error:
            self._lose(error)
        if not data:
            self._lose(ConnectionError("the server closed the connection"))
        self._reader.feed(data)

    def _limit(self, connection: socket.socket, timeout_s: float) -> None:
        """Let the next operation on the socket take this long at most."""
        steps_s = timeout_s // TIMEOUT_STEP_S * TIMEOUT_STEP_S or max(timeout_s, 0.001)
        if steps_s != self._socket_timeout_s:
            connection.settimeout(steps_s)
            self._socket_timeout_s = steps_s

    def _lose(self, error: Exception, kind: type[ServerLost] = ServerLost) -> Any:
        """Close the connection and raise `kind`. After a missing reply the next one could be taken for it."""
        self.hang_up()
        raise kind(f"lost the connection to {self.address}: {describe_os_error(error)}") from error


def pack_all(commands: Sequence[Command]) -> bytes:
    """The commands in the form in which they are sent."""
    pack: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment]
    return pack(commands[0]) if len(commands) == 1 else b"".join(map(pack, commands))


def open_socket(server: ServerAddress, deadline: float, *, in_thread: bool) -> socket.socket:
    """Connect a TCP, TLS or unix socket before `deadline` (monotonic clock). `in_thread`: look names up in a thread."""
    if server.path:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        return connect_socket(connection, server.path, deadline)
    error: OSError = OSError(f"no address for {server.host}")
    find = resolve if in_thread else look_up
    for family, kind, protocol, _, address in find(server.host, server.port, deadline):
        try:
            connection = connect_socket(socket.socket(family, kind, protocol), address, deadline)
        except OSError as failure:
            error = failure
            continue
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection if server.tls is None else wrap_tls(connection, server.tls, server.host)
    raise error


def connect_socket(connection: socket.socket, address: Any, deadline: float) -> socket.socket:
    try:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def resolve(host: str, port: int, deadline: float) -> list[tuple[Any, ...]]:
    """`socket.getaddrinfo` with a deadline: a name server that is down costs 5 s and more."""
    try:
        return list(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST))
    except socket.gaierror:
        pass  # a name, not an address
    answer: list[list[tuple[Any, ...]] | OSError] = []

    def ask() -> None:
        try:
            answer.append(look_up(host, port, deadline))
        except OSError as error:
            answer.append(error)

    thread = threading.Thread(target=ask, name="taskflow-resolve", daemon=True)
    thread.start()
    thread.join(max(deadline - time.monotonic(), 0.001))
    if not answer:
        raise TimeoutError(f"the name {host} was not resolved in time")
    if isinstance(answer[0], OSError):
        raise answer[0]
    return answer[0]


def look_up(host: str, port: int, _: float) -> list[tuple[Any, ...]]:
    return list(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM))


def wrap_tls(connection: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    try:
        return context.wrap_socket(connection, server_hostname=host)
    except BaseException:
        connection.close()
        raise


def describe_os_error(error: Exception) -> str:
    """`ConnectionRefusedError: Connection refused`, without the errno."""
    text = getattr(error, "strerror", None) or str(error) or "no details"
    return f"{type(error).__name__}: {text}"
