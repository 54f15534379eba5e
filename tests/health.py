"""Asks the health server of a process that a test has started."""

from __future__ import annotations

import http.client
from typing import Any

import orjson

from tests.processes import wait_until


def ask(port: int, path: str, *, method: str = "GET") -> tuple[int, dict[str, Any]]:
    """The status and the JSON of an answer; status 0 while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, orjson.loads(response.read())
    except ConnectionRefusedError:
        return 0, {}
    finally:
        connection.close()


def wait_for(port: int, path: str, status: int, *, why: str = "") -> dict[str, Any]:
    """Wait until the answer has this status, and `why` in its reason; return its JSON."""

    def has_come() -> dict[str, Any] | None:
        got, told = ask(port, path)
        return told if got == status and why in told["why"] else None

    return wait_until(has_come, what=f"{status} of {path}, with {why!r}", deadline_s=30)
