"""Config: every setting of an app, with its unit, default and environment variable."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import field, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, TypeVar, Unpack

from taskflow.errors import ConfigError, InvalidDuration
from taskflow.redis.address import NEXT_URL, check_server_url, is_meant_for_redis, redact
from taskflow.retries import Retries
from taskflow.types import Duration
from taskflow.values.durations import parse_duration_ms
from taskflow.values.keywords import check_keywords
from taskflow.values.record import record

if TYPE_CHECKING:
    from taskflow.codecs.codecs import BlobPlace

T = TypeVar("T")
Read: TypeAlias = Callable[[Any, str], T]
"""Checks the value of a setting and returns it; the text is the setting's name in errors. Raises ConfigError."""

Determinism: TypeAlias = Literal["warn", "strict"]

DEFAULT_URL = "redis://localhost:6379/0"
MAX_SLUG_CHARS = 64
MAX_VERSION_CHARS = 128
MIN_SECRET_CHARS, MAX_SECRET_CHARS = 32, 512
MAX_DIGITS = 18  # longer texts are no number here: Python refuses to read numbers of thousands of digits
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
BLOB_SCHEMES = ("s3", "gs", "az", "file")
SWITCHES = {"1": True, "true": True, "0": False, "false": False}

# No dots, since names in the broker join app and queue by a dot, as in "taskflow.work.shop.default".
SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://.*", re.DOTALL)


class Settings(TypedDict, total=False):
    """The settings of an app: keywords of `TaskFlow(...)`, each also an environment variable.

    The variable of `send_timeout` is TASKFLOW_SEND_TIMEOUT, and so on. A keyword beats the variable, which beats the default. None
    counts as left out, and so does an empty variable. `Config` has the defaults.

    broker                 where events and work messages travel: any URL of kombu; join several servers by ";"
    store                  where runs are kept: one URL of a Redis or Valkey; by default the broker's, if that is one
    app_version            version of this code, another one for each deploy (S2.7); by default a digest of the functions
    namespace              prefix of all keys, so that one store serves several deployments
    send_timeout           duration for which `send` tries before it raises BrokerUnavailable (S1.2); at most 10 minutes
    max_event_bytes        greatest size of an event as JSON (S1.5); at most 64 MiB. The variable may say "512KiB"
    retention              duration for which finished runs and events are kept (S10.1); at most 366 days
    failed_retention       duration for which failed runs are kept (S10.1)
    max_steps              greatest number of steps of a run (S3.10)
    max_step_output_bytes  greatest size of a step's result as JSON (S3.10)
    max_run_bytes          greatest size of all memos of a run (S3.10)
    max_crashes            a run fails when so many processes in a row died under it without progress (S9.8)
    strict_events          True refuses to send events without a type (S11.2)
    blobs                  where large results lie: s3://bucket/prefix, gs://, az:// or file:///folder (S12.4); by default nowhere
    blob_threshold         size of a result as it is stored from which on it lies there; 64 KiB unless set
    determinism            "strict" fails a run whose replay calls the steps in another order; "warn" logs it (S4.5)
    retries                for functions without an option of their own: attempts after the first, or a Retries (S5.1)
    signing_key            random text of 32 characters or more that app and web process share: signs subscription tokens (S17.2)
    """

    broker: str | None
    store: str | None
    app_version: str | None
    namespace: str | None
    send_timeout: Duration | None
    max_event_bytes: int | None
    retention: Duration | None
    failed_retention: Duration | None
    max_steps: int | None
    max_step_output_bytes: int | None
    max_run_bytes: int | None
    max_crashes: int | None
    strict_events: bool | None
    blobs: str | None
    blob_threshold: int | str | None
    determinism: Determinism | None
    retries: int | Retries | None
    signing_key: str | None


def read_text(at_most: int) -> Read[str]:
    def read(value: Any, what: str) -> str:
        if not isinstance(value, str) or len(value) > at_most:
            raise ConfigError(f"{what} must be a str of at most {at_most} characters, got {value!r:.80}")
        return value

    return read


