"""WebhookRequests: the store's methods for requests to webhooks, which are kept for a time. Rule S14.7."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import orjson

from taskflow.redis.client import StoreClient
from taskflow.redis.scripts import Scripts
from taskflow.store.fields import number, text, to_fields
from taskflow.store.keys import SEPARATOR, Keys
from taskflow.values.record import record

KEPT_MS = 7 * 86_400_000
MOST_KEPT = 10_000
MOST_BYTES = 64 * 1024 * 1024
LISTED = ("webhook", "at", "url", "delivery", "outcome", "events", "error")


class DeliveryOutcome(StrEnum):
    """What came of a request."""

    RECEIVED = "received"  # it was stored, and nothing more is known: the process may have died
    SENT = "sent"
    IGNORED = "ignored"  # the function made no event of it
    FAILED = "failed"


@record(kw_only=True)
class StoredRequest:
    """A request to a webhook, "app/name", and what came of it. `size` is in bytes; in a list `body` is left out."""

    id: str
    webhook: str
    at_ms: int
    url: str
    headers: Mapping[str, str]
    query: Mapping[str, list[str]]
    body: bytes
    size: int
    delivery: str | None
    outcome: DeliveryOutcome = DeliveryOutcome.RECEIVED
    events: Sequence[str] = ()
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """What a list tells of it."""
        return {
            "id": self.id, "webhook": self.webhook, "at_ms": self.at_ms, "bytes": self.size, "delivery": self.delivery,
            "outcome": self.outcome.value, "events": list(self.events), "error": self.error,
        }  # fmt: skip


class KeptWebhooks:
    """Keeps requests to webhooks: 10,000 at most, 64 MiB at most, for 7 days; the oldest go first."""

    def __init__(self, client: StoreClient, scripts: Scripts, keys: Keys) -> None:
        self.client = client
        self.scripts = scripts
        self.keys = keys

    async def keep(self, request: StoredRequest) -> None:
        """Keep a request that has come."""
        headers, query = orjson.dumps(dict(request.headers)), orjson.dumps(dict(request.query))
        await self.scripts.keep_webhook(
            now_ms=request.at_ms,
            id=request.id,
            webhook=request.webhook,
            url=request.url,
            headers=headers,
            query=query,
            body=request.body,
            delivery=request.delivery or "",
            size=request.size,
            kept_ms=KEPT_MS,
            most=MOST_KEPT,
            most_bytes=MOST_BYTES,
        )

    async def settle(
        self, request_id: str, outcome: DeliveryOutcome, *, events: Sequence[str] = (), error: str = ""
    ) -> None:
        """Note what came of a request."""
        await self.scripts.settle_webhook(
            id=request_id, outcome=outcome.value, events=orjson.dumps(list(events)), error=error
        )

    async def find(self, request_id: str) -> StoredRequest | None:
        """A request with its body, or None if it is not kept any more."""
        fields = to_fields(await self.client.call("HGETALL", self.keys.webhook(request_id)))
        return request_of(request_id, len(fields["body"]), fields) if fields else None

    async def newest(self, *, limit: int, after: int = 0) -> list[StoredRequest]:
        """The newest requests without their bodies, newest first; after the first so many."""
        rows = await self.client.call("ZRANGE", self.keys.webhooks, after, after + limit - 1, "REV")
        members = [row.decode().partition(SEPARATOR) for row in rows]
        found = await asyncio.gather(
            *[self.client.call("HMGET", self.keys.webhook(each), *LISTED) for each, _, _ in members]
        )
        return [
            request_of(request_id, int(size), dict(zip(LISTED, map(bytes_of, values), strict=True)))
            for (request_id, _, size), values in zip(members, found, strict=True)
            if values[0] is not None
        ]


def bytes_of(value: bytes | None) -> bytes:
    return b"" if value is None else value


def request_of(request_id: str, size: int, fields: Mapping[str, bytes]) -> StoredRequest:
    return StoredRequest(
        id=request_id, webhook=text(fields, "webhook"), at_ms=number(fields, "at") or 0, url=text(fields, "url"),
        headers=orjson.loads(fields.get("headers") or b"{}"), query=orjson.loads(fields.get("query") or b"{}"),
        body=fields.get("body", b""), size=size, delivery=text(fields, "delivery") or None,
        outcome=DeliveryOutcome(text(fields, "outcome")), events=orjson.loads(fields.get("events") or b"[]"),
        error=text(fields, "error") or None,
    )  # fmt: skip
