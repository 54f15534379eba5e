"""BlobOwners: which runs have blobs, and which other runs need them, so that blobs are removed with their runs. Rule S12.4.

`blobs` is a sorted set of owners, by when (ms) to look whether the owner is gone. An owner stands there before its first blob is
written, so a process that dies in between leaves nothing that nobody finds. `blob_users:<owner>` are runs that refer to blobs of
another: one that invoked it, and reruns that took over its steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from taskflow.redis.client import StoreClient
from taskflow.store.keys import SEPARATOR, Keys


class BlobOwners:
    """Reads and changes the list of owners."""

    def __init__(self, client: StoreClient, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    async def note(self, owner: str, *, now_ms: int) -> None:
        """Note that a run is about to write a blob."""
        await self.client.call("ZADD", self.keys.blobs, "NX", now_ms, owner)

    async def note_users(self, owners: Iterable[str], user: str) -> None:
        """Note that a run needs blobs of others, as long as it is kept."""
        await asyncio.gather(
            *[self.client.call("SADD", self.keys.blob_users(owner), user) for owner in owners]
        )

    async def note_parent(self, run_id: str) -> None:
        """Note that the run that invoked this one, if any, needs its blobs: its result becomes the outcome of a step there."""
        parent = await self.client.call("HGET", self.keys.run(run_id), "parent")
        if parent is not None:
            await self.note_users([run_id], parent.decode().partition(SEPARATOR)[0])

    async def due(self, *, now_ms: int, limit: int) -> list[str]:
        """The owners at which to look, longest due first."""
        found = await self.client.call("ZRANGEBYSCORE", self.keys.blobs, "-inf", now_ms, "LIMIT", 0, limit)
        return [owner.decode() for owner in found]

    async def are_needed(self, owners: Sequence[str]) -> list[bool]:
        """Whether each of the owners, or a run that needs its blobs, is still kept."""
        users = await asyncio.gather(
            *[self.client.call("SMEMBERS", self.keys.blob_users(owner)) for owner in owners]
        )
        groups = [
            [owner, *(user.decode() for user in found)] for owner, found in zip(owners, users, strict=True)
        ]
        return [await each for each in [self.exist(group) for group in groups]]

    async def exist(self, run_ids: Sequence[str]) -> bool:
        return bool(await self.client.call("EXISTS", *(self.keys.run(run_id) for run_id in run_ids)))

    async def look_later(self, owners: Sequence[str], *, at_ms: int) -> None:
        """Look at these owners again then."""
        if owners:
            await self.client.call(
                "ZADD", self.keys.blobs, "XX", *(part for owner in owners for part in (at_ms, owner))
            )

    async def forget(self, owner: str) -> None:
        """Forget an owner that has no blobs any more."""
        await self.client.call("ZREM", self.keys.blobs, owner)
        await self.client.call("DEL", self.keys.blob_users(owner))
