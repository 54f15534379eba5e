"""Gives back what a dead process had received over Redis Streams, without waiting until its silence tells. Rule S9.3."""

from __future__ import annotations

import time
from collections.abc import Sequence

from taskflow.broker.streams.bindings import StreamKeys
from taskflow.broker.streams.scripts import GROUP, RELEASE, RELEASE_SHA
from taskflow.broker.urls import STREAMS_SCHEMES
from taskflow.redis.blocking import RespClient, ServerLost


def release_messages(url: str, *, consumer_name: str, queues: Sequence[str], timeout_s: float) -> int:
    """Put what the dead consumers of that name hold back on their queues; returns how many messages, at once 0 for other brokers.

    AMQP servers do the same by themselves when a connection breaks. Blocks, for at most `timeout_s`.
    Raises ServerLost or ServerRefused; then other consumers take the messages over, some seconds later.
    """
    deadline = time.monotonic() + timeout_s
    error: ServerLost | None = None
    for address in url.split(";"):
        scheme, _, rest = address.removeprefix("taskflow+").partition("://")
        known = STREAMS_SCHEMES.get(scheme.lower())
        if known is None:
            continue
        client = RespClient(f"{known}://{rest}", timeout_s=timeout_s, scripts=(RELEASE,))
        client.deadline = deadline
        keys = StreamKeys(client.server.options.get("key_prefix", "tfb:"))
        streams = [keys.stream(queue) for queue in queues]
        try:
            client.connect()
            moved = client.run_script(
                RELEASE_SHA, len(streams), *streams, GROUP, f"{consumer_name}-", keys.alive
            )
            return int(moved)
        except ServerLost as lost:
            error = lost
        finally:
            client.close()
    if error is not None:
        raise error
    return 0
