"""Broker URLs: which transport serves each of them."""

from __future__ import annotations

from taskflow.redis.address import SCHEMES

STREAMS_TRANSPORT = "taskflow.broker.streams.transport:Transport"

STREAMS_SCHEMES = {scheme: scheme for scheme in SCHEMES} | {"valkey": "redis", "valkeys": "rediss"}
"""Scheme of a plain URL -> scheme of the address that our transport reads."""


def register_transport() -> None:
    """Register `taskflow+redis://` with kombu. Call it before a `kombu.Connection` is made, as often as you like."""
    # Imported here, so that only users of kombu pay for its import.
    from kombu.transport import TRANSPORT_ALIASES

    # kombu takes the part before the "+" as the transport's name, but in an alternate URL the whole scheme.
    for alias in ("taskflow", *(f"taskflow+{scheme}" for scheme in set(STREAMS_SCHEMES.values()))):
        TRANSPORT_ALIASES[alias] = STREAMS_TRANSPORT


def broker_url(url: str) -> str:
    """The URL to give to kombu: Redis and Valkey go to our transport, everything else stays as it is.

    `redis://`, `valkey://` -> `taskflow+redis://`; `rediss://`, `valkeys://` -> `taskflow+rediss://`; the other schemes of
    `redis.address` get `taskflow+` in front, as in `taskflow+unix:///path`. Alternate URLs after a ";" are mapped too.
    """
    return ";".join(map_scheme(part) for part in url.split(";"))


def serves_streams(url: str) -> bool:
    """Whether our own transport serves the URL, which must have no alternates."""
    return ";" not in url and broker_url(url).startswith("taskflow+")


def map_scheme(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    target = STREAMS_SCHEMES.get(scheme.lower())
    return f"taskflow+{target}{separator}{rest}" if target and separator else url
