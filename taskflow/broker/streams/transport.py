"""A kombu transport over `StreamsBroker`: Redis Streams with consumer groups, `taskflow+redis://`.

Any user of kombu can use it. It has direct, topic and fanout exchanges, acknowledgements, requeueing, prefetch, batches, and the
takeover of messages that dead consumers held.

Options, in `transport_options` or in the URL's query: `key_prefix` ("tf:{b}:", whose hash tag keeps all keys in one slot of a
cluster); `claim_idle_ms` (30,000), after which the messages of a silent consumer are given to others; `command_timeout_s` (5);
`read_count` (250), the most messages of one read where no prefetch limit is set; `consumer_name`, the beginning of the names of its
consumers (host and pid).
"""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote
from weakref import WeakKeyDictionary

import hiredis
from kombu.connection import Connection
from kombu.transport import virtual

from taskflow.broker.streams.broker import StreamsBroker, StreamsOptions
from taskflow.broker.streams.channel import StreamChannel
from taskflow.redis.address import parse_server_url, redact
from taskflow.redis.blocking import ServerLost, ServerRefused

MAX_PREDECESSORS = 16

# kombu connection -> (pid, name) of the consumers of its lost connections to the server, the latest last. There may be several, as
# a connection may break before it has taken over from the one before. kombu makes a new transport for each of them, so the
# transport can't keep the names.
predecessors: WeakKeyDictionary[Connection, list[tuple[int, str]]] = WeakKeyDictionary()


class Transport(virtual.Transport):
    """One kombu connection to a Redis or Valkey server."""

    Channel = StreamChannel  # type: ignore[assignment]
    can_parse_url = True
    default_port = 6379  # type: ignore[assignment]
    driver_type = "redis"
    driver_name = "taskflow-redis-streams"
    connection_errors: tuple[type[Exception], ...] = (  # type: ignore[assignment]
        *virtual.Transport.connection_errors,
        ServerLost,
        OSError,
    )
    channel_errors: tuple[type[Exception], ...] = (  # type: ignore[assignment]
        *virtual.Transport.channel_errors,
        ServerRefused,
    )
    recoverable_connection_errors = connection_errors
    recoverable_channel_errors = channel_errors
    implements = virtual.Transport.implements.extend(
        batch_publish=True, exchange_type=frozenset(["direct", "topic", "fanout"])
    )

    def __init__(self, client: Any, **_: Any) -> None:
        super().__init__(client)
        self._pid = os.getpid()
        url = streams_url(client)
        given = {"command_timeout_s": client.connect_timeout, **parse_server_url(url, what="broker").options}
        options = StreamsOptions.of({**given, **client.transport_options})
        ours = [name for pid, name in predecessors.get(client, ()) if pid == self._pid]
        self.broker = StreamsBroker(url, options, predecessors=ours)

    def driver_version(self) -> str:
        return str(hiredis.__version__)

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        return f"taskflow+{uri if include_password else redact(uri)}"

    def establish_connection(self) -> Transport:
        if self._pid != os.getpid():
            self._abandon_after_fork()
        if not self.broker.is_connected:
            self.broker.connect()
        return self

    def verify_connection(self, connection: Any) -> bool:
        # A lost connection that consumes counts as connected; otherwise kombu would silently make a new one, which does not
        # consume. The next read raises ServerLost.
        return self._pid == os.getpid() and (self.broker.is_connected or self.broker.consumes)

    def create_channel(self, connection: Any) -> StreamChannel:
        channel = StreamChannel(self, self.broker)
        self.channels.append(channel)
        return channel

    def drain_events(self, connection: Any, timeout: float | None = None, **_: Any) -> None:
        """Deliver the next messages. Raises TimeoutError after `timeout` seconds without a message, and when interrupted."""
        if self._pid != os.getpid():
            raise ServerLost("the connection was made before a fork; connect again")
        self.broker.drain(timeout)

    def close_connection(self, connection: Any) -> None:
        """Give all messages back and close; a server that is gone is no error."""
        if self._pid != os.getpid():
            self._abandon_after_fork()
            return
        for channel in list(self.channels):
            channel.close()
        name = self.broker.reader_name
        try:
            self.broker.close()
        except (ServerLost, ServerRefused):
            self._leave_to_successor(name)

    def _collect(self, connection: Any) -> None:
        """Close without telling the server."""
        self._leave_to_successor(self.broker.reader_name)
        self.broker.abandon()
        for channel in list(self.channels):
            channel.closed = True
            self.close_channel(channel)

    def _leave_to_successor(self, name: str | None) -> None:
        """Note the consumer's name, so that this client's next connection takes over its messages at once."""
        if name is not None and self.client is not None and self._pid == os.getpid():
            known = [*predecessors.get(self.client, ()), (self._pid, name)]
            predecessors[self.client] = known[-MAX_PREDECESSORS:]

    def _abandon_after_fork(self) -> None:
        """After a fork: drop our copies of the parent's sockets and messages, and begin anew."""
        self.broker.abandon()
        client, channels = self.client, list(self.channels)
        for channel in channels:
            channel.closed = True
            channel.unacked.entries.clear()
        self.__init__(client)  # type: ignore[misc]


def streams_url(client: Any) -> str:
    """The URL of the server that a `kombu.Connection` connects to."""
    hostname = client.hostname or "localhost"
    if "://" in hostname:
        return str(hostname).removeprefix("taskflow+")
    # kombu has taken an alternate URL apart: put it together again.
    scheme = "rediss" if str(client.transport_cls).endswith("+rediss") or client.ssl else "redis"
    user = (
        f"{quote(client.userid or '', safe='')}:{quote(client.password, safe='')}@" if client.password else ""
    )
    database = str(client.virtual_host or "0").strip("/") or "0"
    return f"{scheme}://{user}{hostname}:{client.port or 6379}/{database}"
