"""Opens the session that fits a broker's URL."""

from __future__ import annotations

from taskflow.broker.deadline import Deadline
from taskflow.broker.session import Session
from taskflow.broker.streams_session import open_streams_session
from taskflow.broker.urls import serves_streams
from taskflow.errors import ConfigError
from taskflow.redis.blocking import ServerLost


def open_session(url: str, deadline: Deadline, *, key_prefix: str) -> Session:
    """Connect. `key_prefix`: of the keys in a Redis or Valkey, unless the URL names another.

    Raises ConfigError for a URL that can't be used, and whatever the transport raises.
    """
    addresses = url.split(";")
    if not all(serves_streams(address) for address in addresses):
        from taskflow.broker.kombu_session import (
            open_kombu_session,  # only those pay for kombu's import who use it
        )

        return open_kombu_session(url, deadline, key_prefix=key_prefix)
    for number, address in enumerate(addresses, start=1):
        try:
            return open_streams_session(address, deadline, key_prefix=key_prefix)
        except ServerLost:
            if number == len(addresses):
                raise
    raise ConfigError("the broker URL is empty; write one like redis://localhost:6379/0")
