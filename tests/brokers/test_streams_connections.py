"""Connections to Redis and Valkey: sockets, credentials, TLS, forks, servers in trouble."""
# mypy: disable-error-code="no-untyped-call, func-returns-value"

from __future__ import annotations

import os
import subprocess
import time
from typing import Any

import pytest
import redis
from kombu.entity import Exchange, Queue

from tests.brokers.kombu_user import NewConnection, Receiver, bodies
from tests.servers import RedisServer, RespServer, ValkeyServer, free_port


def test_a_unix_socket_and_a_database_work(streams: RespServer, connect: NewConnection) -> None:
    with connect(streams.unix_url.replace("db=0", "db=5")).SimpleQueue("unix") as queue:
        queue.put("over a file")
        message = queue.get(timeout=5)
        assert message.payload == "over a file"
        message.ack()
    with redis.Redis(unix_socket_path=str(streams.socket_path), db=5) as admin:
        assert admin.dbsize() > 0


def test_user_and_password_work(connect: NewConnection) -> None:
    arguments = ["--user", "default", "off", "--user", "app", "on", ">s:e/c@ret", "~*", "&*", "+@all"]
    with ValkeyServer(args=arguments) as server:
        url = server.url.replace("redis://", "redis://app:s%3Ae%2Fc%40ret@")
        connection = connect(url)
        with connection.SimpleQueue("secured") as queue:
            queue.put("x")
            queue.get(timeout=5).ack()
        assert "s:e" not in connection.as_uri()
        assert "s%3Ae" not in repr(connection)
        connection.release()


def test_tls_works_and_checks_the_certificate(connect: NewConnection, tmp_path: Any) -> None:
    if not RedisServer.is_installed():
        pytest.skip("the embedded Valkey has no TLS; apt-get install redis-server")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        + [
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        ],
        check=True,
        capture_output=True,
    )
    port = free_port()
    arguments = ["--tls-port", str(port), "--tls-auth-clients", "no"]
    arguments += [
        "--tls-cert-file",
        str(certificate),
        "--tls-key-file",
        str(key),
        "--tls-ca-cert-file",
        str(certificate),
    ]
    with RedisServer(args=arguments):
        connection = connect(f"rediss://localhost:{port}/0?ssl_ca_certs={certificate}")
        with connection.SimpleQueue("tls") as queue:
            for number in range(50):
                queue.put("x" * 20_000 + str(number))
            for _ in range(50):
                queue.get(timeout=5).ack()
        connection.release()
        with pytest.raises(OSError, match="(?i)certificate"):
            connect(f"rediss://localhost:{port}/0").connect()


def test_the_second_url_is_used_when_the_first_is_dead(streams: RespServer, connect: NewConnection) -> None:
    connection = connect(f"redis://127.0.0.1:1/0;{streams.url}")
    connection.ensure_connection(max_retries=3, interval_start=0)
    with connection.SimpleQueue("failover") as queue:
        queue.put("x")
        queue.get(timeout=5).ack()


def test_a_fork_leaves_the_parents_connection_alone(connect: NewConnection) -> None:
    connection = connect()
    queue = Queue("forked", Exchange("forked"), routing_key="forked")
    receiver = Receiver(connection, [queue], acks=False)
    producer = connection.Producer()
    producer.publish("held by the parent", exchange="forked", routing_key="forked")
    receiver.wait_for(1)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            for number in range(20):
                connection.Producer().publish(number, exchange="forked", routing_key="forked")
            connection.release()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    assert status == 0
    receiver.messages[0].ack()
    receiver.wait_for(21)
    assert bodies(receiver.messages[1:]) == list(range(20))
    assert not any(message.delivery_info["redelivered"] for message in receiver.messages)


def test_a_forked_child_that_only_closes_disturbs_nothing(connect: NewConnection) -> None:
    connection = connect()
    queue = Queue("closing", Exchange("closing"), routing_key="closing")
    receiver = Receiver(connection, [queue], acks=False)
    producer = connection.Producer()
    producer.publish("held", exchange="closing", routing_key="closing")
    receiver.wait_for(1)
    pid = os.fork()
    if pid == 0:
        try:
            receiver.channel.close()
            connection.release()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    receiver.messages[0].ack()
    producer.publish("next", exchange="closing", routing_key="closing")
    receiver.wait_for(2)
    receiver.drain(0.05)
    assert bodies(receiver.messages) == ["held", "next"]


def test_a_server_that_forgot_the_scripts_gets_them_again(connect: NewConnection, admin: redis.Redis) -> None:
    connection = connect()
    queue = Queue("scripts", Exchange("scripts"), routing_key="scripts")
    receiver = Receiver(connection, [queue], acks=False)
    admin.script_flush()
    connection.Producer().publish("x", exchange="scripts", routing_key="scripts")
    receiver.wait_for(1)
    admin.script_flush()
    receiver.messages[0].requeue()
    receiver.wait_for(2)
    admin.script_flush()
    assert queue(connection.default_channel).purge() == 0


def test_a_consumer_whose_prefetch_is_used_up_costs_no_time_of_the_processor(
    connect: NewConnection,
) -> None:
    connection = connect(claim_idle_ms=1000)
    queue = Queue("full", Exchange("full"), routing_key="full")
    receiver = Receiver(connection, [queue], acks=False, prefetch=1)
    connection.Producer().publish("x", exchange="full", routing_key="full")
    receiver.wait_for(1)
    used_s = time.process_time()
    receiver.drain(2.5)
    assert time.process_time() - used_s < 0.1


def test_a_full_server_refuses_and_the_sender_is_told(connect: NewConnection) -> None:
    with ValkeyServer(args=["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]) as server:
        connection = connect(server.url)
        queue = connection.SimpleQueue("full")
        with pytest.raises(connection.channel_errors, match="OOM|maxmemory"):
            for _ in range(100):
                queue.put("x" * 100_000)
        connection.release()
