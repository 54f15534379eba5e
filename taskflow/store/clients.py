"""Clients: what the store keeps of those who use the web: their repeated requests, and the audit list. Rules S14.2, S14.4."""

from __future__ import annotations

from taskflow.redis.client import StoreClient
from taskflow.redis.scripts import Scripts
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
