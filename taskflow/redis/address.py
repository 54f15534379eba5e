"""URLs of stores and brokers: where a Redis or Valkey server is and how to get in, and how a URL looks in a log."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from taskflow.errors import ConfigError

if TYPE_CHECKING:
    import ssl

TCP_SCHEMES = ("redis", "valkey", "taskflow+redis")
TLS_SCHEMES = ("rediss", "valkeys", "taskflow+rediss")
UNIX_SCHEMES = ("unix", "redis+socket", "taskflow+unix")
NO_WORDS = ("false", "0", "no")

# kombu takes several URLs, joined by ";".
NEXT_URL = re.compile(r";(?=[A-Za-z][A-Za-z0-9+.-]*://)")
MAX_DB_DIGITS = 9
URL_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
# Greedy up to the last @, for a password may hold one.
PASSWORD = re.compile(r"(://[^:/?#]*:).*@", re.DOTALL)
SECRET_PARAMETER = re.compile(
    r"([?&][^=&#]*(?:password|passwd|secret|token|key)[^=&#]*=)[^&#]*", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddress:
    """A parsed `redis://[user:password@]host[:port][/db]`, `rediss://...` or `unix:///path?db=0`."""

    host: str = "localhost"
    port: int = 6379
    path: str | None = None  # of a unix socket
    db: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    options: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)  # of the query

    def __str__(self) -> str:
        """The address without secrets, for messages and logs."""
        return f"unix://{self.path}?db={self.db}" if self.path else f"{self.host}:{self.port}/{self.db}"

    @property
    def greeting(self) -> list[tuple[str, ...]]:
        """The commands that open a connection."""
        commands: list[tuple[str, ...]] = []
        if self.password is not None:
            commands.append(("AUTH", self.username or "default", self.password))
        if self.db:
            commands.append(("SELECT", str(self.db)))
        return commands


def parse_server_url(url: str, *, what: str) -> ServerAddress:
    """Read the URL of a Redis or Valkey. Raises ConfigError, which begins with `what` and never shows the password.

    Options of the query: `db`, `username`, `password`; for TLS `ssl_cert_reqs=none|optional|required`, `ssl_check_hostname=false`,
    `ssl_ca_certs=FILE`, `ssl_ca_path=FOLDER`, `ssl_certfile=FILE`, `ssl_keyfile=FILE`, `ssl_password`.
    """
    try:
        parts = urlsplit(url)
        scheme, port = parts.scheme, parts.port
    except ValueError as error:
        raise ConfigError(f"{what}: the URL can't be read ({error}); write redis://host:6379/0") from None
    if scheme not in TCP_SCHEMES + TLS_SCHEMES + UNIX_SCHEMES:
        raise ConfigError(
            f"{what}: the URL's scheme is {scheme!r}, but the {what} must be Redis or Valkey: redis://, rediss://, valkey:// or unix://"
        )
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    is_unix = scheme in UNIX_SCHEMES
    db = options.get("db") or ("" if is_unix else parts.path.strip("/")) or "0"
    if not (db.isascii() and db.isdecimal() and len(db) <= MAX_DB_DIGITS):
        raise ConfigError(
            f"{what}: the database is {db!r:.60}, but must be a number, as in redis://host:6379/0"
        )
    return ServerAddress(
        host=unquote(parts.hostname or "localhost"),
        port=port or 6379,
        path=unquote(parts.path) if is_unix else None,
        db=int(db),
        username=unquote(parts.username) if parts.username else options.get("username"),
        password=unquote(parts.password) if parts.password else options.get("password"),
        tls=tls_context(options, what=what) if scheme in TLS_SCHEMES else None,
        options=options,
    )


def tls_context(options: Mapping[str, str], *, what: str) -> ssl.SSLContext:
    """A context that verifies the server, unless the options say otherwise. Raises ConfigError for files that can't be read."""
    import ssl  # 10 ms, which only those pay who use it

    try:
        context = ssl.create_default_context(
            cafile=options.get("ssl_ca_certs"), capath=options.get("ssl_ca_path")
        )
        if "ssl_certfile" in options:
            context.load_cert_chain(
                options["ssl_certfile"], options.get("ssl_keyfile"), options.get("ssl_password")
            )
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise ConfigError(
            f"{what}: a file that the URL's ssl_ options name can't be used: {error}. "
            "They must be readable here, and in PEM format."
        ) from error
    reqs = options.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if reqs == "none" or options.get("ssl_check_hostname", "").lower() in NO_WORDS:
        context.check_hostname = False
    modes = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL}
    context.verify_mode = modes.get(reqs, ssl.CERT_REQUIRED)
    return context


def redact_url(url: str) -> str:
    """`url`, or several joined by ";", with "***" for each password. For logs and messages."""
    return ";".join(redact_one(part) for part in NEXT_URL.split(url))


def redact_one(url: str) -> str:
    if "://" not in url:
        return "***@" + url.rpartition("@")[2] if "@" in url else url
    return SECRET_PARAMETER.sub(r"\1***", PASSWORD.sub(r"\1***@", url))


def redact_text(text: str) -> str:
    """`text` with "***" for the passwords of all URLs in it."""
    return URL_IN_TEXT.sub(lambda found: redact_url(found[0]), text)
