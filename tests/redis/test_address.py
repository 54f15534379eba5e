"""URLs of stores and brokers: what they name, why one is refused, and that no password of theirs is shown. Rule S2.5."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest

from taskflow.errors import ConfigError
from taskflow.redis.address import ServerAddress, parse_server_url, redact

LONG = "1" * 5_000  # Python refuses to make an int of it


def parse(url: str) -> ServerAddress:
    return parse_server_url(url, what="store")


# --- what a URL names ---


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", ServerAddress()),
        ("redis://user:s%40cret@Host:7000/2", ServerAddress(host="host", port=7000, db=2, username="user", password="s@cret")),
        ("valkey://:pw@cache?db=3", ServerAddress(host="cache", db=3, password="pw")),
        ("redis://h?username=u&password=p%26q", ServerAddress(host="h", username="u", password="p&q")),
        ("redis://[::1]:7000/1", ServerAddress(host="::1", port=7000, db=1)),
        ("taskflow+redis://h/1", ServerAddress(host="h", db=1)),
        ("unix:///run/valkey.sock?db=1", ServerAddress(path="/run/valkey.sock", db=1, kind="socket")),
        (
            "redis+sentinel://me:pw@H1,h2:26380,[::1]/main/4",
            ServerAddress(
                host="h1", port=26379, db=4, username="me", password="pw", kind="sentinel", master="main",
                nodes=(("h1", 26379), ("h2", 26380), ("::1", 26379)),
            ),
        ),
        (
            "valkey+sentinel://s/main",
            ServerAddress(host="s", port=26379, kind="sentinel", master="main", nodes=(("s", 26379),)),
        ),
        (
            "redis+cluster://:pw@h1,h2:7001/0",
            ServerAddress(host="h1", password="pw", kind="cluster", nodes=(("h1", 6379), ("h2", 7001))),
        ),
    ],
)  # fmt: skip
def test_a_url_names_a_server_a_master_or_a_cluster(url: str, address: ServerAddress) -> None:
    assert parse(url) == address


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:secret@h:7000/2", "h:7000/2"),
        ("redis://:secret@[::1]/2", "[::1]:6379/2"),
        ("unix:///run/valkey.sock?password=secret", "unix:///run/valkey.sock?db=0"),
        ("redis+sentinel://u:secret@h1,h2/main/1?sentinel_password=secret", "h1:26379,h2:26379/main/1"),
        ("redis+cluster://u:secret@h1,h2", "cluster h1:6379,h2:6379"),
    ],
)
def test_an_address_shows_where_but_no_secret(url: str, shown: str) -> None:
    address = parse(url)
    assert str(address) == shown
    assert "secret" not in repr(address)


def test_a_server_that_sentinels_name_is_entered_as_the_url_says() -> None:
    named = parse("redis+sentinel://u:secret@h1,h2/main/1").at("10.0.0.7", 6400)
    assert named == ServerAddress(host="10.0.0.7", port=6400, db=1, username="u", password="secret")
    assert named.greeting == [("AUTH", "u", "secret"), ("SELECT", "1")]


# --- what is refused ---


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("nonsense", "can't be read; expected one of redis://"),
        ("amqp://localhost", "scheme is 'amqp'.* named by one of redis://.*redis.sentinel://.*redis.cluster://.*rediss://"),
        ("sentinel://h:26379", "scheme is 'sentinel'.*redis.sentinel://host1,host2:26380,host3/mymaster/0"),
        ("redis+socket:///run/redis.sock", "scheme is 'redis.socket'.*unix:///run/valkey.sock"),
        ("redis://localhost:nonsense/0", "'localhost:nonsense' is no host, host:port or .IPv6.:port; write redis://"),
        ("redis://h:0", "can't be read: 'h:0'"),
        ("redis://h:65536", "can't be read: 'h:65536'"),
        ("redis://[::1", "can't be read"),
        ("redis://a,b/0", "names 2 hosts, but its scheme is for one server; for several write redis.sentinel://"),
        ("redis://localhost/one", "database is 'one', but must be a number, as in redis://"),
        ("redis://h/²", "the database is .* but must be a number"),
        ("redis://h/٣", "the database is .* but must be a number"),
        (f"redis://h/{LONG}", "the database is .* but must be a number"),
        (f"redis://h?db={LONG}", "the database is .* but must be a number"),
        ("unix://run/valkey.sock", "begins with 'run', but must begin with a slash: write unix:///"),
        ("unix://?db=1", "names no socket"),
        ("redis+sentinel://h1,h2", "names sentinels, but not the master to ask them for; write redis.sentinel://"),
        ("redis+sentinel://h1,,h2/main/x", "database is 'x'"),
        ("redis+cluster://h1/1", "database is 1, but a cluster has only database 0.*TASKFLOW_NAMESPACE"),
        ("redis://h?ssl_ca_certs=/ca.pem", "has ssl_ca_certs, but its scheme is one without TLS; write rediss://"),
        ("redis://h?sentinel_password=secret", "option sentinel_password is unknown; for the sentinels of"),
        ("redis+sentinel://h/m?sentinel_pasword=secret", "option sentinel_pasword is unknown.*sentinel_password"),
        ("rediss+sentinel://h/m?sentinel_ssl=off", "sentinel_ssl is 'off', but must be true or false"),
        ("rediss://h?ssl_cert_reqs=nonee", "ssl_cert_reqs is 'nonee', but must be one of none, optional, required"),
        ("rediss://h?ssl_check_hostname=maybe", "ssl_check_hostname is 'maybe', but must be true or false"),
        ("rediss://h?ssl_cacerts=/ca.pem", "ssl_cacerts is unknown; for TLS there are .*ssl_ca_certs"),
        ("rediss://h?ssl_ca_certs=/no/such/file.pem", "file that the URL's ssl_ options name can't be used"),
        ("rediss://h?ssl_ca_certs=%00", "file that the URL's ssl_ options name can't be used"),
    ],
)  # fmt: skip
def test_a_url_that_can_not_be_used_is_refused_with_what_to_write(url: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s)^store: .*{text}") as caught:
        parse(url)
    assert "secret" not in str(caught.value)


# --- TLS ---


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate, and its key under the password `s3cret`."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "1",
         "-subj", "/CN=localhost", "-passout", "pass:s3cret", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder / "cert.pem", folder / "key.pem"


@pytest.mark.parametrize(
    ("query", "mode", "checks_name"),
    [
        ("", ssl.CERT_REQUIRED, True),
        ("?ssl_cert_reqs=required", ssl.CERT_REQUIRED, True),
        ("?ssl_cert_reqs=CERT_NONE", ssl.CERT_NONE, False),
        ("?ssl_cert_reqs=Optional&ssl_check_hostname=no", ssl.CERT_OPTIONAL, False),
        ("?ssl_check_hostname=false", ssl.CERT_REQUIRED, False),
        ("?ssl_check_hostname=true", ssl.CERT_REQUIRED, True),
    ],
)
@pytest.mark.parametrize("url", ["rediss://h", "rediss+sentinel://h/m", "valkeys+cluster://h"])
def test_a_server_is_verified_unless_the_url_says_otherwise(
    url: str, query: str, mode: ssl.VerifyMode, checks_name: bool
) -> None:
    context = parse(url + query).tls
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (mode, checks_name)


def test_a_certificate_of_ones_own_is_used_with_the_password_of_its_key(
    certificate: tuple[Path, Path],
) -> None:
    cert, key = certificate
    url = f"rediss://h?ssl_ca_certs={cert}&ssl_certfile={cert}&ssl_keyfile={key}&ssl_password="
    assert parse(url + "s3cret").tls is not None
    with pytest.raises(ConfigError, match="ssl_ options name can't be used") as caught:
        parse(url + "wr0ng")
    assert "wr0ng" not in str(caught.value)


# --- redaction ---


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://cache:6379/0", "redis://cache:6379/0"),
        ("redis://me@host", "redis://me@host"),
        ("redis://:secret@cache:6379/0", "redis://:***@cache:6379/0"),
        ("redis://:se/cret@cache:6379/0", "redis://:***@cache:6379/0"),
        ("redis://:se cret@cache:6379/0", "redis://:***@cache:6379/0"),
        ("redis://us@er:secret@host:1/0", "redis://us@er:***@host:1/0"),
        ("amqp://user:p%40ss@rabbit//", "amqp://user:***@rabbit//"),
        ("amqps://me:sec:r@t/x@host//", "amqps://me:***@host//"),
        ("amqp://a:secret@one;amqp://b:secret@two", "amqp://a:***@one;amqp://b:***@two"),
        ("redis://host?db=1&password=secret&x=2", "redis://host?db=1&password=***&x=2"),
        ("rediss://h?ssl_keyfile=/k.pem&ssl_password=secret", "rediss://h?ssl_keyfile=/k.pem&ssl_password=***"),
        ("redis+sentinel://u:secret@a,b/m?sentinel_password=secret", "redis+sentinel://u:***@a,b/m?sentinel_password=***"),
        ("redis+cluster://u:secret@a,b:1/0", "redis+cluster://u:***@a,b:1/0"),
        ("redis://h?key_prefix=a:&apiKey=secret", "redis://h?key_prefix=a:&apiKey=***"),
        ("sqs://AKIA:secret@?region=eu", "sqs://AKIA:***@?region=eu"),
        ("me:secret@host", "***@host"),
        ("://u:secret@h", "://u:***@h"),
        ("1redis://:secret@h", "1redis://:***@h"),
        ("", ""),
        ("can't reach 'redis://u:secret@h/0': refused", "can't reach 'redis://u:***@h/0': refused"),
        ("amqp://u:p@ss/w@host// and amqp://v:q@host2", "amqp://u:***@host2"),
        ("from amqp://u:p@ss/w@host// and amqp://v:q@host2", "from amqp://u:***@host// and amqp://v:***@host2"),
        ("at rediss://h?ssl_password=secret: no", "at rediss://h?ssl_password=*** no"),
        ('{"url":"http://host:80/","mail":"a@b.c"}', '{"url":"http://host:80/","mail":"a@b.c"}'),
        ("http://host:80/path and me@home", "http://host:80/path and me@home"),
        ("bob@example.com", "bob@example.com"),
    ],
)  # fmt: skip
def test_no_password_of_a_url_is_shown(text: str, shown: str) -> None:
    assert redact(text) == shown
