"""Where the messages of a deployment lie in a Redis."""

from __future__ import annotations

from taskflow.broker.streams.bindings import StreamKeys
from taskflow.broker.topology import Topology


def events_stream(namespace: str, app_id: str) -> str:
    """The key of the stream of the app's events."""
    topology = Topology(namespace)
    return StreamKeys(topology.key_prefix).stream(topology.events_queue(app_id).name)
