"""Opens and closes kombu connections. Each try is bounded in time; kombu's own retries and sleeps are not used."""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from kombu.connection import Connection

from taskflow.broker.deadline import Deadline
from taskflow.broker.urls import broker_url, register_transport
from taskflow.errors import ConfigError
from taskflow.redis.address import redact
from taskflow.redis.blocking import resolve

STREAMS_DRIVER = "taskflow-redis-streams"  # the driver name of our own transport

UNLIMITED_TIMEOUT_S = 10.0
"""How long one write to an AMQP server, or one answer of it, may take when no deadline is set."""


def new_connection(
    url: str, *, heartbeat_s: int = 0, streams: Mapping[str, str | int] | None = None
) -> Connection:
    """A connection that isn't open yet. Raises ConfigError for a URL that no kombu transport serves.

    `streams` are options of our own transport, which those in the URL override.
    """
    register_transport()
    try:
        connection = Connection(broker_url(url), heartbeat=heartbeat_s)
        transport: Any = connection.get_transport_cls()
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"broker URL {redact(url)!r} can't be used: {error}. "
            "Expected one like redis://host:6379/0, rediss://..., unix:///path, or amqp://user:password@host/vhost."
        ) from error
    except Exception as error:
        # A module isn't installed; in some transports that shows as a NameError.
        raise ConfigError(
            f"broker URL {redact(url)!r}: kombu's transport for it can't be loaded here: {error!r}. "
            "Install the package that it needs, or use redis:// or amqp://."
        ) from error
    if streams and transport.driver_name == STREAMS_DRIVER:
        given = {name: value for name, value in streams.items() if f"{name}=" not in url}
        connection.transport_options = {**(connection.transport_options or {}), **given}
    return connection


def open_connection(connection: Connection, deadline: Deadline) -> None:
    """Connect, trying each alternate URL once. Raises the error of the last one."""
    tries = max(len(connection.alt), 1)
    for number in range(1, tries + 1):
        connection.connect_timeout = deadline.remaining_s()  # type: ignore[assignment]  # seconds, as a float
        try:
            if connection.transport.driver_type == "amqp":
                # Look the name up first, since py-amqp does that without a deadline.
                resolve(connection.hostname or "localhost", int(connection.port or 5672), deadline.at)
            connection.ensure_connection(max_retries=0, timeout=connection.connect_timeout)
        except Exception:
            abandon_connection(connection)
            if number == tries:
                raise
            connection.maybe_switch_next()
        else:
            return


def limit_time(connection: Connection, deadline: Deadline | None) -> None:
    """Make all further waits for the server fail at the deadline, as far as the transport can; None removes the limit."""
    if not connection.connected:
        return
    driver = connection.transport.driver_name
    if driver == "py-amqp":
        timeout_s = UNLIMITED_TIMEOUT_S if deadline is None else deadline.remaining_s()
        connection.connection.sock.settimeout(timeout_s)
    elif driver == STREAMS_DRIVER:
        connection.transport.broker.set_deadline(None if deadline is None else deadline.at)


def abandon_connection(connection: Connection) -> None:
    """Close the sockets without telling the server, which is gone or silent."""
    with contextlib.suppress(Exception):
        connection.collect(socket_timeout=0.1)


def forget_connection(connection: Connection) -> None:
    """After a fork: close our copies of the parent's sockets. `abandon_connection` would shut the parent's AMQP socket down too."""
    if transport_name(connection) == "py-amqp":
        with contextlib.suppress(Exception):
            transport = connection.connection.transport
            transport.sock.close()
            transport.sock, transport.connected = None, False
    elif transport_name(connection) == STREAMS_DRIVER:
        abandon_connection(connection)


def close_connection(connection: Connection, *, timeout_s: float) -> None:
    """Close the connection in order, within `timeout_s`; if that fails, abandon it."""
    try:
        limit_time(connection, Deadline(timeout_s))
        connection.release()
    except Exception:
        abandon_connection(connection)


def transport_name(connection: Connection) -> str:
    """The name of the connection's driver: `py-amqp`, `taskflow-redis-streams`, ..."""
    name: Any = connection.transport.driver_name
    return str(name)
