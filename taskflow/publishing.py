"""Publishing: the methods of an app that publish messages on channels, and subscribe to them. Rule S17."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from taskflow.connected_app import ConnectedApp
from taskflow.context import Published
from taskflow.types import Duration

if TYPE_CHECKING:
    from taskflow.channel import Channel, Message, TopicRef

T = TypeVar("T")


class Publishing(ConnectedApp):
    """What an app does with channels."""

    def publish(self, topic: TopicRef[T], data: T) -> int:
        """Publish a message, and return its id, a number that counts the messages of its channel. Rule S17.1.

            app.publish(OrderChannel(order_id="A1").status, Status(percent=50))

        `data` is of the topic's type. It is kept with the last 1,000 messages of the channel, for an hour after the last.
        Raises SerializationError for another type, LimitExceeded above `max_event_bytes`, StoreUnavailable.
        """
        return self._link.block_on(lambda: self.apublish(topic, data))

    async def apublish(self, topic: TopicRef[T], data: T) -> int:
        """See `publish`."""
        return await self._apublish(topic, data)

    async def subscribe(
        self,
        channel: Channel | str,
        topics: Sequence[str | TopicRef[Any]] = (),
        *,
        after: int | None = None,
        since: Duration | None = None,
    ) -> AsyncGenerator[Message]:
        """Yield the messages of a channel as they come: of these topics, or of all. It never ends. Rules S17.1, S17.2.

            async for message in app.subscribe(OrderChannel(order_id="A1"), since="5m"):
                print(message.topic, message.data)

        Without `after` and `since` it begins now; `after` is the id of the last message that you have, and `since` a duration
        before now: what is kept of that comes first. Nothing is lost or doubled, also when the connection breaks; where messages
        are no longer kept, `message.is_after_gap` says so. Raises ConfigError for a topic that the channel does not have,
        ReaderTooSlow for a reader that lets 1,000 messages wait, SerializationError for a message of another type,
        InvalidDuration, StoreUnavailable.
        """
        from contextlib import aclosing

        from taskflow.channel import Message, name_of, names_of, shapes_of
        from taskflow.realtime.reading import read_channel
        from taskflow.values.durations import parse_duration_ms
        from taskflow.values.shape import ANY
        from taskflow.values.stored import load

        link, name, shapes, wanted = (
            self._link,
            name_of(channel),
            shapes_of(channel),
            names_of(channel, topics),
        )
        since_ms = None if since is None else link.clock.now_ms() - parse_duration_ms(since, what="since")
        async with aclosing(
            read_channel(link.feeds(), name, wanted, after=after, since_ms=since_ms)
        ) as batches:
            async for messages, is_after_gap, _ in batches:
                for index, each in enumerate(messages):
                    data = load(
                        each.data, shapes.get(each.topic, ANY), what=f"a message of {name}, {each.topic}"
                    )
                    yield Message(
                        each.id,
                        name,
                        each.topic,
                        data,
                        each.at_ms,
                        each.run_id or None,
                        is_after_gap and not index,
                    )

    def subscription_token(
        self,
        channel: Channel | str,
        topics: Sequence[str | TopicRef[Any]] = (),
        *,
        ttl: Duration = "1h",
        user: str = "",
    ) -> str:
        """A token with which a browser may read these topics of a channel, or all of them, for `ttl`. Rule S17.2.

            token = app.subscription_token(OrderChannel(order_id="A1"), topics=["status"], ttl="15m")
            token = app.subscription_token(run.id, topics=["$run", "$step"])

        The channel of a run is its id, and has the topics `$run` and `$step`, which are never among "all". `user` stands in the
        token, and in logs. Raises ConfigError without a `signing_key` and for a topic that the channel does not have,
        InvalidDuration.
        """
        from taskflow.channel import name_of, names_of
        from taskflow.realtime.tokens import TopicGrant, make_token
        from taskflow.values.durations import parse_duration_ms

        link, name = self._link, name_of(channel)
        grants = [TopicGrant(name, topic) for topic in names_of(channel, topics) or ("",)]
        return make_token(
            link.config.signing_key, grants, namespace=link.config.namespace,
            ttl_ms=parse_duration_ms(ttl, what="ttl"), now_ms=link.clock.now_ms(), user=user,
        )  # fmt: skip

    # --- for runs ---

    async def _apublish(self, topic: TopicRef[Any], data: Any, *, run_id: str = "", uid: str = "") -> int:
        """Publish a message, once for its `uid`, if it has one."""
        from taskflow.realtime.publish import publish_message

        link = self._link
        return await publish_message(
            link.session(), topic, data, run_id=run_id, uid=uid, max_bytes=link.config.max_event_bytes, now_ms=link.clock.now_ms()
        )  # fmt: skip

    def _publish_of_run(self, topic: TopicRef[Any], data: Any, *, run_id: str) -> Awaitable[None]:
        """Publish for `ctx.publish`: on a loop once it is awaited, in a thread at once."""
        import asyncio

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._link.block_on(lambda: self._apublish(topic, data, run_id=run_id))
            return Published()
        return self._apublish_of_run(topic, data, run_id=run_id)

    async def _apublish_of_run(self, topic: TopicRef[Any], data: Any, *, run_id: str, uid: str = "") -> None:
        await self._apublish(topic, data, run_id=run_id, uid=uid)
