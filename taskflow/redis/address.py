"""URLs of stores and brokers: where a Redis or Valkey is and how to get in, and how a URL looks in a log.

    redis://user:password@host:6379/0                  one server; valkey:// is the same
    unix:///run/valkey.sock?db=0                       one server, by its socket
    redis+sentinel://h1,h2:26380,h3/mymaster/0         the master that these sentinels name
    redis+cluster://h1,h2:6380/0                       a cluster that these nodes belong to

`rediss`, `valkeys`, `rediss+sentinel` and `rediss+cluster` are the same over TLS.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field, replace
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import parse_qs, unquote

from taskflow.errors import ConfigError
from taskflow.values.record import record

if TYPE_CHECKING:
    import ssl

Kind = Literal["server", "socket", "sentinel", "cluster"]
Node = tuple[str, int]

SCHEMES: Final[Mapping[str, tuple[Kind, bool]]] = {
    "redis": ("server", False),
    "valkey": ("server", False),
    "rediss": ("server", True),
    "valkeys": ("server", True),
    "unix": ("socket", False),
    "redis+sentinel": ("sentinel", False),
    "valkey+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "valkeys+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "valkey+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
    "valkeys+cluster": ("cluster", True),
}
"""Scheme -> what the URL names, and whether over TLS. kombu needs `taskflow+` in front of a scheme; it changes nothing here."""

FORMS: Final[Mapping[Kind, str]] = {
    "server": "redis://user:password@host:6379/0",
    "socket": "unix:///run/valkey.sock?db=0",
    "sentinel": "redis+sentinel://host1,host2:26380,host3/mymaster/0",
    "cluster": "redis+cluster://host1,host2:6380/0",
}
SUPPORTED = f"{', '.join(FORMS.values())}; rediss://, rediss+sentinel:// and rediss+cluster:// for TLS"
DEFAULT_PORTS: Final[Mapping[Kind, int]] = {
    "server": 6379,
    "socket": 6379,
    "sentinel": 26379,
    "cluster": 6379,
}
MEANT_FOR_REDIS = re.compile(r"redis|valkey|keydb|dragonfly|sentinel|cluster|unix|socket")

CERT_REQS = ("none", "optional", "required")
WORDS: Final[Mapping[str, bool]] = {
    "true": True,
    "1": True,
    "yes": True,
    "false": False,
    "0": False,
    "no": False,
}
TLS_OPTIONS = (
    "ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password",
)  # fmt: skip
SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password", "sentinel_ssl")

URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<place>[^/?#]*)(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?(?:#.*)?",
    re.DOTALL,
)
NODE = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\[\]:]*)(?::(?P<port>[0-9]{0,5}))?", re.ASCII)
MAX_PORT = 65_535
MAX_DB_DIGITS = 9

# kombu takes several URLs joined by ";".
NEXT_URL = re.compile(r";(?=[A-Za-z][A-Za-z0-9+.-]*://)")
# A URL with a port and words behind it is not matched: it is a text that begins with a URL.
IS_URL = re.compile(r"[A-Za-z0-9+.-]*://(?![^:/?#@]+:\d+[/?#][^@]*\s)")
LOGIN_WITHOUT_SCHEME = re.compile(r"\A[^\s/@]*:\S*@(?=\S*\Z)")
URL_IN_TEXT = re.compile(r"[A-Za-z0-9+.-]*://[^\s\"'<>]+")
# Greedy up to the last @, since a password may contain one.
PASSWORD = re.compile(r"(://[^:/?#]*:).*@", re.DOTALL)
SECRET_PARAMETER = re.compile(
    r"([?&](?:[^=&#]*(?:password|passwd|pwd|secret|token)[^=&#]*|[^=&#]*key)=)[^&#]*", re.IGNORECASE
)


@record(kw_only=True)
class ServerAddress:
    """A parsed URL. A sentinel or cluster address has `nodes`, which know the server: `topology` asks them."""

    host: str = "localhost"
    port: int = 6379
    path: str | None = None  # of a unix socket
    db: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    options: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)  # of the query
    kind: Kind = "server"
    nodes: tuple[Node, ...] = ()  # sentinels, or nodes of the cluster
    master: str = ""  # the name by which the sentinels know it

    def __str__(self) -> str:
        """The address without secrets, for messages and logs."""
        if self.kind == "socket":
            return f"unix://{self.path}?db={self.db}"
        if self.kind == "server":
            return f"{join_node((self.host, self.port))}/{self.db}"
        nodes = ",".join(map(join_node, self.nodes))
        return f"{nodes}/{self.master}/{self.db}" if self.kind == "sentinel" else f"cluster {nodes}"

    @property
    def greeting(self) -> list[tuple[str, ...]]:
        """The commands that open a connection."""
        commands: list[tuple[str, ...]] = []
        if self.password is not None:
            commands.append(("AUTH", self.username or "default", self.password))
        if self.db:
            commands.append(("SELECT", str(self.db)))
        return commands

    def at(self, host: str, port: int) -> ServerAddress:
        """The address of one server among those of this address, with the same login and TLS."""
        return replace(self, kind="server", host=host, port=port, nodes=(), master="")


def parse_server_url(url: str, *, what: str) -> ServerAddress:
    """Read the URL of a Redis or Valkey. Raises ConfigError, which begins with `what` and never shows the password.

    Options of the query: `db`, `username`, `password`; for TLS `ssl_cert_reqs=none|optional|required`, `ssl_check_hostname=false`,
    `ssl_ca_certs=FILE`, `ssl_ca_path=FOLDER`, `ssl_certfile=FILE`, `ssl_keyfile=FILE`, `ssl_password`; for the sentinels themselves
    `sentinel_username`, `sentinel_password`, and `sentinel_ssl=false` where only the servers speak TLS.
    """
    address, is_tls = read_url(url, what=what)
    return replace(address, tls=tls_context(address.options, what=what)) if is_tls else address


def check_server_url(url: str, *, what: str) -> ServerAddress:
    """As `parse_server_url`, but without reading the certificate files, which only the process that connects needs to have."""
    return read_url(url, what=what)[0]


def is_meant_for_redis(url: str) -> bool:
    """Whether the URL's scheme means a Redis or Valkey, also one that is misspelt (the URL is then refused as such)."""
    scheme = url.partition("://")[0].lower()
    return MEANT_FOR_REDIS.search(scheme.removeprefix("taskflow+")) is not None


