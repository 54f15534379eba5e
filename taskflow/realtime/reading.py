"""Reading: the messages of a channel for one reader: those that are kept, and then those that come. Rules S17.1, S17.2."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from typing import NamedTuple

from taskflow.realtime.feeds import AT_ONCE, Feeds, Reader
from taskflow.store.messages import StoredMessage


class Batch(NamedTuple):
    """Messages that come together. With `is_after_gap`, others before them are no longer kept.

    The first batch has none: its `last` is the id of the message after which the reader begins.
    """

    messages: list[StoredMessage]
    is_after_gap: bool
    last: int


async def read_channel(
    feeds: Feeds,
    channel: str,
    topics: Collection[str],
    *,
    after: int | None = None,
    since_ms: int | None = None,
) -> AsyncGenerator[Batch]:
    """Yield the messages after the id `after`, or since `since_ms`, or from now on, each once and in order; it never ends.

    Raises StoreUnavailable, and ReaderTooSlow for a reader that lets 1,000 messages wait.
    """
    async with feeds.join(channel, topics, after=after) as (reader, joined_at):
        if after is not None and after > joined_at:
            after = reader.last = min(after, await last_id(feeds, channel))
        yield Batch([], False, joined_at if after is None and since_ms is None else after or 0)
        if after is not None or since_ms is not None:
            async for batch in kept(feeds, channel, reader, after or 0, joined_at, since_ms or 0):
                yield batch
        reader.last = max(reader.last, joined_at)
        while True:
            messages = await reader.take()
            has_gap, reader.has_gap = reader.has_gap, False
            yield Batch(messages, has_gap, messages[-1].id)


async def last_id(feeds: Feeds, channel: str) -> int:
    async with feeds.session().deadline() as store:
        return await store.messages.last_id(channel)


async def kept(
    feeds: Feeds, channel: str, reader: Reader, after: int, up_to: int, since_ms: int
) -> AsyncGenerator[Batch]:
    """The messages that are kept, those after `after` and up to `up_to`."""
    has_gap = False
    last = after
    while last < up_to:
        async with feeds.session().deadline() as store:
            messages = await store.messages.after(channel, last, up_to=up_to, limit=AT_ONCE)
        # Numbers have no holes: what is missing at the begin is no longer kept.
        has_gap = has_gap or (last > 0 and (not messages or messages[0].id != last + 1))
        if not messages:
            break
        last = messages[-1].id
        wanted = [each for each in messages if reader.wants(each) and each.at_ms >= since_ms]
        if wanted:
            yield Batch(wanted, has_gap, last)
            has_gap = False
    reader.has_gap = reader.has_gap or has_gap
