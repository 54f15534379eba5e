"""Sends events of an app with middleware: through that, as messages, to the broker. Rules S1.2, S11.4.

An app without it encodes and publishes by itself (`TaskFlow.send`), for which it needs no `Event`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from taskflow.event import Event, encode_events
from taskflow.middleware.hooks import Hook

if TYPE_CHECKING:
    from taskflow.connections import Connections


def send_through_hooks(link: Connections, hooks: Sequence[Hook], events: Sequence[Event]) -> list[str]:
    """Send events, and block until the broker has them; return their ids. An `async def` hook runs on the app's own loop."""
    if any(hook.is_async for hook in hooks):
        return link.block_on(lambda: asend_through_hooks(link, hooks, events))

    def publish(events: Sequence[Event]) -> list[str]:
        ids, messages = encode(link, events)
        link.publisher.publish_events(messages)
        return ids

    # Only apps with middleware need it.
    from taskflow.middleware.sending import send_through

    return send_through(hooks, events, publish)


async def asend_through_hooks(link: Connections, hooks: Sequence[Hook], events: Sequence[Event]) -> list[str]:
    """As `send_through_hooks`, without blocking the loop; a `def` hook runs in a thread."""

    async def publish(events: Sequence[Event]) -> list[str]:
        ids, messages = encode(link, events)
        await link.async_publisher.publish_events(messages)
        return ids

    from taskflow.middleware.sending import asend_through

    return await asend_through(hooks, events, publish)


def encode(link: Connections, events: Sequence[Event]) -> tuple[list[str], list[bytes]]:
    return encode_events(
        events, now_ms=link.clock.now_ms(), max_bytes=link.config.max_event_bytes, codecs=link.codecs
    )
