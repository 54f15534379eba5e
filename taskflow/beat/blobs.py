"""BlobSweep: removes the blobs of runs that are gone. Rules S10.1, S12.4."""

from __future__ import annotations

import asyncio
import logging

from taskflow.codecs.blobs import Blobs
from taskflow.codecs.codecs import BlobPlace
from taskflow.errors import BlobUnavailable
from taskflow.store.store import Store

logger = logging.getLogger("taskflow.beat")

PAUSE_MS = 10_000  # between two looks
AGAIN_MS = 300_000  # until the next look at a run that is kept
REMOVE_S = 2.0  # how long the other duties of beat wait for the object store
BATCH = 200  # owners in one look


class BlobSweep:
    """Looks at the runs that have blobs, a batch at a time, each every five minutes, and removes the blobs of those that are gone.

    A run is forgotten after its blobs are removed: whichever process dies in between, the next look removes what is left.
    """

    def __init__(self, store: Store, place: BlobPlace) -> None:
        """Raises ConfigError for a place that can't be used."""
        self.store = store
        self.blobs = Blobs(place.url, place.namespace)
        self.next_ms = 0
        self.is_away = False

    async def run_once(self, now_ms: int) -> int:
        """Look if it is time; return when (ms) to look again."""
        if now_ms < self.next_ms:
            return self.next_ms
        self.next_ms = now_ms + PAUSE_MS
        owners = await self.store.blob_owners.due(now_ms=now_ms, limit=BATCH)
        if not owners:
            return self.next_ms
        needed = await self.store.blob_owners.are_needed(owners)
        kept = [owner for owner, is_needed in zip(owners, needed, strict=True) if is_needed]
        await self.store.blob_owners.look_later(kept, at_ms=now_ms + AGAIN_MS)
        await self.remove([owner for owner in owners if owner not in kept], now_ms)
        if len(owners) == BATCH and not self.is_away:
            self.next_ms = now_ms
        return self.next_ms

    async def remove(self, owners: list[str], now_ms: int) -> None:
        if not owners:
            return
        removed = 0
        try:
            async with asyncio.timeout(REMOVE_S):
                for owner in owners:
                    await self.blobs.remove(owner)
                    await self.store.blob_owners.forget(owner)
                    removed += 1
        except (BlobUnavailable, TimeoutError) as error:
            if removed:
                return  # the object store is slow: the next look goes on
            if not self.is_away:
                logger.warning(
                    "blobs of removed runs stay for now: %s", error or "the object store is silent"
                )
            self.is_away = True
            await self.store.blob_owners.look_later(owners, at_ms=now_ms + AGAIN_MS)
        else:
            self.is_away = False
