"""Publishing one message: checks it, and gives it to the store. Rule S17.1."""

from __future__ import annotations

from typing import Any

from taskflow.channel import TopicRef
from taskflow.errors import LimitExceeded
from taskflow.store.session import StoreSession
from taskflow.values.ids import new_ulid
from taskflow.values.stored import dump, load

REPEAT_MS = 60_000  # for how long a publish that the connection sends again is known
STEP_REPEAT_MS = 86_400_000  # the same for `step.publish`, whose attempts may be far apart


async def publish_message(
    session: StoreSession, topic: TopicRef[Any], data: Any, *, run_id: str = "", uid: str = "", max_bytes: int, now_ms: int
) -> int:  # fmt: skip
    """Publish a message, once for its `uid`, if it has one; its id.

    Raises SerializationError, LimitExceeded, StoreUnavailable.
    """
    what = f"a message for {topic.channel}, {topic.name}"
    body = dump(data, topic.shape, what=what)
    if len(body) > max_bytes:
        raise LimitExceeded(
            f"{what} has {len(body):,} bytes of JSON, but at most {max_bytes:,} are allowed (max_event_bytes). "
            "Keep what is large elsewhere, and publish a reference to it."
        )
    if topic.shape.load is not None:
        # Read as a subscriber will, so that a message of another type shows here.
        load(body, topic.shape, what=what)
    async with session.deadline() as store:
        return await store.messages.publish(
            topic.channel, topic.name, body, run_id=run_id, uid=uid or new_ulid(now_ms),
            known_ms=STEP_REPEAT_MS if uid else REPEAT_MS, now_ms=now_ms,
        )  # fmt: skip
