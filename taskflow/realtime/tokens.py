"""Subscription tokens: who has one may read some topics of a channel until it expires. Rule S17.2.

A token is a JWT (HS256) under the app's `signing_key`: the web process needs no store to check it, and a token can't be taken back
before it expires, but by another key.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Any

import orjson

from taskflow.errors import ConfigError, TokenRefused
from taskflow.values.ids import new_ulid
from taskflow.values.record import record

ISSUER = "taskflow/realtime"
MAX_TOKEN_CHARS = 8_192
MAX_TOPICS = 100
HEADER = b'{"alg":"HS256","typ":"JWT"}'


@record
class TopicGrant:
    """Leave to read a topic of a channel; an empty name stands for all topics but those that begin with "$"."""

    channel: str
    name: str


@record
class Grant:
    """What a token says: who has it may read these topics until `expires_ms` (ms since the epoch)."""

    topics: tuple[TopicGrant, ...]
    expires_ms: int
    user: str = ""

    def names(self, channel: str) -> tuple[str, ...]:
        """The names of the topics of one channel; empty for all of them."""
        names = tuple(each.name for each in self.topics if each.channel == channel)
        return () if "" in names and not any(name.startswith("$") for name in names) else names

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(each.channel for each in self.topics))


def check_key(key: str) -> bytes:
    """The key that signs. Raises ConfigError if there is none: then nothing is open."""
    if not key:
        raise ConfigError(
            "subscription tokens need a key that app and web process share: set TASKFLOW_SIGNING_KEY or TaskFlow(signing_key=...) "
            "to a long random text"
        )
    return key.encode()


def encode(part: bytes) -> bytes:
    return urlsafe_b64encode(part).rstrip(b"=")


def signature(key: bytes, signed: bytes) -> bytes:
    return encode(hmac.digest(key, signed, "sha256"))


def make_token(
    key: str, topics: Sequence[TopicGrant], *, namespace: str, ttl_ms: int, now_ms: int, user: str = ""
) -> str:
    """A token for these topics. Raises ConfigError without a key, without topics, and for more than 100."""
    secret = check_key(key)
    if not 1 <= len(topics) <= MAX_TOPICS:
        raise ConfigError(f"a subscription token is for 1 to {MAX_TOPICS} topics, got {len(topics)}")
    claims = {
        "iss": ISSUER, "sub": user, "ns": namespace, "jti": new_ulid(now_ms),
        "topics": [{"kind": "run", "channel": each.channel, "name": each.name} for each in topics],
        "iat": now_ms // 1000, "exp": -(-(now_ms + ttl_ms) // 1000),
    }  # fmt: skip
    signed = encode(HEADER) + b"." + encode(orjson.dumps(claims))
    return (signed + b"." + signature(secret, signed)).decode()


def read_token(key: str, token: str, *, namespace: str, now_ms: int) -> Grant:
    """What a token says. Raises TokenRefused if it is forged, expired or of another deployment, and ConfigError without a key."""
    secret = check_key(key)
    if len(token) > MAX_TOKEN_CHARS or token.count(".") != 2 or not token.isascii():
        raise TokenRefused("the subscription token is no token of taskflow's: it must have three parts")
    signed, _, given = token.encode().rpartition(b".")
    if signed.partition(b".")[0] != encode(HEADER) or not hmac.compare_digest(
        signature(secret, signed), given
    ):
        raise TokenRefused("the subscription token was not signed with the key of this deployment")
    body = signed.partition(b".")[2]
    claims: dict[str, Any] = orjson.loads(urlsafe_b64decode(body + b"=" * (-len(body) % 4)))
    if claims["iss"] != ISSUER or claims["ns"] != namespace:
        raise TokenRefused(f"the subscription token is not for namespace {namespace!r}")
    if claims["exp"] * 1000 <= now_ms:
        raise TokenRefused("the subscription token has expired: get another one from the app")
    topics = tuple(TopicGrant(each["channel"], each["name"]) for each in claims["topics"])
    return Grant(topics, claims["exp"] * 1000, claims["sub"])
