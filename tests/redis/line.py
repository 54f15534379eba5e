"""A TCP line to a server, for tests that listen in on it and cut it."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from tests.proxy import RESET_ON_CLOSE
from tests.servers import RespServer


class Line:
    """A TCP line to a server that a test listens in on and cuts.

    It counts the reads, so that what the client sends in one write is seen as one. With `holds_replies`, requests still
    reach the server, but nothing comes back.
    """

    def __init__(self, server: RespServer) -> None:
        self.server = server
        self.chunks: list[bytes] = []  # what the client sent, as it came
        self.connections = 0
        self.holds_replies = False
        self.breaks: list[
            list[bytes]
        ] = []  # of each next connection: the answers that it gets before it is reset
        self.writers: set[asyncio.StreamWriter] = set()
        self.tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """Its URL."""
        self.listener = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.port: int = self.listener.sockets[0].getsockname()[1]
        return f"redis://127.0.0.1:{self.port}/0"

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        this = asyncio.current_task()
        assert this is not None
        self.tasks.add(this)
        if self.breaks:
            return await self.answer_and_reset(reader, writer, self.breaks.pop(0))
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        self.writers |= {writer, to_writer}
        replies = asyncio.create_task(self.carry_replies(to_reader, writer))
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 20):
                self.chunks.append(data)
                to_writer.write(data)
        for each in (writer, to_writer):
            each.transport.abort()
        await replies

    async def answer_and_reset(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: list[bytes]
    ) -> None:
        for answer in answers:
            await reader.read(1 << 20)
            writer.write(answer)
        own_socket: socket.socket = writer.get_extra_info("socket")
        own_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        writer.close()

    async def carry_replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 20):
                if not self.holds_replies:
                    writer.write(data)

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    async def stop(self) -> None:
        self.listener.close()
        self.cut()
        await asyncio.gather(*self.tasks)
        await self.listener.wait_closed()
