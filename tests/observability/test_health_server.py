"""S13.3: the server of probes speaks HTTP, and no client can harm another."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Thread

import orjson
import pytest

from taskflow.errors import ConfigError
from taskflow.observability.families import SLOTS
from taskflow.observability.health import (
    MAX_CONNECTIONS,
    MAX_HEAD_BYTES,
    Finding,
    HealthServer,
    Probes,
    listen,
)
from taskflow.observability.metrics import Tally
from taskflow.observability.probe import run_plainly
from tests.health import ask
from tests.observability.prometheus import scrape


def divide() -> Finding:
    return Finding(str(1 / 0))


def counted() -> Tally:
    tally = Tally()
    tally.set(SLOTS, 2, "busy")
    return tally


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server that is live, not ready, and fails when it is asked whether it has started."""
    probes = Probes(
        live=Finding, ready=lambda: Finding("draining", {"children": [1]}), started=divide, metrics=counted
    )
    with serving(probes) as port:
        yield port


@contextmanager
def serving(probes: Probes) -> Iterator[int]:
    listener = listen("127.0.0.1", 0)
    server = HealthServer(listener, probes)
    thread = Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.stop()
        thread.join()


def send(port: int, data: bytes) -> bytes:
    """Send it as it is, and return all that comes until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_it_answers_200_or_503_and_json_says_why(port: int) -> None:
    assert ask(port, "/livez") == (200, {"ok": True, "why": ""})
    assert ask(port, "/livez?verbose") == (200, {"ok": True, "why": ""})
    assert ask(port, "/readyz") == (503, {"ok": False, "why": "draining", "children": [1]})


def test_metrics_are_text_for_prometheus(port: int) -> None:
    assert scrape(port).rows == {("taskflow_slots", (("state", "busy"),)): 2}
    head, _, body = send(port, b"HEAD /metrics HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ") and body == b""


def test_metrics_that_fail_are_told_and_the_next_question_is_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails() -> Tally:
        raise ZeroDivisionError

    with serving(Probes(live=Finding, ready=Finding, started=Finding, metrics=fails)) as port:
        assert ask(port, "/metrics")[0] == 500
        assert ask(port, "/livez")[0] == 200
    assert "/metrics could not be answered" in caplog.text


def test_other_paths_and_methods_are_refused(port: int) -> None:
    assert ask(port, "/")[0] == 404
    assert ask(port, "/livez/more")[0] == 404
    assert ask(port, "/livez", method="POST")[0] == 405
    assert b"Allow: GET, HEAD" in send(port, b"DELETE /livez HTTP/1.1\r\n\r\n")
    assert send(port, b"hello\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_head_has_the_status_and_no_body(port: int) -> None:
    head, _, body = send(port, b"HEAD /readyz HTTP/1.1\r\nHost: here\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert body == b""


def test_a_probe_that_fails_is_told_and_the_next_one_is_answered(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert ask(port, "/startupz")[0] == 500
    assert "ZeroDivisionError" in caplog.text
    assert ask(port, "/livez")[0] == 200


def test_a_request_in_pieces_is_answered(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        for byte in b"GET /livez HTTP/1.1\r\n\r\n":
            connection.sendall(bytes([byte]))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_a_request_without_end_is_cut_off(port: int) -> None:
    try:
        answer = send(port, b"GET /livez HTTP/1.1\r\nX: " + b"x" * 2 * MAX_HEAD_BYTES)
    except ConnectionError:  # closed while it was sent
        answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")
    assert ask(port, "/livez")[0] == 200


def test_clients_that_say_nothing_hold_up_nobody_and_are_closed(port: int) -> None:
    with ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            for _ in range(2 * MAX_CONNECTIONS)
        ]
        began_s = time.monotonic()
        assert ask(port, "/livez")[0] == 200
        assert time.monotonic() - began_s < 2
        # The oldest had to go for those that came later, and the rest are closed when their time is over.
        for connection in silent:
            assert connection.recv(1) == b""


def test_a_port_that_is_taken_is_an_error_that_says_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {taken} of 127.0.0.1: Address already in use"):
            listen("127.0.0.1", taken)


def test_the_probe_prints_the_answer_and_exits_by_it(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--port", str(port)]
    assert (run_plainly(["live", *at]), capsys.readouterr().out) == (0, "live\n")
    assert (run_plainly(["ready", *at]), capsys.readouterr().out) == (1, "not ready: draining\n")
    assert run_plainly(["--json", *at]) == 1
    assert orjson.loads(capsys.readouterr().out) == {"ok": False, "why": "draining", "children": [1]}


def test_the_probe_leaves_what_is_not_plainly_right_to_the_command() -> None:
    for arguments in (
        ["--help"],
        ["alive"],
        ["--port"],
        ["--port", "x"],
        ["--port", "70000"],
        ["--port=9540"],
    ):
        assert run_plainly(arguments) is None


def test_the_probe_knows_nobody_from_somebody_else(
    server_of_something_else: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_plainly(["--port", str(server_of_something_else)]) == 2
    assert "is no health server of taskflow" in capsys.readouterr().err


@pytest.fixture
def server_of_something_else() -> Iterator[int]:
    """It answers one request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

        thread = Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()
