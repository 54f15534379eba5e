"""One socket to the server: bytes in, replies out. `client` does the retries."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import hiredis

from taskflow.redis.address import ServerAddress

CONNECT_TIMEOUT_S = 3.0
CLIENT_ID = ("CLIENT", "ID")

Argument = str | bytes | int | float
Reply = Any


def pack_command(command: tuple[Argument, ...]) -> bytes:
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # the stub lacks memoryview[Any]
    return packed


class CommandError(Exception):
    """The store refused a command; the text is the store's."""

    def __str__(self) -> str:
        text = super().__str__()
        # The URL names one server, but that server belongs to a cluster.
        is_moved = text.startswith("MOVED ")
        return (
            f"{text}. The server belongs to a cluster: write redis+cluster://host:port/0"
            if is_moved
            else text
        )


class Connection(asyncio.Protocol):
    """The protocol of one connection: parses replies and passes them on. `client_id` is the server's number for it (CLIENT ID)."""

    def __init__(self, on_reply: Callable[[Reply], None], on_lost: Callable[[Connection], None]) -> None:
        self.reader = hiredis.Reader()
        self.on_reply = on_reply
        self.on_lost = on_lost
        self.transport: asyncio.Transport | None = None
        self.client_id = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        gets, on_reply = self.reader.gets, self.on_reply
        while (reply := gets()) is not False:
            on_reply(reply)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self.on_lost(self)


async def open_connection(
    address: ServerAddress,
    commands_to_begin: Callable[[], Sequence[tuple[Argument, ...]]],
    probe: Sequence[tuple[Argument, ...]] = (),
) -> Connection:
    """Connect, log in, check that the server answers the `probe` without error, and send `commands_to_begin`.

    The caller has to set `on_reply` and `on_lost` at once. Raises OSError, TimeoutError, CommandError.
    """
    replies: deque[asyncio.Future[Reply]] = deque()

    def greeted(reply: Reply) -> None:
        # The future is done already when the reply comes in the very turn in which the time is up.
        if replies and not (future := replies.popleft()).done():
            future.set_result(reply)

    def broken(_: Connection) -> None:
        for future in replies:
            if not future.done():
                future.set_exception(lost_at_once())

    async def ask(commands: Sequence[tuple[Argument, ...]]) -> list[Reply]:
        futures = [loop.create_future() for _ in commands]
        replies.extend(futures)
        if connection.transport is None:
            raise lost_at_once()
        connection.transport.write(b"".join([pack_command(command) for command in commands]))
        return await asyncio.gather(*futures)

    async def get_in() -> None:
        # Short commands first: a server that wants another password closes the connection of a client that sends long scripts,
        # without saying why.
        opening = [*address.greeting, CLIENT_ID]
        answers = await ask([*opening, *probe])
        refuse_errors(answers[: len(opening)])
        connection.client_id = answers[len(opening) - 1]
        # NOPERM says what this user may not do, not what the server can't do.
        refuse_errors(answer for answer in answers[len(opening) :] if not str(answer).startswith("NOPERM"))
        refuse_errors(await ask(commands_to_begin()))

    loop = asyncio.get_running_loop()
    connection = Connection(greeted, broken)
    if address.path:
        await loop.create_unix_connection(lambda: connection, address.path)
    else:
        await loop.create_connection(lambda: connection, address.host, address.port, ssl=address.tls)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await get_in()
        # The connection may have broken between the last reply and this turn; from here on `on_lost` is called for that.
        if connection.transport is None:
            raise lost_at_once()
    except BaseException:
        if connection.transport:
            connection.transport.abort()
        raise
    return connection


def refuse_errors(answers: Iterable[Reply]) -> None:
    for answer in answers:
        if isinstance(answer, hiredis.ReplyError):
            raise CommandError(str(answer))


def lost_at_once() -> ConnectionError:
    return ConnectionResetError("the connection was lost while it was made")
