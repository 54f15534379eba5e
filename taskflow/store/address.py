"""Where the store is and how to get in, read from its URL."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from taskflow.errors import ConfigError

TCP_SCHEMES = ("redis", "valkey", "taskflow+redis")
TLS_SCHEMES = ("rediss", "valkeys", "taskflow+rediss")
UNIX_SCHEMES = ("unix", "redis+socket")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAddress:
    """A parsed `redis://[user:password@]host[:port][/db]`, `rediss://...` or `unix:///path?db=0`."""

    host: str = "localhost"
    port: int = 6379
    path: str | None = None  # of a unix socket
    db: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

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


def parse_store_url(url: str) -> StoreAddress:
    """Read a store's URL. Raises ConfigError that never shows the password.

    TLS options of the query: `ssl_cert_reqs=none|required`, `ssl_ca_certs=FILE`, `ssl_certfile=FILE`, `ssl_keyfile=FILE`.
    """
    try:
        parts = urlsplit(url)
        scheme, port = parts.scheme, parts.port
    except ValueError as error:
        raise ConfigError(f"store: the URL can't be read ({error}); write redis://host:6379/0") from None
    if scheme not in TCP_SCHEMES + TLS_SCHEMES + UNIX_SCHEMES:
        raise ConfigError(
            f"store: the URL's scheme is {scheme!r}, but the store must be Redis or Valkey: redis://, rediss://, valkey:// or unix://"
        )
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    is_unix = scheme in UNIX_SCHEMES
    db = options.get("db") or ("" if is_unix else parts.path.strip("/")) or "0"
    if not db.isdigit():
        raise ConfigError(f"store: the database is {db!r}, but must be a number, as in redis://host:6379/0")
    return StoreAddress(
        host=parts.hostname or "localhost",
        port=port or 6379,
        path=unquote(parts.path) if is_unix else None,
        db=int(db),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls=tls_context(options) if scheme in TLS_SCHEMES else None,
    )


def tls_context(options: dict[str, str]) -> ssl.SSLContext:
    """A context that verifies the server unless `ssl_cert_reqs=none` says otherwise."""
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    if options.get("ssl_cert_reqs") == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if "ssl_certfile" in options:
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    return context
