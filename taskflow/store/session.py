"""StoreSession: the store for code outside of workers (web, scripts, the CLI): one connection a loop, with deadlines.

A session ends with its loop, so code that makes a loop for each call (`asyncio.run`, async views under WSGI) leaves nothing behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress

from taskflow.codecs.codecs import NO_CODECS, Codecs
from taskflow.errors import StoreUnavailable
from taskflow.redis.client import describe
from taskflow.redis.connection import CommandError
from taskflow.redis.subscriber import Subscriber
from taskflow.store.store import Store

CALL_TIMEOUT_S = 5.0
RECHECK_S = 15.0  # a message that a reconnecting subscriber missed delays a waiter by at most this


class StoreSession:
    """The store for one event loop. It connects at the first use, and closes itself when the loop ends."""

    def __init__(self, url: str, namespace: str, codecs: Codecs = NO_CODECS) -> None:
        self.codecs = codecs
        self.url = url
        self.namespace = namespace
        self.lock = asyncio.Lock()
        self.opened: Store | None = None
        self.subscriber: Subscriber | None = None
        self.watch: AsyncGenerator[None, None] | None = None
        # Each event is set when a message for it comes, or when one may have been lost with the connection.
        self.listening: set[asyncio.Event] = set()

    async def store(self) -> Store:
        """The connected store. Raises StoreUnavailable."""
        if self.opened is None:
            async with self.lock:
                if self.opened is None:
                    self.opened = await Store.open(self.url, namespace=self.namespace, codecs=self.codecs)
                    await self.watch_loop()
        return self.opened

    async def watch_loop(self) -> None:
        """Have the loop close this session when it ends.

        A loop does not announce its end, but it closes the async generators that began on it and have not ended: `asyncio.run`,
        `Runner`, asgiref, pytest-asyncio and uvloop all call `shutdown_asyncgens` before they close their loop.
        """
        if self.watch is None:
            self.watch = self.until_loop_ends()
            await anext(self.watch)

    async def until_loop_ends(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.close_connections()

    @asynccontextmanager
    async def deadline(self) -> AsyncIterator[Store]:
        """The store, for calls within CALL_TIMEOUT_S. Raises StoreUnavailable past that, and when the server refuses a command."""
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                yield await self.store()
        except CommandError as refusal:
            raise StoreUnavailable(
                f"the store at {self.opened.client.where if self.opened else ''} refused a command: {refusal}"
            ) from refusal
        except TimeoutError as error:
            trouble = self.opened.client.trouble if self.opened is not None else None
            reason = "is it up, and not overloaded?" if trouble is None else describe(trouble)
            raise StoreUnavailable(
                f"the store gave no answer within {CALL_TIMEOUT_S:g} s: {reason}"
            ) from error

    async def run_fields(self, run_id: str, *names: str) -> list[bytes | None]:
        async with self.deadline() as store:
            return await store.history.fields(run_id, *names)

    async def wait_until_done(self, run_id: str, timeout_s: float | None) -> None:
        """Wait until the run is final, or unknown. Raises TimeoutError after `timeout_s`."""
        store = await self.store()
        async with asyncio.timeout(timeout_s), self.listen(store.keys.done_channel(run_id)) as done:
            while not await self.is_done(run_id):
                with suppress(TimeoutError):
                    async with asyncio.timeout(RECHECK_S):
                        await done.wait()
                done.clear()

    @asynccontextmanager
    async def listen(self, *channels: str) -> AsyncIterator[asyncio.Event]:
        """Gives an asyncio.Event that is set at each message of these channels, and when messages may have been lost.

        No message is missed that is sent inside the block.
        """
        subscriber = await self.connected_subscriber()
        told = asyncio.Event()

        def on_message(_: str) -> None:
            told.set()

        self.listening.add(told)
        try:
            for channel in channels:
                await subscriber.listen(channel, on_message)
            yield told
        finally:
            self.listening.discard(told)
            for channel in channels:
                subscriber.unlisten(channel, on_message)

    def look_again(self) -> None:
        for told in self.listening:
            told.set()

    async def is_done(self, run_id: str) -> bool:
        status, ended = await self.run_fields(run_id, "status", "ended")
        return ended is not None or status is None

    async def connected_subscriber(self) -> Subscriber:
        if self.subscriber is None:
            async with self.lock:
                if self.subscriber is None:
                    subscriber = Subscriber(self.url)
                    subscriber.client.on_reconnect = self.look_again
                    await subscriber.connect()
                    self.subscriber = subscriber
                    await self.watch_loop()
        return self.subscriber

    async def close(self) -> None:
        watch, self.watch = self.watch, None
        if watch is not None:
            await watch.aclose()
        await self.close_connections()

    async def close_connections(self) -> None:
        subscriber, self.subscriber = self.subscriber, None
        opened, self.opened = self.opened, None
        if subscriber is not None:
            await subscriber.close()
        if opened is not None:
            await opened.close()

    def abandon(self) -> None:
        """End the connections of a loop that was closed without `shutdown_asyncgens`, on which nothing can be awaited any more."""
        subscriber, self.subscriber = self.subscriber, None
        opened, self.opened = self.opened, None
        if subscriber is not None:
            subscriber.client.hang_up()
        if opened is not None:
            opened.client.hang_up()
