"""Key: what is known of a key, without the key itself."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import orjson

from taskflow.errors import ConfigError
from taskflow.values.durations import parse_duration_ms
from taskflow.values.times import date_and_time
from taskflow.web.catalogue.operation import Scope

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
RATE = re.compile(r"([0-9]{1,7})/(.+)")
SHOWN_CHARS = 8
MAX_PATTERNS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """At most `limit` events in `period_ms`, and so many at once."""

    limit: int
    period_ms: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The rate in "100/s", "1000/5m". Raises ConfigError."""
        found = RATE.fullmatch(text.strip())
        if not found or int(found[1]) == 0:
            raise ConfigError(f"rate must be like 100/s or 1000/5m, got {text!r:.40}")
        unit = found[2] if found[2][0].isdecimal() else f"1{found[2]}"
        return cls(limit=int(found[1]), period_ms=max(1, parse_duration_ms(unit, what="the period of rate")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What is known of a key. `scope` is None for an event key, which may send events whose name fits one of `allow`."""

    name: str
    digest: str
    begins: str  # its first characters, by which people tell keys apart
    scope: Scope | None
    allow: tuple[str, ...]  # of an event key: names, and patterns that end in *; all names if empty
    rate: Rate | None
    created_ms: int
    expires_ms: int | None

    def allows(self, event_name: str) -> bool:
        return not self.allow or any(
            event_name.startswith(each[:-1]) if each.endswith("*") else event_name == each
            for each in self.allow
        )

    def is_over(self, now_ms: int) -> bool:
        """Whether its time is over."""
        return self.expires_ms is not None and now_ms >= self.expires_ms

    def when_over(self) -> str:
        return date_and_time(self.expires_ms or 0)

    def dump(self) -> bytes:
        return orjson.dumps(asdict(self))

    @classmethod
    def load(cls, text: bytes) -> Self:
        told: dict[str, Any] = orjson.loads(text)
        rate, scope = told.pop("rate"), told.pop("scope")
        return cls(
            **{**told, "allow": tuple(told["allow"])}, rate=Rate(**rate) if rate else None, scope=Scope(scope) if scope else None,
        )  # fmt: skip


def digest_of(key: str) -> str:
    """What the store keeps in place of a key. A key has 192 random bits, so a plain hash can't be turned around."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def make_key(
    name: str, *, scope: Scope | None, allow: Sequence[str] = (), rate: str | None = None, expires: str | None = None, now_ms: int
) -> tuple[str, Key]:  # fmt: skip
    """A new key, and what is known of it. Raises ConfigError, InvalidDuration."""
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"the name of a key must have 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-', got {name!r:.80}"
        )
    if scope is not None and (allow or rate):
        raise ConfigError("allow and rate are of event keys: an API key has a scope")
    if len(allow) > MAX_PATTERNS:
        raise ConfigError(f"a key allows at most {MAX_PATTERNS} names and patterns, got {len(allow)}")
    text = f"tf{'e' if scope is None else 'a'}_{secrets.token_urlsafe(24)}"
    return text, Key(
        name=name, digest=digest_of(text), begins=text[:SHOWN_CHARS], scope=scope, allow=tuple(allow),
        rate=None if rate is None else Rate.parse(rate), created_ms=now_ms,
        expires_ms=None if expires is None else now_ms + parse_duration_ms(expires, what="expires"),
    )  # fmt: skip
