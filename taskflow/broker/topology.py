"""Names and bindings of the exchanges and queues.

send --> taskflow.events (fanout) --> taskflow.events.<app_id>            each app gets its copy (S1.6)
hint --> taskflow.work (direct)   --> taskflow.work.<app_id>.<queue>      routing key = name of the queue

In a namespace other than "tf" the names begin with `taskflow-<namespace>` instead of `taskflow`, so that deployments that share a
broker never meet. In a Redis or Valkey all keys of the broker begin with `<namespace>:{b}:`; those of the store stand beside them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field

from taskflow.broker.streams.bindings import BoundQueue
from taskflow.values.record import record

DEFAULT_NAMESPACE = "tf"


@record
class Topology:
    """The exchanges and queues of one namespace; all are durable."""

    namespace: str = DEFAULT_NAMESPACE
    events_exchange: str = field(init=False)  # fanout: every app that ever listened gets a copy of each event
    work_exchange: str = field(init=False)  # direct
    key_prefix: str = field(init=False)  # of all keys of the broker in a Redis or Valkey

    def __post_init__(self) -> None:
        start = "taskflow" if self.namespace == DEFAULT_NAMESPACE else f"taskflow-{self.namespace}"
        object.__setattr__(self, "events_exchange", f"{start}.events")
        object.__setattr__(self, "work_exchange", f"{start}.work")
        object.__setattr__(self, "key_prefix", f"{self.namespace}:{{b}}:")

    def events_queue(self, app_id: str) -> BoundQueue:
        """The queue with the app's copy of all events; the app's workers compete for its messages."""
        return BoundQueue(f"{self.events_exchange}.{app_id}", self.events_exchange, "fanout")

    def queues(self, app_id: str, queues: Iterable[str]) -> list[BoundQueue]:
        """The broker queues that a worker consumes which serves these queues of the app."""
        return [self.events_queue(app_id), *[self.work_queue(app_id, queue) for queue in queues]]

    def work_queue(self, app_id: str, queue: str) -> BoundQueue:
        """The queue of the work messages that say: `queue` of the app has ready runs."""
        name = f"{self.work_exchange}.{app_id}.{queue}"
        return BoundQueue(name, self.work_exchange, "direct", name)
