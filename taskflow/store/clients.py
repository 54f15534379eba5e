"""Clients: what the store keeps of those who use the web: keys, repeated requests, the audit list. Rules S14.2, S14.4."""

from __future__ import annotations

import asyncio

from taskflow.redis.client import StoreClient
from taskflow.redis.scripts import Scripts
from taskflow.store.fields import to_fields, to_numbers
from taskflow.store.keys import Keys

MAX_AUDIT = 10_000


class Clients:
    """The methods that the web process calls."""

    def __init__(self, client: StoreClient, scripts: Scripts, keys: Keys) -> None:
        self.client = client
        self.scripts = scripts
        self.keys = keys

    async def keep_request(self, key: str, fingerprint: str, *, uid: str) -> tuple[str, str]:
        """The uid and the fingerprint of the first request with this key, which is kept for an hour."""
        first_uid, first_fingerprint = await self.scripts.keep_request(
            key=key, fingerprint=fingerprint, uid=uid
        )
        return first_uid.decode(), first_fingerprint.decode()

    async def note_write(self, entry: bytes) -> None:
        """Add an entry (JSON) to the audit list; the newest 10,000 are kept."""
        await self.client.call("XADD", self.keys.audit, "MAXLEN", "~", MAX_AUDIT, "*", "e", entry)

    async def writes(self, *, limit: int, before: str | None = None) -> list[tuple[str, bytes]]:
        """The newest entries of the audit list as (id, JSON), newest first; after the entry `before`."""
        newest = "+" if before is None else f"({before}"
        rows = await self.client.call("XREVRANGE", self.keys.audit, newest, "-", "COUNT", limit)
        return [(entry_id.decode(), values[1]) for entry_id, values in rows]

    # --- keys ---

    async def keys_of_clients(self) -> tuple[list[bytes], dict[str, int]]:
        """The records (JSON) of all keys; and by name when (ms) each was used last, for those that were."""
        records, used = await asyncio.gather(
            self.client.call("HGETALL", self.keys.keys), self.client.call("HGETALL", self.keys.keys_used)
        )
        return list(to_fields(records).values()), to_numbers(used)

    async def create_key(self, name: str, record: bytes) -> bool:
        """Keep a key; False if there is another one of this name."""
        return bool(await self.scripts.create_key(name=name, record=record))

    async def revoke_key(self, name: str) -> bool:
        """Forget a key; False if there is none of this name."""
        return bool(await self.scripts.revoke_key(name=name))

    async def note_key_use(self, name: str, *, now_ms: int) -> None:
        """Note when a key was used."""
        await self.scripts.note_key_use(name=name, now_ms=now_ms)

    async def spend_key_rate(
        self, name: str, request: str, *, events: int, limit: int, period_ms: int, now_ms: int
    ) -> int:
        """Take events from the rate of a key for a request; 0, or how long (ms) to wait, and then nothing is taken."""
        return int(
            await self.scripts.spend_key_rate(
                name=name, request=request, now_ms=now_ms, events=events, limit=limit, period_ms=period_ms
            )
        )
