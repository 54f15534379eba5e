"""Gives back the messages that a dead process had received over Redis Streams, before it counts as silent. Rule S9.3."""

from __future__ import annotations

import time
from collections.abc import Sequence

from taskflow.broker.streams.bindings import StreamKeys
from taskflow.broker.streams.scripts import GROUP, loading_commands, script_call
from taskflow.broker.urls import serves_streams
from taskflow.redis.address import parse_server_url
from taskflow.redis.blocking import RespClient, ServerLost


def release_messages(
    url: str, *, key_prefix: str, consumer_name: str, queues: Sequence[str], timeout_s: float
) -> int:
    """Put the messages that the dead consumers of this name hold back on their queues; return how many.

    0 at once for other brokers: AMQP servers do this themselves when a connection breaks. Blocks for at most `timeout_s`.
    Raises ServerLost or ServerRefused; then other consumers take the messages over some seconds later.
    """
    deadline = time.monotonic() + timeout_s
    error: ServerLost | None = None
    for address in url.split(";"):
        if not serves_streams(address):
            continue
        prefix = parse_server_url(address, what="broker").options.get("key_prefix", key_prefix)
        client = RespClient(
            address, timeout_s=timeout_s, scripts=loading_commands, forks=True, home_key=prefix
        )
        client.deadline = deadline
        keys = StreamKeys(prefix)
        streams = [keys.stream(queue) for queue in queues]
        try:
            client.connect()
            release = script_call(
                "release", streams, group=GROUP, named=f"{consumer_name}-", alive=keys.alive
            )
            return int(client.call(*release))
        except ServerLost as lost:
            error = lost
        finally:
            client.close()
    if error is not None:
        raise error
    return 0
