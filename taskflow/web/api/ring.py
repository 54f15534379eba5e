"""KeyRing: the keys that are valid, as this process knows them; and the guard that lets in who has one. Rule S14.4."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from taskflow.connections import Connections
from taskflow.errors import StoreUnavailable
from taskflow.values.ids import new_ulid
from taskflow.web.api.guard import CORS, Caller, Sender
from taskflow.web.catalogue.key import SHOWN_CHARS, Key, digest_of
from taskflow.web.catalogue.problems import Kind, Problem

logger = logging.getLogger("taskflow.web")

LOOK_EVERY_S = 2.0  # how long a key that was revoked or made may be taken for what it was
LOOK_AGAIN_S = 0.2  # how often unknown keys may have the keys read again
NOTE_EVERY_MS = 60_000
MAX_KEY_CHARS = 200


@dataclass(slots=True)
class KeyRing:
    """The keys of a deployment, read anew every 2 s while requests come. While the store is away, those that were known count."""

    link: Connections
    by_digest: dict[str, Key] | None = None
    used_ms: dict[str, int] = field(default_factory=dict)
    looked_s: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def find(self, text: str) -> Key:
        """The key. Raises Problem for one that is unknown, revoked or too old."""
        digest = digest_of(text[: MAX_KEY_CHARS + 1])
        # One that is not known may have been made a moment ago.
        key = (await self.keys(LOOK_EVERY_S)).get(digest) or (await self.keys(LOOK_AGAIN_S)).get(digest)
        place = f"in namespace {self.link.config.namespace!r}"
        if key is None:
            raise Problem(
                Kind.UNAUTHENTICATED,
                f"there is no key {place} that begins with {text[:SHOWN_CHARS]!r} and goes on so",
            )
        now_ms = self.link.clock.now_ms()
        if key.is_over(now_ms):
            raise Problem(
                Kind.UNAUTHENTICATED, f"the key {key.name!r} {place} was valid until {key.when_over()}"
            )
        await self.note_use(key, now_ms)
        return key

    async def keys(self, max_age_s: float) -> dict[str, Key]:
        """The keys by digest, as they were no longer ago than this."""
        now_s = asyncio.get_running_loop().time()
        if self.by_digest is None or now_s - self.looked_s >= max_age_s:
            async with self.lock:
                if self.by_digest is None or now_s - self.looked_s >= max_age_s:
                    await self.look(now_s)
        assert self.by_digest is not None
        return self.by_digest

    async def look(self, now_s: float) -> None:
        """Read the keys. Raises StoreUnavailable if none were ever read."""
        try:
            async with self.link.session().deadline() as store:
                records, used_ms = await store.clients.keys_of_clients()
        except StoreUnavailable:
            if self.by_digest is None:
                raise
        else:
            self.by_digest = {key.digest: key for key in map(Key.load, records)}
            self.used_ms = {name: max(at_ms, self.used_ms.get(name, 0)) for name, at_ms in used_ms.items()}
        self.looked_s = now_s

    async def note_use(self, key: Key, now_ms: int) -> None:
        """Note that the key was used, at most once a minute."""
        if now_ms - self.used_ms.get(key.name, 0) < NOTE_EVERY_MS:
            return
        self.used_ms[key.name] = now_ms
        try:
            async with self.link.session().deadline() as store:
                await store.clients.note_key_use(key.name, now_ms=now_ms)
        except StoreUnavailable as error:
            logger.info("the use of key %s is not noted: %s", key.name, error)

    async def spend(self, key: Key, events: int) -> None:
        """Take events from what the key may send. Raises Problem when that is too many now, or at any time."""
        rate = key.rate
        if rate is None:
            return
        if events > rate.limit:
            raise Problem(
                Kind.TOO_MANY,
                f"the key {key.name!r} may send {rate.limit:,} events at a time, got {events:,}",
            )
        now_ms = self.link.clock.now_ms()
        async with self.link.session().deadline() as store:
            wait_ms = await store.clients.spend_key_rate(
                key.name,
                new_ulid(now_ms),
                events=events,
                limit=rate.limit,
                period_ms=rate.period_ms,
                now_ms=now_ms,
            )
        if wait_ms:
            told = f"the key {key.name!r} may send {rate.limit:,} events in {rate.period_ms / 1000:g} s"
            raise Problem(Kind.TOO_MANY, told, retry_after_s=-(-wait_ms // 1000))


@dataclass(frozen=True, slots=True)
class ByKey:
    """Lets in who has a key: an API key as bearer, an event key in the address."""

    ring: KeyRing
    server_kind = "cloud"

    async def caller(self, headers: Mapping[str, str]) -> Caller:
        kind, _, text = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not text.strip():
            raise Problem(Kind.UNAUTHENTICATED, "expected the header Authorization: Bearer KEY")
        key = await self.ring.find(text.strip())
        return Caller(f"key {key.name}", key.scope)

    async def sender(self, headers: Mapping[str, str], key: str) -> Sender:
        if not key:
            raise Problem(Kind.UNAUTHENTICATED, "the event key is missing: post to /e/KEY")
        found = await self.ring.find(key)
        if found.scope is not None:
            raise Problem(Kind.FORBIDDEN, f"{found.name!r} is an API key; an address has an event key")
        return Sender(f"key {found.name}", found.allows, lambda events: self.ring.spend(found, events))

    def cors(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Pages of any site may send: an event key can do no more, and is made for that."""
        return {"access-control-allow-origin": "*", **CORS}