def read_url(url: str, *, what: str) -> tuple[ServerAddress, bool]:
    """The address without its TLS context, and whether it needs one. Raises ConfigError."""
    parts = URL.fullmatch(url)
    if parts is None:
        raise ConfigError(f"{what}: the URL can't be read; expected one of {SUPPORTED}")
    scheme = parts["scheme"].lower().removeprefix("taskflow+")
    if scheme not in SCHEMES:
        raise ConfigError(
            f"{what}: the URL's scheme is {scheme!r}, but a Redis or Valkey is named by one of {SUPPORTED}"
        )
    kind, is_tls = SCHEMES[scheme]
    options = {name: values[-1] for name, values in parse_qs(parts["query"] or "").items()}
    check_options(options, kind, is_tls, what=what)
    login, _, hosts = parts["place"].rpartition("@")
    username, _, password = login.partition(":")
    nodes = read_nodes(hosts, kind, what=what)
    master, db = read_path(parts["path"], options, kind, what=what)
    address = ServerAddress(
        host=nodes[0][0],
        port=nodes[0][1],
        path=unquote(parts["path"]) if kind == "socket" else None,
        db=db,
        username=unquote(username) if username else options.get("username"),
        password=unquote(password) if password else options.get("password"),
        options=options,
        kind=kind,
        nodes=tuple(nodes) if kind in ("sentinel", "cluster") else (),
        master=master,
    )
    return address, is_tls


def read_nodes(hosts: str, kind: Kind, *, what: str) -> list[Node]:
    """The nodes of `host1,host2:26380,[::1]:26379`; only one is allowed where the URL names one server. Raises ConfigError."""
    nodes = []
    for text in hosts.split(","):
        match = NODE.fullmatch(text)
        port = 0 if match is None else int(match["port"] or DEFAULT_PORTS[kind])
        if match is None or not 1 <= port <= MAX_PORT:
            raise ConfigError(
                f"{what}: the URL can't be read: {text!r:.60} is no host, host:port or [IPv6]:port; write {FORMS[kind]}"
            )
        nodes.append((unquote(match["host"].strip("[]")).lower() or "localhost", port))
    if kind == "socket" and hosts:
        raise ConfigError(
            f"{what}: the URL's path of a socket begins with {hosts!r:.60}, but must begin with a slash: write {FORMS['socket']}"
        )
    if kind == "server" and len(nodes) > 1:
        raise ConfigError(
            f"{what}: the URL names {len(nodes)} hosts, but its scheme is for one server; for several write "
            f"{FORMS['sentinel']} or {FORMS['cluster']}"
        )
    return nodes


