"""Messages of a child, and how its end is told."""

from __future__ import annotations

import pytest

from taskflow.worker.messages import Failed, Hello, Message, Ready, Recycle, decode, encode
from taskflow.worker.supervisor.child_process import Exit


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (3, "exit code 3"),
        (-9, "killed by signal 9 (SIGKILL; out of memory?)"),
        (-11, "killed by signal 11 (SIGSEGV)"),
        (-40, "killed by signal 40 (no name)"),
    ],
)
def test_exit_is_told_in_words(code: int, cause: str) -> None:
    assert Exit(code=code).cause == cause


@pytest.mark.parametrize(
    "message",
    [
        Hello(
            child_id="w:1", app_id="shop", store_url="redis://localhost", namespace="test", app_version="7"
        ),
        Ready(),
        Failed("cannot import the app", hint="Repair it."),
        Recycle("a step\nwas abandoned"),
    ],
)
def test_message_survives_the_pipe_as_one_line(message: Message) -> None:
    line = encode(message)
    assert line.count(b"\n") == 1
    assert decode(line.strip()) == message


@pytest.mark.parametrize(
    "line", [b"", b"hello", b"[]", b'{"kind":"bye"}', b'{"kind":"failed"}', b'{"kind":"ready","x":1}']
)
def test_line_that_is_no_message_is_refused_with_the_line(line: bytes) -> None:
    with pytest.raises(ValueError, match="expected a message of a child"):
        decode(line)
