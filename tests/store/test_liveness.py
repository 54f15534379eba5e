"""The supervisor's blocking store: heartbeats, hand-back, and how it survives a bad connection. Rules S9.3, S9.5, S8.3."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import hiredis
import pytest
import redis

from taskflow.errors import ConfigError, StoreUnavailable, StoreVersionMismatch
from taskflow.store.keys import SEPARATOR, Keys
from taskflow.store.liveness import HAND_BACK_BATCH, LivenessStore
from tests.processes import wait_until
from tests.servers import REDIS_HINT, RedisServer, ValkeyServer, free_port

WORKER, CHILD = "host-1-abc", "host-1-abc:1"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace)


@pytest.fixture
def client(valkey_url: str) -> Iterator[redis.Redis]:
    """Looks at what is in the store."""
    with redis.Redis.from_url(valkey_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def store(valkey_url: str, namespace: str) -> Iterator[LivenessStore]:
    store = LivenessStore(valkey_url, namespace=namespace)
    yield store
    store.close()


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    """A server of this test's own, to stop and restart."""
    with ValkeyServer() as server:
        yield server


def claim_runs(client: redis.Redis, keys: Keys, count: int) -> list[str]:
    """Runs that the child holds, as `claim_runs` leaves them."""
    run_ids = [f"run{number}" for number in range(count)]
    with client.pipeline(transaction=False) as pipeline:
        for run_id in run_ids:
            pipeline.hset(keys.run(run_id), items=[
                "by", CHILD, "function", "shop/f", "queue", "default", "score", "1", "status", "running", "fence", "1",
            ])  # fmt: skip
            pipeline.hset(keys.claims(CHILD), run_id, "1")
        pipeline.execute()
    return run_ids


# What it says to the store


def test_heartbeat_tells_what_the_worker_serves_until_it_leaves(
    valkey_url: str, namespace: str, client: redis.Redis, keys: Keys
) -> None:
    """S10.5"""
    store = LivenessStore(valkey_url, namespace=namespace, app_id="shop", queues=("default", "video"))
    store.heartbeat(WORKER, [CHILD], now_ms=now_ms())
    assert client.hgetall(keys.serving) == {WORKER: "shop\x1fdefault\x1fvideo"}
    assert client.smembers(f"{keys.prefix}worker:{WORKER}") == {CHILD}
    store.leave(WORKER)
    assert not client.exists(keys.serving)
    store.close()


def test_heartbeat_tells_whether_the_worker_was_known(store: LivenessStore) -> None:
    assert store.heartbeat(WORKER, [CHILD], now_ms=now_ms()) is False
    assert store.heartbeat(WORKER, [CHILD], now_ms=now_ms()) is True
    store.leave(WORKER)
    assert store.heartbeat(WORKER, [CHILD], now_ms=now_ms()) is False


def test_heartbeat_registers_the_worker_with_its_time_and_all_children(
    store: LivenessStore, client: redis.Redis, keys: Keys
) -> None:
    store.heartbeat(WORKER, [CHILD, f"{WORKER}:2"], now_ms=now_ms())
    assert abs(float(client.zscore(keys.workers, WORKER) or 0) - now_ms()) < 1000
    assert client.smembers(f"{keys.prefix}worker:{WORKER}") == {CHILD, f"{WORKER}:2"}


def test_crashed_child_hands_back_all_its_claims_however_many(
    store: LivenessStore, client: redis.Redis, keys: Keys
) -> None:
    count = 2 * HAND_BACK_BATCH + 1
    run_ids = claim_runs(client, keys, count)
    assert store.hand_back(CHILD, cause="killed by signal 9", crashed=True, now_ms=now_ms()) == count
    assert client.zcard(keys.ready("shop/f", "default")) == count
    assert client.hmget(keys.run(run_ids[0]), "status", "crashes", "crash_log") == [
        "queued",
        "1",
        "killed by signal 9",
    ]
    assert store.hand_back(CHILD, cause="killed by signal 9", crashed=True, now_ms=now_ms()) == 0, "repeated"


