"""Messages: what was published on a channel, kept for a while in a stream. Rule S17.1."""

from __future__ import annotations

from typing import NamedTuple

from taskflow.redis.client import StoreClient
from taskflow.redis.scripts import Scripts
from taskflow.store.keys import Keys

KEPT = 1_000
KEPT_MS = 3_600_000


class StoredMessage(NamedTuple):
    """A message as it is stored; `data` is JSON."""

    id: int
    topic: str
    data: bytes
    at_ms: int
    run_id: str


class Messages:
    """The methods of those who publish and of those who read."""

    def __init__(self, client: StoreClient, scripts: Scripts, keys: Keys) -> None:
        self.client = client
        self.scripts = scripts
        self.keys = keys

    async def publish(
        self, channel: str, topic: str, data: bytes, *, run_id: str, uid: str, known_ms: int, now_ms: int
    ) -> int:
        """Publish a message, once for its uid within `known_ms`; its id. The channel keeps 1,000, for an hour after the last."""
        published = await self.scripts.publish_message(
            channel=channel, topic=topic, data=data, run_id=run_id, uid=uid, known_ms=known_ms,
            keep=KEPT, keep_ms=KEPT_MS, now_ms=now_ms,
        )  # fmt: skip
        return int(published)

    async def last_id(self, channel: str) -> int:
        """The id of the last message; 0 if none is known."""
        return int(await self.client.call("GET", self.keys.channel_count(channel)) or 0)

    async def after(
        self, channel: str, last: int, *, up_to: int | None = None, limit: int
    ) -> list[StoredMessage]:
        """The oldest messages that are kept after the id `last`, up to `up_to`, if that is given; at most `limit`."""
        end = "+" if up_to is None else f"{up_to}-0"
        rows = await self.client.call("XRANGE", self.keys.channel(channel), f"({last}-0", end, "COUNT", limit)
        return [stored(entry_id, fields) for entry_id, fields in rows]


def stored(entry_id: bytes, fields: list[bytes]) -> StoredMessage:
    _, topic, _, data, _, at_ms, _, run_id = fields
    return StoredMessage(int(entry_id.split(b"-")[0]), topic.decode(), data, int(at_ms), run_id.decode())
