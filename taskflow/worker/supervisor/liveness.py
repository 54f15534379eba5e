"""Heartbeats for the children, and hand-back of the runs and messages that a dead child held. Rules S9.3, S9.4."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from taskflow.broker.release import release_messages
from taskflow.broker.topology import Topology
from taskflow.redis.blocking import ServerLost, ServerRefused
from taskflow.store.liveness import LivenessStore
from taskflow.worker.messages import Hello

RELEASE_TIMEOUT_S = 1.0  # short, since a supervisor that waits does not act on signals

logger = logging.getLogger("taskflow.worker")


class WorkerLiveness(LivenessStore):
    """HeartbeatStore over the store; it also gives back the broker's messages that a dead child had received."""

    def __init__(self, hello: Hello) -> None:
        super().__init__(hello.store_url, namespace=hello.namespace, app_id=hello.app_id, queues=hello.queues)
        self.broker_url = hello.broker_url
        topology = Topology(hello.namespace)
        self.key_prefix = topology.key_prefix
        self.queue_names = [queue.name for queue in topology.queues(hello.app_id, hello.queues)]

    def hand_back(
        self, child_id: str, *, cause: str, crashed: bool, now_ms: int, blamed: Sequence[str] = ()
    ) -> int:
        """As in LivenessStore; then give back the child's messages, if the broker keeps them for it."""
        count = super().hand_back(child_id, cause=cause, crashed=crashed, now_ms=now_ms, blamed=blamed)
        try:
            released = release_messages(
                self.broker_url,
                key_prefix=self.key_prefix,
                consumer_name=child_id,
                queues=self.queue_names,
                timeout_s=RELEASE_TIMEOUT_S,
            )
        except (ServerLost, ServerRefused) as error:
            logger.info("the messages of child %s are given to others later: %s", child_id, error)
        else:
            if released:
                logger.warning("gave back %d messages that child %s had received", released, child_id)
        return count