def read_path(path: str, options: Mapping[str, str], kind: Kind, *, what: str) -> tuple[str, int]:
    """The name of the master (empty unless `kind` is "sentinel") and the number of the database. Raises ConfigError."""
    text = "" if kind == "socket" else path.strip("/")
    master = ""
    if kind == "socket" and not path.strip("/"):
        raise ConfigError(f"{what}: the URL names no socket; write {FORMS['socket']}")
    if kind == "sentinel":
        master, _, text = text.partition("/")
        if not master:
            raise ConfigError(
                f"{what}: the URL names sentinels, but not the master to ask them for; write {FORMS['sentinel']}"
            )
    db = options.get("db") or text or "0"
    if not (db.isascii() and db.isdecimal() and len(db) <= MAX_DB_DIGITS):
        raise ConfigError(f"{what}: the database is {db!r:.60}, but must be a number, as in {FORMS[kind]}")
    if kind == "cluster" and int(db) != 0:
        raise ConfigError(
            f"{what}: the database is {db}, but a cluster has only database 0; "
            "to part deployments from each other, give each another TASKFLOW_NAMESPACE"
        )
    return unquote(master), int(db)


def check_options(options: Mapping[str, str], kind: Kind, is_tls: bool, *, what: str) -> None:
    """Raise ConfigError for an option without effect: ignored, it could leave the server unverified or the traffic unencrypted."""
    for name, value in options.items():
        if name.startswith("ssl_"):
            if not is_tls:
                raise ConfigError(
                    f"{what}: the URL has {name}, but its scheme is one without TLS; write rediss:// (or rediss+sentinel://, "
                    "rediss+cluster://), or leave the option out"
                )
            if name not in TLS_OPTIONS:
                raise ConfigError(
                    f"{what}: the URL's option {name} is unknown; for TLS there are {', '.join(TLS_OPTIONS)}"
                )
        elif name.startswith("sentinel_") and (kind != "sentinel" or name not in SENTINEL_OPTIONS):
            raise ConfigError(
                f"{what}: the URL's option {name} is unknown; for the sentinels of {FORMS['sentinel']} "
                f"there are {', '.join(SENTINEL_OPTIONS)}"
            )
        if name in ("ssl_check_hostname", "sentinel_ssl") and value.lower() not in WORDS:
            raise ConfigError(f"{what}: the URL's {name} is {value!r:.60}, but must be true or false")
    reqs = cert_reqs(options)
    if reqs not in CERT_REQS:
        raise ConfigError(
            f"{what}: the URL's ssl_cert_reqs is {reqs!r:.60}, but must be one of {', '.join(CERT_REQS)}"
        )


def cert_reqs(options: Mapping[str, str]) -> str:
    return options.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")


def tls_context(options: Mapping[str, str], *, what: str) -> ssl.SSLContext:
    """A context that verifies the server, unless the options say otherwise. Raises ConfigError for files that can't be read."""
    # The import takes 10 ms, which only a user of TLS pays.
    import ssl

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
    reqs = cert_reqs(options)
    if reqs == "none" or not WORDS[options.get("ssl_check_hostname", "true").lower()]:
        context.check_hostname = False
    modes = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
    context.verify_mode = modes[reqs]
    return context


def join_node(node: Node) -> str:
    host, port = node
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def redact(text: str) -> str:
    """`text` with "***" for the password of each URL in it, also for passwords in the query. For logs and messages.

    If the text is a URL, or several joined by ";", a password is hidden whatever characters it has.
    """
    if IS_URL.match(text):
        return redact_urls(text)
    if "://" in text:
        return URL_IN_TEXT.sub(lambda found: redact_urls(found[0]), text)
    return LOGIN_WITHOUT_SCHEME.sub("***@", text)


def redact_urls(urls: str) -> str:
    return ";".join(
        SECRET_PARAMETER.sub(r"\1***", PASSWORD.sub(r"\1***@", url)) for url in NEXT_URL.split(urls)
    )