def read_url(value: Any, what: str) -> str:
    if not isinstance(value, str) or not all(map(SCHEME.fullmatch, NEXT_URL.split(value))):
        shown = redact(value) if isinstance(value, str) else type(value).__name__
        raise ConfigError(
            f"{what} must be a URL like {DEFAULT_URL!r} or 'amqp://user:password@host//', got {shown!r}"
        )
    urls = NEXT_URL.split(value)
    for url in urls:
        if is_meant_for_redis(url) and check_server_url(url, what=what).nodes and len(urls) > 1:
            raise ConfigError(
                f"{what} names sentinels or a cluster among other URLs, but such a URL must stand alone: "
                "it finds its servers by itself"
            )
    return value


def read_store_url(value: Any, what: str) -> str:
    if not isinstance(value, str) or not SCHEME.fullmatch(value) or len(NEXT_URL.split(value)) > 1:
        shown = redact(value) if isinstance(value, str) else type(value).__name__
        raise ConfigError(f"{what} must be one URL of a Redis or Valkey, like {DEFAULT_URL!r}, got {shown!r}")
    check_server_url(value, what=what)
    return value


def read_duration_ms(at_most: Duration) -> Read[int]:
    def read(value: Any, what: str) -> int:
        try:
            ms = parse_duration_ms(value, what=what)
        except InvalidDuration as error:
            raise ConfigError(str(error)) from error
        if not 1 <= ms <= parse_duration_ms(at_most):
            raise ConfigError(f"{what} must be more than 0 and at most {at_most}, got {value!r}")
        return ms

    return read


def read_count(at_most: int) -> Read[int]:
    def read(value: Any, what: str) -> int:
        number = number_in(value)
        if type(number) is not int or not 1 <= number <= at_most:
            raise ConfigError(f"{what} must be an int from 1 to {at_most:,}, got {value!r:.80}")
        return number

    return read


def read_size(at_most: int) -> Read[int]:
    def read(value: Any, what: str) -> int:
        # Most apps keep the sizes as they are.
        from taskflow.values.sizes import parse_size

        return parse_size(value, at_most=at_most, what=what)

    return read


def read_blobs(value: Any, what: str) -> str:
    scheme = value.partition("://")[0] if isinstance(value, str) else ""
    if scheme not in BLOB_SCHEMES or not value.partition("://")[2]:
        raise ConfigError(
            f"{what} must be a URL like 's3://bucket/prefix' or 'file:///srv/blobs' ({', '.join(BLOB_SCHEMES)}), got {value!r:.80}"
        )
    return str(value)


def read_switch(value: Any, what: str) -> bool:
    given = SWITCHES.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(given, bool):
        raise ConfigError(f"{what} must be True or False, in the environment 1 or 0, got {value!r:.80}")
    return given


def read_retries(value: Any, what: str) -> Retries:
    try:
        return Retries.of(number_in(value))
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}") from error


def read_secret(value: Any, what: str) -> str:
    if not isinstance(value, str) or not MIN_SECRET_CHARS <= len(value) <= MAX_SECRET_CHARS:
        # Not the value: it may be a secret all the same.
        raise ConfigError(
            f"{what} must be a random text of {MIN_SECRET_CHARS} to {MAX_SECRET_CHARS} characters"
        )
    return value


def check_determinism(value: object, what: str) -> Determinism:
    """`value` if it is "warn" or "strict". Raises ConfigError."""
    if value == "warn":
        return "warn"
    if value == "strict":
        return "strict"
    raise ConfigError(f"{what} must be 'warn' or 'strict', got {value!r:.80}")


def check_slug(value: object, what: str) -> str:
    """`value` if it can be part of ids, keys and queue names. Raises ConfigError."""
    if not isinstance(value, str) or len(value) > MAX_SLUG_CHARS or not SLUG.fullmatch(value):
        raise ConfigError(
            f"{what} must have 1 to {MAX_SLUG_CHARS} of the characters a-z, A-Z, 0-9, '_' and '-', "
            f"and begin with a letter or digit, got {value!r:.80}"
        )
    return value