def test_child_that_was_told_to_end_counts_no_crash(
    store: LivenessStore, client: redis.Redis, keys: Keys
) -> None:
    (run_id,) = claim_runs(client, keys, 1)
    assert store.hand_back(CHILD, cause="worker stopped", crashed=False, now_ms=now_ms()) == 1
    assert client.hmget(keys.run(run_id), "status", "crashes") == ["queued", None]


def test_supervisor_that_has_no_broker_leaves_the_work_message_to_the_reaper(
    store: LivenessStore, client: redis.Redis, keys: Keys
) -> None:
    (run_id,) = claim_runs(client, keys, 1)
    client.hset(f"{keys.prefix}hints", f"shop{SEPARATOR}default", str(now_ms()))
    store.hand_back(CHILD, cause="worker stopped", crashed=False, now_ms=now_ms())
    assert client.hgetall(f"{keys.prefix}hints") == {}, "no message counts as under way"


# Connections


def test_call_fails_within_a_second_while_the_store_is_silent_and_the_next_one_connects_anew(
    server: ValkeyServer,
) -> None:
    store = LivenessStore(server.url)
    store.heartbeat(WORKER, [], now_ms=now_ms())
    server.pause()
    began_s = time.monotonic()
    with pytest.raises(StoreUnavailable, match=f"the store at 127.0.0.1:{server.port}/0: no answer in time"):
        store.heartbeat(WORKER, [], now_ms=now_ms())
    with pytest.raises(StoreUnavailable):
        store.heartbeat(WORKER, [], now_ms=now_ms())
    assert time.monotonic() - began_s < 2.5
    server.resume()
    assert store.heartbeat(WORKER, [], now_ms=now_ms()) is True
    store.close()


def test_restarted_store_is_taught_the_scripts_again(server: ValkeyServer) -> None:
    store = LivenessStore(server.url)
    store.heartbeat(WORKER, [], now_ms=now_ms())
    server.restart()
    with pytest.raises(StoreUnavailable):
        store.heartbeat(WORKER, [], now_ms=now_ms())
    assert store.heartbeat(WORKER, [], now_ms=now_ms()) is False
    store.close()


def test_store_that_forgot_its_scripts_is_taught_them_by_the_next_call(server: ValkeyServer) -> None:
    store = LivenessStore(server.url)
    store.heartbeat(WORKER, [], now_ms=now_ms())
    with redis.Redis.from_url(server.url) as client:
        client.script_flush()
    with pytest.raises(StoreUnavailable, match="NOSCRIPT"):
        store.heartbeat(WORKER, [], now_ms=now_ms())
    assert store.heartbeat(WORKER, [], now_ms=now_ms()) is True
    store.close()


def test_store_that_is_not_there_is_named_without_the_password() -> None:
    port = free_port()
    store = LivenessStore(f"redis://me:s3cret@127.0.0.1:{port}/3")
    told = f"the store at 127.0.0.1:{port}/3: the connection was refused"
    with pytest.raises(StoreUnavailable, match=told) as caught:
        store.heartbeat(WORKER, [], now_ms=now_ms())
    assert "s3cret" not in str(caught.value)


def test_password_and_database_of_the_url_are_used() -> None:
    with ValkeyServer(args=["--requirepass", "s3cret/@"]) as server:
        address = f"127.0.0.1:{server.port}/5"
        store = LivenessStore(f"redis://:s3cret%2F%40@{address}")
        store.heartbeat(WORKER, [], now_ms=now_ms())
        store.close()
        with redis.Redis(port=server.port, password="s3cret/@", db=5) as client:
            assert client.exists("tf:{0}:workers")
        with pytest.raises(StoreUnavailable, match="WRONGPASS"):
            LivenessStore(f"redis://:wrong@{address}").heartbeat(WORKER, [], now_ms=now_ms())
        with pytest.raises(StoreUnavailable, match="NOAUTH"):
            LivenessStore(f"redis://{address}").heartbeat(WORKER, [], now_ms=now_ms())


