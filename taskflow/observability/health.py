"""HealthServer: answers the probes of a container platform over HTTP, and Prometheus at `/metrics`. Rules S13.1, S13.3.

It is one thread with one poll, so that an answer waits neither for the store nor for user code. What it reads is bounded: a client
that is slow, that sends much, or that has many connections harms no other one.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from taskflow.errors import ConfigError
from taskflow.observability.metrics import CONTENT_TYPE, Tally, exposition
from taskflow.values.record import record

MAX_CONNECTIONS = 64  # one more, and the oldest is closed
MAX_HEAD_BYTES = 8_192
PATIENCE_S = 5.0  # for a request to come whole, and its answer to go
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
           431: "Request Header Fields Too Large", 500: "Internal Server Error", 503: "Service Unavailable"}  # fmt: skip

logger = logging.getLogger("taskflow.health")


@record
class Finding:
    """The answer to a probe: `ok`, or `why` not; and `facts` for people, which become fields of the JSON."""

    why: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.why


@record(kw_only=True)
class Probes:
    """What can be asked. All is answered from memory, at once, on the server's thread."""

    live: Callable[[], Finding]  # it makes progress; a restart would help if not. Depends on no server
    ready: Callable[[], Finding]  # it does its work now
    started: Callable[[], Finding]  # it has been ready once
    metrics: Callable[[], Tally]

    def find(self, path: str) -> Callable[[], Finding] | None:
        return {"/livez": self.live, "/readyz": self.ready, "/startupz": self.started}.get(path)


@dataclass(slots=True, eq=False)
class Connection:
    """A client: what it has sent of its request, and what is left to send of the answer."""

    socket: socket.socket
    until_s: float  # time.monotonic()
    received: bytearray = field(default_factory=bytearray)
    unsent: memoryview | None = None


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises ConfigError."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        # Not `strerror`, to which the library adds the address once more.
        is_of_system = error.errno in errno.errorcode
        reason = os.strerror(error.errno or 0) if is_of_system else error.strerror or str(error)
        raise ConfigError(
            f"nothing can listen for probes on port {port} of {host}: {reason}. "
            "Choose another --health-port or --health-host, or end what listens there."
        ) from None
    listener.setblocking(False)
    return listener


class HealthServer:
    """Answers `probes` on `listener`, until the process ends or `stop` is called."""

    def __init__(self, listener: socket.socket, probes: Probes) -> None:
        self.listener = listener
        self.probes = probes
        self.connections: dict[int, Connection] = {}  # by file descriptor, the oldest first
        self.at_work = threading.Lock()  # held except in poll()
        self.is_stopping = False

    def start(self) -> None:
        host, port = self.listener.getsockname()[:2]
        logger.info("answering probes on port %d of %s", port, host)
        threading.Thread(target=self.serve, name="taskflow-health", daemon=True).start()

    def stay_out_of_forks(self) -> None:
        """From now on, a fork of this process waits until the thread rests, and the new process has none of the sockets.

        So nothing that the thread holds, a lock or half an answer, is ever copied.
        """
        # Python 3.12 and later warn of any fork beside a thread. That of user code's own forks stays.
        warnings.filterwarnings(
            "ignore", "This process .* is multi-threaded", DeprecationWarning, r"taskflow\."
        )
        os.register_at_fork(
            before=self.at_work.acquire,
            after_in_parent=self.at_work.release,
            after_in_child=self.leave_to_the_parent,
        )

    def leave_to_the_parent(self) -> None:
        self.listener.close()
        for connection in self.connections.values():
            connection.socket.close()
        self.connections.clear()
        self.at_work.release()  # or the next fork, of the new process, would wait for ever

    def serve(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are for the main thread
        while not self.is_stopping:
            poller = select.poll()
            poller.register(self.listener, select.POLLIN)
            for connection in self.connections.values():
                is_answered = connection.unsent is not None
                poller.register(connection.socket, select.POLLOUT if is_answered else select.POLLIN)
            found = poller.poll(PATIENCE_S * 1000 if self.connections else None)
            with self.at_work:
                for fd, _ in found:
                    if fd == self.listener.fileno():
                        self.accept()
                    elif fd in self.connections:
                        self.serve_connection(self.connections[fd])
                now_s = time.monotonic()
                for connection in [each for each in self.connections.values() if each.until_s <= now_s]:
                    self.close(connection)

        for connection in [*self.connections.values()]:
            self.close(connection)
        self.listener.close()

    def stop(self) -> None:
        """Have the thread close all and end."""
        self.is_stopping = True
        with contextlib.suppress(OSError), socket.socket(self.listener.family) as waker:
            waker.connect(self.listener.getsockname())

    def accept(self) -> None:
        try:
            accepted, _ = self.listener.accept()
        except OSError:  # the client has gone, or this process has no file descriptor left
            self.close_oldest()
            return
        accepted.setblocking(False)
        if len(self.connections) >= MAX_CONNECTIONS:
            self.close_oldest()
        self.connections[accepted.fileno()] = Connection(accepted, time.monotonic() + PATIENCE_S)

    def close_oldest(self) -> None:
        for connection in self.connections.values():
            self.close(connection)
            return

    def close(self, connection: Connection) -> None:
        del self.connections[connection.socket.fileno()]
        with contextlib.suppress(OSError):
            connection.socket.shutdown(socket.SHUT_RDWR)
        connection.socket.close()

    def serve_connection(self, connection: Connection) -> None:
        try:
            if connection.unsent is None:
                data = connection.socket.recv(MAX_HEAD_BYTES)
                connection.received += data
                if not data:
                    self.close(connection)
                    return
                answer = self.answer_to(connection.received)
                if answer is None:
                    return
                connection.unsent = memoryview(answer)
            connection.unsent = connection.unsent[connection.socket.send(connection.unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self.close(connection)
            return
        if not connection.unsent:
            self.close(connection)

    def answer_to(self, received: bytes | bytearray) -> bytes | None:
        """The whole response; None while the request is not whole."""
        if len(received) > MAX_HEAD_BYTES:
            return response(431, Finding(f"a request has at most {MAX_HEAD_BYTES:,} bytes"))
        if b"\r\n\r\n" not in received:
            return None
        words = received[: received.index(b"\r\n")].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return response(400, Finding("expected a request of HTTP/1.1"))
        method, target, _ = words
        path = target.partition("?")[0]
        probe = self.probes.find(path)
        if probe is None and path != "/metrics":
            return response(404, Finding("there are /livez, /readyz, /startupz and /metrics"))
        if method not in ("GET", "HEAD"):
            return response(405, Finding("the method is GET or HEAD"), "Allow: GET, HEAD\r\n")
        try:
            if probe is None:
                text = exposition(self.probes.metrics())
                return whole(200, text.encode(), CONTENT_TYPE, has_body=method == "GET")
            finding = probe()
        except Exception as error:
            logger.exception("%s could not be answered", path)
            return response(500, Finding(f"the probe could not be answered: {type(error).__name__}"))
        return response(200 if finding.ok else 503, finding, has_body=method == "GET")


def response(status: int, finding: Finding, headers: str = "", *, has_body: bool = True) -> bytes:
    told = {"ok": finding.ok, "why": finding.why, **finding.facts}
    body = orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)
    return whole(status, body, "application/json", headers, has_body=has_body)


def whole(status: int, body: bytes, content_type: str, headers: str = "", *, has_body: bool) -> bytes:
    """A whole response."""
    head = (
        f"HTTP/1.1 {status} {REASONS[status]}\r\n{headers}Content-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (body if has_body else b"")
