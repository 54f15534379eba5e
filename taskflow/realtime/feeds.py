"""Feeds: reads channels, each once for all its readers on this loop. Rule S17.1.

The store tells of a new message by pub/sub; the message itself is read from the stream. So a lost connection loses nothing, what
comes while a read is under way is read at once after it, and a thousand readers of a channel cost the store one read.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import Context

from taskflow.errors import ReaderTooSlow, StoreUnavailable, TaskFlowError
from taskflow.store.messages import StoredMessage
from taskflow.store.session import StoreSession

logger = logging.getLogger("taskflow.realtime")

AT_ONCE = 200  # messages of one read
MAX_BEHIND = 1_000  # messages that wait for a reader; who is further behind is dropped
MAX_BYTES_BEHIND = 8 << 20
LOOK_EVERY_S = (
    15.0  # how often a channel is read though nobody told of a message: one may have been lost in a failover
)
PAUSE_S = 1.0  # between reads while the store is away


class Reader:
    """What one reader has not taken yet. An empty collection of topics stands for all."""

    __slots__ = ("behind_bytes", "came", "has_gap", "last", "problem", "topics", "waiting")

    def __init__(self, topics: Collection[str], last: int) -> None:
        self.topics = frozenset(topics)
        # The id of the last message that it has, or does not want.
        self.last = last
        self.waiting: deque[StoredMessage] = deque()
        self.behind_bytes = 0
        self.has_gap = False
        self.came = asyncio.Event()
        self.problem: TaskFlowError | None = None

    def wants(self, message: StoredMessage) -> bool:
        return message.id > self.last and (not self.topics or message.topic in self.topics)

    def put(self, messages: Sequence[StoredMessage], *, has_gap: bool) -> None:
        """Hand over new messages. Who is too far behind is dropped: what waits for it would grow for ever."""
        self.has_gap = self.has_gap or has_gap
        for message in messages:
            if self.wants(message):
                self.waiting.append(message)
                self.behind_bytes += len(message.data)
        if len(self.waiting) > MAX_BEHIND or self.behind_bytes > MAX_BYTES_BEHIND:
            self.drop(
                ReaderTooSlow(
                    f"the reader is more than {len(self.waiting) - 1:,} messages behind; begin again after the last that it has"
                )
            )
        elif self.waiting:
            self.came.set()

    def drop(self, problem: TaskFlowError) -> None:
        """End it: what it has not taken is let go."""
        self.problem = self.problem or problem
        self.waiting.clear()
        self.behind_bytes = 0
        self.came.set()

    async def take(self) -> list[StoredMessage]:
        """All that waits, once there is something. Raises ReaderTooSlow, StoreUnavailable."""
        await self.came.wait()
        self.came.clear()
        if self.problem is not None:
            self.came.set()
            raise self.problem
        taken = list(self.waiting)
        self.waiting.clear()
        self.behind_bytes = 0
        return taken


class Feed:
    """Reads one channel and hands its messages to the readers. `last` is the id of the last one that it has handed out."""

    def __init__(self, session: StoreSession, channel: str) -> None:
        self.session = session
        self.channel = channel
        self.readers: set[Reader] = set()
        self.joining = 0
        self.last = 0
        self.began: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Without the context of who came first: that may be a run, which this outlives.
        self.task = asyncio.get_running_loop().create_task(self.run(), context=Context())

    async def run(self) -> None:
        try:
            async with self.session.deadline() as store:
                channel = store.keys.channel(self.channel)
            async with self.session.listen(channel) as told:
                async with self.session.deadline() as store:
                    self.last = await store.messages.last_id(self.channel)
                self.began.set_result(None)
                while True:
                    told.clear()
                    if await self.read_on():
                        continue
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_EVERY_S):
                            await told.wait()
        except TaskFlowError as error:
            self.end(error)
        except asyncio.CancelledError:
            self.end(StoreUnavailable("the connection to the store was closed"))
            raise

    async def read_on(self) -> bool:
        """Read what is new, and hand it out; whether there may be more."""
        try:
            async with self.session.deadline() as store:
                messages = await store.messages.after(self.channel, self.last, limit=AT_ONCE)
        except StoreUnavailable as error:
            logger.info("the messages of %s are read later: %s", self.channel, error)
            await asyncio.sleep(PAUSE_S)
            return True
        if not messages:
            return False
        has_gap = self.last > 0 and messages[0].id != self.last + 1
        self.last = messages[-1].id
        for reader in tuple(self.readers):
            reader.put(messages, has_gap=has_gap)
        return len(messages) == AT_ONCE

    def end(self, problem: TaskFlowError) -> None:
        if not self.began.done():
            self.began.set_exception(problem)
            # Whoever joins just now may not come to see it.
            self.began.exception()
        for reader in tuple(self.readers):
            reader.drop(problem)


class Feeds:
    """The feeds of one loop, by the names of their channels."""

    def __init__(self, session: Callable[[], StoreSession]) -> None:
        self.session = session
        self.feeds: dict[str, Feed] = {}

    @asynccontextmanager
    async def join(
        self, channel: str, topics: Collection[str], *, after: int | None
    ) -> AsyncGenerator[tuple[Reader, int]]:
        """A reader of what is handed out from now on, and the id of the last message before that.

        Raises StoreUnavailable.
        """
        feed = self.feeds.get(channel)
        if feed is None or feed.task.done():
            feed = self.feeds[channel] = Feed(self.session(), channel)
        reader = Reader(topics, after or 0)
        feed.joining += 1
        try:
            await asyncio.shield(feed.began)
            feed.readers.add(reader)
            yield reader, feed.last
        finally:
            feed.joining -= 1
            feed.readers.discard(reader)
            if not feed.joining:
                if self.feeds.get(channel) is feed:
                    del self.feeds[channel]
                await self.stop(feed)

    async def stop(self, feed: Feed) -> None:
        feed.task.cancel()
        await asyncio.wait([feed.task])

    async def close(self) -> None:
        """End all of them; their readers get StoreUnavailable."""
        feeds, self.feeds = list(self.feeds.values()), {}
        for feed in feeds:
            await self.stop(feed)
