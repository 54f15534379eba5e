"""Messages, functions and stores that a worker can't make sense of: said and kept, never a crash or a loop."""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import orjson
import pytest
from kombu.connection import Connection
from kombu.messaging import Producer

from taskflow import StoreVersionMismatch
from taskflow.broker.kombu_session import kombu_queue
from taskflow.broker.streams.bindings import BoundQueue
from taskflow.broker.topology import Topology
from taskflow.broker.urls import broker_url, register_transport
from tests.processes import wait_until
from tests.robustness.deployment import Deployment

FEWER_FUNCTIONS = """
from taskflow import TaskFlow
from tests.robustness.app import five

app = TaskFlow("robust")
app.function(id="five", trigger="robust/five")(five.handler)
"""

UNREADABLE_EVENTS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "no JSON": (b"\x80\x04not json", {}),
    "a pickle": (
        pickle.dumps({"a": 1}),
        {"content_type": "application/x-python-serialize", "content_encoding": "binary"},
    ),
    "no text": (b"\xff\xfe\x00", {"content_encoding": "utf-16"}),
    "an unknown compression": (b"[]", {"headers": {"compression": "application/x-nobody"}}),
    "a broken compression": (b"[]", {"headers": {"compression": "application/x-gzip"}}),
    "nothing": (b"", {}),
    "no array": (orjson.dumps({"name": "robust/five"}), {}),
    "no events": (orjson.dumps([1, None]), {}),
    "an event without its fields": (orjson.dumps([{"name": "robust/five"}]), {}),
    "deeply nested": (b"[" * 100_000, {}),
}


def publish(deployment: Deployment, bound: BoundQueue, messages: list[tuple[bytes, dict[str, Any]]]) -> None:
    """Put raw messages into a queue."""
    register_transport()
    queue: Any = kombu_queue(bound)
    options = {"key_prefix": Topology(deployment.namespace).key_prefix}
    with Connection(broker_url(deployment.env["TASKFLOW_BROKER"]), transport_options=options) as connection:
        producer = Producer(connection.channel(), auto_declare=False)
        queue(producer.channel).declare()
        for body, properties in messages:
            defaults = {"content_type": "application/json", "content_encoding": "utf-8"}
            producer.publish(body, exchange="", routing_key=queue.name, **(defaults | properties))


def dead_letters(deployment: Deployment) -> list[dict[bytes, bytes]]:
    rows: Any = deployment.redis.xrange(deployment.keys.dead_letters)
    return [fields for _, fields in rows]


def test_messages_that_cannot_be_read_are_kept_with_the_reason_and_the_others_go_on(
    deployment: Deployment,
) -> None:
    worker = deployment.start_worker()
    children = worker.children()
    topology = Topology(deployment.namespace)
    publish(deployment, topology.events_queue("robust"), list(UNREADABLE_EVENTS.values()))
    publish(
        deployment,
        topology.work_queue("robust", "default"),
        [(b"\xff", {}), (orjson.dumps({"queue": "no-such-queue"}), {})],
    )
    deployment.journal.check(deployment.wait_until_final(deployment.send("five", {"rest_s": 0.0}, count=5)))
    count = len(UNREADABLE_EVENTS) + 2
    wait_until(lambda: len(dead_letters(deployment)) >= count, what="dead letters", deadline_s=5)
    kept = dead_letters(deployment)
    assert sorted(letter[b"body"] for letter in kept) == sorted(
        [body for body, _ in UNREADABLE_EVENTS.values()] + [b"\xff", b'{"queue":"no-such-queue"}']
    )
    assert all(letter[b"reason"] for letter in kept)
    # None of them comes back, now or after a restart of the process.
    streams: Any = deployment.redis.keys(f"{topology.key_prefix}q:*")
    assert len(streams) == 2
    wait_until(lambda: not any(deployment.redis.xlen(stream) for stream in streams), what="empty queues")
    assert worker.children() == children
    assert "Traceback" not in worker.stderr


def test_runs_of_a_function_that_the_code_does_not_have_wait_for_a_worker_that_has_it(
    deployment: Deployment,
) -> None:
    deployment.start_beat()
    (deployment.folder / "fewer.py").write_text(FEWER_FUNCTIONS)
    assert deployment.start_worker().stop() == 0  # it has registered all functions
    unknown = deployment.invoke("held", count=3)
    worker = deployment.start("worker", "-A", "fewer:app", "--processes", "1")
    worker.wait_for_line("robust/held has ready runs, but this worker's code has no such function")
    deployment.journal.check(deployment.wait_until_final(deployment.send("five", {"rest_s": 0.0}, count=20)))
    # Two more messages of beat say that there is work: the worker leaves it alone.
    for _ in range(2):
        wait_for_work_message(deployment)
    assert worker.stderr.count("has ready runs") == 1
    for run in deployment.runs(unknown):
        assert run.status == "queued"
        assert int(run.fields["fence"]) <= 2, "it was taken once and given back, not again and again"
    deployment.open_gate()
    deployment.start_worker()
    deployment.journal.check(deployment.wait_until_final(unknown))


def wait_for_work_message(deployment: Deployment) -> None:
    def mark() -> object:
        return deployment.redis.hgetall(f"{deployment.keys.prefix}hints")

    before = mark()
    wait_until(lambda: mark() != before, what="a work message", deadline_s=10)


@pytest.mark.parametrize("command", [("worker", "-A", "tests.robustness.app:app"), ("beat",)])
def test_store_of_another_major_version_is_refused(deployment: Deployment, command: tuple[str, ...]) -> None:
    deployment.redis.set(f"{deployment.keys.prefix}version", "99")
    process = deployment.start(*command)
    assert process.wait() == 1
    assert "format 99" in process.stderr
    assert "Traceback" not in process.stderr
    keys: Any = deployment.redis.keys(f"{deployment.keys.prefix}*")
    assert keys == [f"{deployment.keys.prefix}version".encode()], "nothing was written"
    with pytest.raises(StoreVersionMismatch, match="format 99"):
        deployment.invoke("held")


def test_unknown_events_are_recorded_and_start_nothing(deployment: Deployment, tmp_path: Path) -> None:
    worker = deployment.start_worker()
    (uid,) = deployment.app.send("robust/nobody-listens", {"n": 1})
    wait_until(lambda: deployment.redis.exists(deployment.keys.event(uid)), what="the event")
    assert dead_letters(deployment) == []
    assert len(worker.stderr.splitlines()) == 1
