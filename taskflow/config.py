"""Config: every setting of an app, with its unit, default and environment variable."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias

from taskflow.errors import ConfigError, InvalidDuration
from taskflow.redis.address import NEXT_URL, check_server_url, is_meant_for_redis, redact
from taskflow.retries import Retries
from taskflow.types import Duration
from taskflow.values.durations import parse_duration_ms

Determinism: TypeAlias = Literal["warn", "strict"]

DEFAULT_URL = "redis://localhost:6379/0"
MAX_SLUG_CHARS = 64
MAX_VERSION_CHARS = 128
MAX_DIGITS = 18  # Python refuses to read numbers of thousands of digits
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SIZE_UNITS = {"": 1, "b": 1, "kib": KIB, "mib": MIB, "gib": GIB}

# No dots: the broker's names join an app and a queue by one, as in "taskflow.work.shop.default".
SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://.*", re.DOTALL)
SIZE = re.compile(r"([0-9][0-9_]*)\s*([a-z]*)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, repr=False)
class Config:
    """The settings of an app, checked. `Config.resolve` makes one from what the user gives.

    | setting               | unit       | default                  | environment variable           |
    |-----------------------|------------|--------------------------|--------------------------------|
    | app_id                |            |                          |                                |
    | broker                | URL        | redis://localhost:6379/0 | TASKFLOW_BROKER                |
    | store                 | URL        | the broker if Redis      | TASKFLOW_STORE                 |
    | app_version           |            | ""                       | TASKFLOW_APP_VERSION           |
    | namespace             | key prefix | "tf"                     | TASKFLOW_NAMESPACE             |
    | send_timeout          | duration   | 3 s                      | TASKFLOW_SEND_TIMEOUT          |
    | max_event_bytes       | bytes      | 256 KiB                  | TASKFLOW_MAX_EVENT_BYTES       |
    | retention             | duration   | 24 h                     | TASKFLOW_RETENTION             |
    | failed_retention      | duration   | 7 d                      | TASKFLOW_FAILED_RETENTION      |
    | max_steps             | steps      | 1,000                    | TASKFLOW_MAX_STEPS             |
    | max_step_output_bytes | bytes      | 4 MiB                    | TASKFLOW_MAX_STEP_OUTPUT_BYTES |
    | max_run_bytes         | bytes      | 32 MiB                   | TASKFLOW_MAX_RUN_BYTES         |
    | max_crashes           | crashes    | 3                        | TASKFLOW_MAX_CRASHES           |
    | determinism           |            | "warn" (or "strict")     | TASKFLOW_DETERMINISM           |
    | retries               | attempts   | 4                        | TASKFLOW_RETRIES               |

    Durations are held in ms. `repr` hides passwords.
    """

    app_id: str
    broker: str = DEFAULT_URL
    store: str = DEFAULT_URL
    app_version: str = ""
    namespace: str = "tf"
    send_timeout_ms: int = 3_000
    max_event_bytes: int = 256 * KIB
    retention_ms: int = 24 * 3_600_000
    failed_retention_ms: int = 7 * 24 * 3_600_000
    max_steps: int = 1_000
    max_step_output_bytes: int = 4 * MIB
    max_run_bytes: int = 32 * MIB
    max_crashes: int = 3
    determinism: Determinism = "warn"
    retries: Retries = field(default_factory=Retries)

    def __repr__(self) -> str:
        shown = {setting.name: getattr(self, setting.name) for setting in fields(self)}
        shown |= {"broker": redact(self.broker), "store": redact(self.store)}
        return f"Config({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @classmethod
    def resolve(
        cls,
        app_id: str,
        *,
        broker: str | None = None,
        store: str | None = None,
        app_version: str | None = None,
        namespace: str | None = None,
        send_timeout: Duration | None = None,
        max_event_bytes: int | None = None,
        retention: Duration | None = None,
        failed_retention: Duration | None = None,
        max_steps: int | None = None,
        max_step_output_bytes: int | None = None,
        max_run_bytes: int | None = None,
        max_crashes: int | None = None,
        determinism: Determinism | None = None,
        retries: int | Retries | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Config:
        """The settings of an app: a keyword beats its TASKFLOW_* variable, which beats the default.

        `environ` is `os.environ` unless given. Raises ConfigError, which names the keyword or variable.
        """
        given = Given(os.environ if environ is None else environ)
        broker_url = given.url("broker", broker, default=DEFAULT_URL)
        config = cls(
            app_id=check_slug(app_id, what="app_id"),
            broker=broker_url,
            store=given.store_url("store", store, default=default_store(broker_url)),
            app_version=given.text("app_version", app_version, default="", at_most=MAX_VERSION_CHARS),
            namespace=given.slug("namespace", namespace, default="tf"),
            send_timeout_ms=given.duration_ms("send_timeout", send_timeout, default="3s", at_most="10m"),
            max_event_bytes=given.size(
                "max_event_bytes", max_event_bytes, default=256 * KIB, at_most=64 * MIB
            ),
            retention_ms=given.duration_ms("retention", retention, default="24h", at_most="366d"),
            failed_retention_ms=given.duration_ms(
                "failed_retention", failed_retention, default="7d", at_most="366d"
            ),
            max_steps=given.count("max_steps", max_steps, default=1_000, at_most=1_000_000),
            max_step_output_bytes=given.size(
                "max_step_output_bytes", max_step_output_bytes, default=4 * MIB, at_most=GIB // 2
            ),
            max_run_bytes=given.size("max_run_bytes", max_run_bytes, default=32 * MIB, at_most=GIB // 2),
            max_crashes=given.count("max_crashes", max_crashes, default=3, at_most=100),
            determinism=given.determinism("determinism", determinism, default="warn"),
            retries=given.retries("retries", retries, default=4),
        )
        if config.max_step_output_bytes > config.max_run_bytes:
            raise ConfigError(
                f"max_step_output_bytes ({config.max_step_output_bytes:,}) is more than max_run_bytes "
                f"({config.max_run_bytes:,}), so no run could hold such a step; "
                "lower the one or raise the other"
            )
        return config


class Given:
    """Reads one setting after the other: the keyword's value, else its TASKFLOW_* variable, else the default.

    Each method returns the value checked, or raises ConfigError. An empty variable counts as unset.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def _find(self, name: str, value: object, default: object) -> tuple[str, Any]:
        """Where the value comes from, as an error should call it, and the value."""
        if value is not None:
            return name, value
        variable = f"TASKFLOW_{name.upper()}"
        text = self._environ.get(variable, "").strip()
        return (f"environment variable {variable}", text) if text else (name, default)

    def text(self, name: str, value: str | None, *, default: str, at_most: int) -> str:
        what, found = self._find(name, value, default)
        if not isinstance(found, str) or len(found) > at_most:
            raise ConfigError(f"{what} must be a str of at most {at_most} characters, got {found!r:.80}")
        return found

    def slug(self, name: str, value: str | None, *, default: str) -> str:
        what, found = self._find(name, value, default)
        return check_slug(found, what=what)

    def url(self, name: str, value: str | None, *, default: str) -> str:
        what, found = self._find(name, value, default)
        if not isinstance(found, str) or not all(map(SCHEME.fullmatch, NEXT_URL.split(found))):
            shown = redact(found) if isinstance(found, str) else type(found).__name__
            raise ConfigError(
                f"{what} must be a URL like {DEFAULT_URL!r} or 'amqp://user:password@host//', got {shown!r}"
            )
        for url in NEXT_URL.split(found):
            if is_meant_for_redis(url):
                check_server_url(url, what=what)
        return found

    def store_url(self, name: str, value: str | None, *, default: str) -> str:
        what, found = self._find(name, value, default)
        if not isinstance(found, str) or not SCHEME.fullmatch(found) or len(NEXT_URL.split(found)) > 1:
            shown = redact(found) if isinstance(found, str) else type(found).__name__
            raise ConfigError(
                f"{what} must be one URL of a Redis or Valkey, like {DEFAULT_URL!r}, got {shown!r}"
            )
        check_server_url(found, what=what)
        return found

    def duration_ms(self, name: str, value: Duration | None, *, default: Duration, at_most: Duration) -> int:
        what, found = self._find(name, value, default)
        try:
            ms = parse_duration_ms(found, what=what)
        except InvalidDuration as error:
            raise ConfigError(str(error)) from error
        if not 1 <= ms <= parse_duration_ms(at_most):
            raise ConfigError(f"{what} must be more than 0 and at most {at_most}, got {found!r}")
        return ms

    def count(self, name: str, value: int | None, *, default: int, at_least: int = 1, at_most: int) -> int:
        what, found = self._find(name, value, default)
        number = number_in(found)
        if type(number) is not int or not at_least <= number <= at_most:
            raise ConfigError(f"{what} must be an int from {at_least} to {at_most:,}, got {found!r:.80}")
        return number

    def size(self, name: str, value: int | None, *, default: int, at_most: int) -> int:
        what, found = self._find(name, value, default)
        match = SIZE.fullmatch(found) if isinstance(found, str) else None
        if match is not None and match[2].lower() in SIZE_UNITS and len(match[1]) <= MAX_DIGITS:
            size: object = int(match[1]) * SIZE_UNITS[match[2].lower()]
        else:
            size = found
        if type(size) is not int or not 1 <= size <= at_most:
            raise ConfigError(
                f"{what} must be a number of bytes from 1 to {at_most:,}, got {found!r:.80}. "
                "In the environment it may be written like '512KiB' or '4MiB'."
            )
        return size

    def determinism(self, name: str, value: Determinism | None, *, default: Determinism) -> Determinism:
        what, found = self._find(name, value, default)
        return check_determinism(found, what=what)

    def retries(self, name: str, value: int | Retries | None, *, default: int) -> Retries:
        what, found = self._find(name, value, default)
        try:
            return Retries.of(number_in(found))
        except ConfigError as error:
            raise ConfigError(f"{what}: {error}") from error


def number_in(value: Any) -> Any:
    """The number that a text from the environment is; everything else as it is."""
    is_number = isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= MAX_DIGITS
    return int(value) if is_number else value


def check_determinism(value: object, *, what: str) -> Determinism:
    """`value` if it is "warn" or "strict". Raises ConfigError."""
    if value == "warn":
        return "warn"
    if value == "strict":
        return "strict"
    raise ConfigError(f"{what} must be 'warn' or 'strict', got {value!r:.80}")


def check_slug(value: object, *, what: str) -> str:
    """`value` if it can be part of ids, keys and queue names. Raises ConfigError."""
    if not isinstance(value, str) or len(value) > MAX_SLUG_CHARS or not SLUG.fullmatch(value):
        raise ConfigError(
            f"{what} must have 1 to {MAX_SLUG_CHARS} of the characters a-z, A-Z, 0-9, '_' and '-', "
            f"and begin with a letter or digit, got {value!r:.80}"
        )
    return value


def default_store(broker: str) -> str:
    """The store that goes with `broker`: the same server, if it is a Redis or Valkey."""
    first = NEXT_URL.split(broker)[0].removeprefix("taskflow+")
    return first if is_meant_for_redis(first) else DEFAULT_URL
