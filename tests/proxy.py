"""A TCP proxy that misbehaves on demand: it cuts connections by RST, or stalls, as a network does.

with Proxy(server.port) as proxy:
    url = proxy.url_of(server.url)   # the same URL, through the proxy
    proxy.cut()                      # every connection is reset; how many
    proxy.stall(); proxy.resume()    # connections stay open, and nothing gets through
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

RESET_ON_CLOSE = struct.pack(
    "ii", 1, 0
)  # linger for 0 s: what is unsent is thrown away, and the peer gets an RST
START_TIMEOUT_S = 5.0


class Proxy:
    """Forwards a loopback port of its own to `target_port`, on a thread of its own."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.accepted = 0  # connections so far
        self.forwarded_bytes = 0
        self._is_stalled = False
        self._sides: set[Side] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tests-proxy", daemon=True)

    @property
    def open_connections(self) -> int:
        """Those that reach the target."""
        return sum(side.is_client and side.peer is not None for side in tuple(self._sides))

    def url_of(self, url: str) -> str:
        """The URL with this proxy's port instead of the target's."""
        port = urlsplit(url).port
        assert port == self.target_port, f"{url} is not what this proxy leads to (port {self.target_port})"
        return url.replace(f":{port}", f":{self.port}", 1)

    def cut(self) -> int:
        """Reset all connections, both ways; returns how many there were. New ones are welcome at once."""
        return self._call(self._cut)

    def stall(self) -> None:
        """Let nothing through, not even of new connections, until `resume`."""
        self._call(lambda: self._set_stalled(True))

    def resume(self) -> None:
        self._call(lambda: self._set_stalled(False))

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._started.wait(START_TIMEOUT_S):
            raise AssertionError("the proxy did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._cut)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            self.port = listener.getsockname()[1]
            accepting = self._loop.create_task(self._accept(listener))
            self._loop.call_soon(self._started.set)
            self._loop.run_forever()
            self._loop.run_until_complete(self._end(accepting))
        self._loop.close()

    async def _accept(self, listener: socket.socket) -> None:
        # Not a server of asyncio: that leaks what it accepts in the moment of its close.
        while True:
            connection, _ = await self._loop.sock_accept(listener)
            await self._loop.connect_accepted_socket(lambda: Side(self, is_client=True), connection)

    async def _end(self, accepting: asyncio.Task[None]) -> None:
        accepting.cancel()
        await asyncio.wait([accepting])
        while self._sides or self._tasks:
            self._cut()
            for task in self._tasks:
                task.cancel()
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # what a cancelled task has closed is gone in the next turn

    def _call(self, action: Callable[[], T]) -> T:
        async def act() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(act(), self._loop).result(START_TIMEOUT_S)

    # On the loop's thread

    def _cut(self) -> int:
        sides = list(self._sides)
        for side in sides:
            side.reset()
        return sum(side.is_client for side in sides)

    def _set_stalled(self, is_stalled: bool) -> None:
        self._is_stalled = is_stalled
        for side in self._sides:
            side.follow_flow()

    @property
    def is_stalled(self) -> bool:
        return self._is_stalled

    def joined(self, side: Side) -> None:
        self._sides.add(side)
        if side.is_client:
            self.accepted += 1
            task = self._loop.create_task(self._lead_on(side))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def left(self, side: Side) -> None:
        self._sides.discard(side)

    async def _lead_on(self, client: Side) -> None:
        try:
            _, server = await self._loop.create_connection(
                lambda: Side(self, is_client=False), "127.0.0.1", self.target_port
            )
        except OSError:
            client.reset()
            return
        client.peer, server.peer = server, client
        client.follow_flow()
        server.follow_flow()


class Side(asyncio.Protocol):
    """One of the two sockets of a connection: what it receives goes out at its peer."""

    def __init__(self, proxy: Proxy, *, is_client: bool) -> None:
        self.proxy = proxy
        self.is_client = is_client
        self.peer: Side | None = None
        self.is_peer_full = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.pause_reading()  # until there is a peer
        self.proxy.joined(self)

    def data_received(self, data: bytes) -> None:
        assert self.peer is not None
        self.proxy.forwarded_bytes += len(data)
        if self.peer.transport is not None:
            self.peer.transport.write(data)

    def pause_writing(self) -> None:
        if self.peer is not None:
            self.peer.is_peer_full = True
            self.peer.follow_flow()

    def resume_writing(self) -> None:
        if self.peer is not None:
            self.peer.is_peer_full = False
            self.peer.follow_flow()

    def follow_flow(self) -> None:
        """Read when what is read may go on."""
        if self.transport is None or self.peer is None:
            return
        if self.peer.transport is None:  # it has gone while this side was not yet led on
            self.transport.close()
        elif self.proxy.is_stalled or self.is_peer_full:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def reset(self) -> None:
        if self.transport is None:
            return
        own_socket: socket.socket = self.transport.get_extra_info("socket")
        own_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self.proxy.left(self)
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.close()