def setting(default: T, read: Read[T]) -> T:
    """A field of Config, with its default and the function that checks a given value."""
    made: T = field(default=default, metadata={"read": read})
    return made


@record(kw_only=True)
class Config:
    """The checked settings of an app; `Settings` says what each means. `Config.resolve` makes one of keywords and environment.

    Durations are stored in ms. `repr` hides passwords.
    """

    app_id: str
    broker: str = setting(DEFAULT_URL, read_url)
    store: str = setting(DEFAULT_URL, read_store_url)
    app_version: str = setting("", read_text(MAX_VERSION_CHARS))
    namespace: str = setting("tf", check_slug)
    send_timeout_ms: int = setting(3_000, read_duration_ms("10m"))
    max_event_bytes: int = setting(256 * KIB, read_size(64 * MIB))
    retention_ms: int = setting(24 * 3_600_000, read_duration_ms("366d"))
    failed_retention_ms: int = setting(7 * 24 * 3_600_000, read_duration_ms("366d"))
    max_steps: int = setting(1_000, read_count(1_000_000))
    max_step_output_bytes: int = setting(4 * MIB, read_size(GIB // 2))
    max_run_bytes: int = setting(32 * MIB, read_size(GIB // 2))
    max_crashes: int = setting(3, read_count(100))
    strict_events: bool = setting(False, read_switch)
    blobs: str = setting("", read_blobs)
    blob_threshold: int = setting(64 * KIB, read_size(GIB // 2))
    determinism: Determinism = setting("warn", check_determinism)
    retries: Retries = setting(Retries(), read_retries)
    signing_key: str = setting("", read_secret)

    def __post_init__(self) -> None:
        if self.max_step_output_bytes > self.max_run_bytes:
            raise ConfigError(
                f"max_step_output_bytes ({self.max_step_output_bytes:,}) is more than max_run_bytes "
                f"({self.max_run_bytes:,}), so no run could hold such a step; "
                "lower the one or raise the other"
            )

    def __repr__(self) -> str:
        shown = {setting.name: getattr(self, setting.name) for setting in fields(self)}
        shown |= {"broker": redact(self.broker), "store": redact(self.store)}
        shown["signing_key"] = "***" if self.signing_key else ""
        return f"Config({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def blob_place(self) -> BlobPlace | None:
        """Where large values lie; None when all values are in the store."""
        if not self.blobs:
            return None
        # Few apps need it.
        from taskflow.codecs.codecs import BlobPlace

        return BlobPlace(self.blobs, self.blob_threshold, self.namespace)

    @classmethod
    def resolve(
        cls, app_id: str, *, environ: Mapping[str, str] | None = None, **settings: Unpack[Settings]
    ) -> Config:
        """Resolve the settings of an app: a keyword beats its TASKFLOW_* variable, which beats the default.

        `environ` is by default `os.environ`. Raises ConfigError, which names the keyword or variable, and TypeError for a setting
        that does not exist.
        """
        check_keywords(settings, Settings, what="TaskFlow()")
        variables = os.environ if environ is None else environ
        values: dict[str, Any] = {"app_id": check_slug(app_id, what="app_id")}
        for each in fields(cls):
            if (read := each.metadata.get("read")) is None:
                continue
            name = each.name.removesuffix("_ms")
            value, what = settings.get(name), name
            if value is None:
                variable = f"TASKFLOW_{name.upper()}"
                value, what = variables.get(variable, "").strip() or None, f"environment variable {variable}"
            if value is not None:
                values[each.name] = read(value, what)
        if "store" not in values:
            values["store"] = read_store_url(default_store(values.get("broker", DEFAULT_URL)), "store")
        return cls(**values)


def number_in(value: Any) -> Any:
    """The number, if `value` is the text of one, as from the environment; else `value` itself."""
    is_number = isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= MAX_DIGITS
    return int(value) if is_number else value


def default_store(broker: str) -> str:
    """The store's default URL: the broker's, if that is a Redis or Valkey."""
    first = NEXT_URL.split(broker)[0].removeprefix("taskflow+")
    return first if is_meant_for_redis(first) else DEFAULT_URL
