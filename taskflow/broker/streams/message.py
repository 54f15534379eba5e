"""Messages between streams and kombu: how they are written, delivered and kept until they are settled."""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import Any

import orjson
from kombu.message import Message
from kombu.utils.json import dumps as kombu_dumps
from kombu.utils.json import loads as kombu_loads

from taskflow.broker.streams.entry import Entry
from taskflow.broker.streams.sender import Outgoing


class StreamMessage(Message):
    """A message as users of kombu get it; `delivery_info["redelivered"]` is set as in AMQP."""

    def __init__(self, payload: Entry, channel: Any, delivery_tag: int) -> None:
        try:
            facts = decode_metadata(payload.metadata)
        except ValueError:
            facts = {}
            self.errors = [sys.exc_info()]  # kombu passes it to `on_decode_error`
        super().__init__(
            body=payload.body,
            delivery_tag=delivery_tag,
            content_type=facts.get("content-type"),
            content_encoding=facts.get("content-encoding"),
            delivery_info={
                "exchange": facts.get("exchange", ""),
                "routing_key": facts.get("routing_key", ""),
                "redelivered": payload.redelivered,
            },
            properties=facts.get("properties"),
            headers=facts.get("headers"),
            channel=channel,
        )


class Unacked:
    """The messages that a channel has delivered and that are not settled yet. kombu calls such an object a QoS."""

    def __init__(self) -> None:
        self.prefetch_count = 0
        self.entries: OrderedDict[int, Entry] = OrderedDict()

    def can_consume(self) -> bool:
        return not self.prefetch_count or len(self.entries) < self.prefetch_count

    def can_consume_max_estimate(self) -> int | None:
        """How many more messages may be delivered; None for any number."""
        return max(self.prefetch_count - len(self.entries), 0) if self.prefetch_count else None

    def pop(self, delivery_tag: int, *, multiple: bool = False) -> list[Entry]:
        """Remove and return the entries that an ack or reject names; unknown tags, and those settled before, are ignored."""
        if not multiple:
            entry = self.entries.pop(delivery_tag, None)
            return [] if entry is None else [entry]
        tags = [tag for tag in list(self.entries) if tag <= delivery_tag or not delivery_tag]
        return [entry for tag in tags if (entry := self.entries.pop(tag, None)) is not None]


def encode_message(
    message: dict[str, Any], exchange: str, routing_key: str, *, mandatory: bool = False
) -> Outgoing:
    """kombu's message in the form of the streams: the body as it is, everything else as JSON metadata."""
    facts = {
        "content-type": message["content-type"],
        "content-encoding": message["content-encoding"],
        "headers": message["headers"],
        "properties": message["properties"],
        "exchange": exchange,
        "routing_key": routing_key,
    }
    body = message["body"]
    encoded = body.encode() if isinstance(body, str) else bytes(body)
    try:
        metadata = orjson.dumps(
            facts, option=orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
        )
    except TypeError:  # dates, decimals and the like, which kombu's own JSON can restore
        metadata = kombu_dumps(facts).encode()
    return Outgoing(exchange, routing_key, metadata, encoded, mandatory)


def decode_metadata(metadata: bytes) -> dict[str, Any]:
    facts: dict[str, Any] = kombu_loads(metadata) if b'"__type__"' in metadata else orjson.loads(metadata)
    return facts
