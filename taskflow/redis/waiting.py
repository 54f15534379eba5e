"""Commands that wait for their reply, and items of several callers that share one command."""

from __future__ import annotations

import asyncio
from typing import Protocol

import hiredis

from taskflow.redis.connection import Argument, CommandError, Reply, pack_command


class ReplyTo(Protocol):
    """The receiver of a reply. A future is one; it wakes its waiters in the next turn of the loop."""

    def done(self) -> bool:
        """Whether nobody wants the reply any more."""
        ...

    def set_result(self, reply: Reply, /) -> None: ...

    def set_exception(self, error: Exception, /) -> None: ...

    def exception(self) -> object:
        """Mark the error as seen, so that asyncio does not log it as never retrieved."""
        ...


class Waiting:
    """A command that has no reply yet."""

    __slots__ = ("packed", "future")

    def __init__(self, packed: bytes, future: ReplyTo) -> None:
        self.packed = packed
        self.future = future


class SendAlone(Protocol):
    """A function that sends one item in a command of its own."""

    def __call__(
        self, head: tuple[Argument, ...], item: tuple[Argument, ...], future: asyncio.Future[Reply], /
    ) -> None: ...


class Together:
    """The receiver for a command that carries items of several callers: it gives each caller's future its part of the reply.

    The command's reply is a list: what concerns all items, then one reply for each item. The first item gets what concerns all.
    """

    __slots__ = ("futures", "head", "items", "send_alone")

    def __init__(self, head: tuple[Argument, ...], send_alone: SendAlone) -> None:
        self.head = head
        self.send_alone = send_alone
        self.items: list[tuple[Argument, ...]] = []
        self.futures: list[asyncio.Future[Reply]] = []

    def pack(self) -> bytes:
        return pack_command((*self.head, *[part for item in self.items for part in item]))

    def apart(self) -> list[Waiting]:
        """Each item in a command of its own. An item that can't be packed (a text with a lone surrogate) gets the error."""
        packed = []
        for item, future in zip(self.items, self.futures, strict=True):
            alone = Together(self.head, self.send_alone)
            alone.items.append(item)
            alone.futures.append(future)
            try:
                packed.append(Waiting(alone.pack(), alone))
            except (ValueError, TypeError, hiredis.HiredisError) as error:
                if not future.done():
                    future.set_exception(error)
        return packed

    def done(self) -> bool:
        return False

    def set_result(self, reply: Reply) -> None:
        shared, *replies = reply
        for future, one in zip(self.futures, replies, strict=True):
            if not future.done():
                future.set_result((one, shared))
            shared = None

    def set_exception(self, error: BaseException) -> None:
        # One item may have caused the error, so each is sent alone.
        if len(self.items) > 1 and isinstance(error, CommandError):
            for item, future in zip(self.items, self.futures, strict=True):
                self.send_alone(self.head, item, future)
            return
        for future in self.futures:
            if not future.done():
                future.set_exception(error)

    def exception(self) -> None:
        """Mark all errors as seen."""
        for future in self.futures:
            future.exception()