def test_unix_socket_is_used(server: ValkeyServer) -> None:
    store = LivenessStore(server.unix_url)
    assert store.heartbeat(WORKER, [], now_ms=now_ms()) is False
    store.close()


@pytest.mark.redis
@pytest.mark.skipif(not RedisServer.is_installed(), reason=REDIS_HINT)
def test_tls_works_and_checks_the_certificate(tmp_path: Path) -> None:
    certificate, key, port = tmp_path / "cert.pem", tmp_path / "key.pem", free_port()
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    tls = ["--tls-port", str(port), "--tls-auth-clients", "no", "--tls-cert-file", str(certificate)]
    with RedisServer(args=[*tls, "--tls-key-file", str(key)]):
        store = LivenessStore(f"rediss://localhost:{port}/0?ssl_ca_certs={certificate}")
        assert store.heartbeat(WORKER, [], now_ms=now_ms()) is False
        store.close()
        with pytest.raises(StoreUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            LivenessStore(f"rediss://localhost:{port}/0").heartbeat(WORKER, [], now_ms=now_ms())


def test_scheme_that_is_no_store_is_refused() -> None:
    with pytest.raises(ConfigError, match="a Redis or Valkey is named by one of"):
        LivenessStore("amqp://localhost")


def test_closing_ends_the_connection_though_a_forked_child_holds_a_copy_of_it(server: ValkeyServer) -> None:
    store = LivenessStore(server.url)
    store.heartbeat(WORKER, [], now_ms=now_ms())
    copy = os.dup(store.client.fileno())
    store.close()
    with redis.Redis.from_url(server.url) as client:
        wait_until(lambda: len(client.client_list()) == 1, what="the end of the connection")
    os.close(copy)


def test_store_of_another_version_is_refused_before_anything_is_written(
    store: LivenessStore, client: redis.Redis, keys: Keys
) -> None:
    client.set(f"{keys.prefix}version", "99")
    with pytest.raises(StoreVersionMismatch, match="format 99, but this version reads format 2"):
        store.heartbeat(WORKER, [], now_ms=now_ms())
    assert client.keys(f"{keys.prefix}*") == [f"{keys.prefix}version"]


# The clock


class StoreInTheFuture:
    """A server whose TIME is an hour ahead; it notes the commands."""

    def __init__(self) -> None:
        self.commands: list[list[bytes]] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.listener.getsockname()[1]}"

    def serve(self) -> None:
        connection, _ = self.listener.accept()
        reader = hiredis.Reader()
        with connection:
            while data := connection.recv(65_536):
                reader.feed(data)
                while (command := reader.gets()) is not False:
                    self.commands.append(command)
                    connection.sendall(self.answer(command))

    def answer(self, command: list[bytes]) -> bytes:
        match command[0]:
            case b"TIME":
                return b"*2\r\n$10\r\n%d\r\n$1\r\n0\r\n" % (now_ms() // 1000 + 3600)
            case b"CLIENT":
                return b":7\r\n"
            case b"GET":
                return b"$-1\r\n"
            case b"EVALSHA":
                return b":1\r\n"
            case _:
                return b"+OK\r\n"

    def close(self) -> None:
        self.thread.join()
        self.listener.close()


def test_time_of_a_heartbeat_is_the_stores_and_not_this_hosts() -> None:
    server = StoreInTheFuture()
    store = LivenessStore(server.url)
    store.heartbeat(WORKER, [CHILD], now_ms=now_ms())
    store.close()
    server.close()
    (beat,) = [command for command in server.commands if command[0] == b"EVALSHA"]
    assert abs(int(beat[4]) - now_ms() - 3_600_000) < 2000
