"""Runs an ASGI app for a WSGI server, on the app's own loop. Streams are refused: each would hold a thread of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

import orjson
from starlette.types import ASGIApp, Message

from taskflow.app import TaskFlow
from taskflow.web.api.answers import PROBLEM_TYPE
from taskflow.web.api.body import MAX_BODY_BYTES
from taskflow.web.catalogue.problems import Kind, Problem

STREAM = (b"content-type", b"text/event-stream")


class StreamRefused(Exception):
    """The answer would be a stream."""


class WsgiAdapter:
    """A WSGI app that hands each request to an ASGI app. `app` is the one whose loop is used."""

    def __init__(self, site: ASGIApp, app: TaskFlow) -> None:
        self.site = site
        self.app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        scope, body = scope_of(environ), body_of(environ)
        try:
            status, headers, answer = self.app._link.block_on(lambda: self.answer(scope, body))
        except StreamRefused:
            problem = Problem(
                Kind.NOT_FOUND,
                "there are no streams under WSGI; mount taskflow.web.asgi, or ask with ?wait=10s",
            )
            status, answer = problem.status, orjson.dumps(problem.to_json())
            headers = [("content-type", PROBLEM_TYPE), ("content-length", str(len(answer)))]
        start_response(f"{status} {HTTPStatus(status).phrase}", headers)
        return [answer]

    async def answer(self, scope: dict[str, Any], body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """The status, the headers and the body of the answer. Raises StreamRefused."""
        parts: list[bytes] = []
        started: Message = {}
        requests = iter([{"type": "http.request", "body": body, "more_body": False}])
        is_stream = asyncio.Event()

        async def receive() -> Message:
            request = next(requests, None)
            if request is None:
                # The client of a WSGI server is there until it has its answer; we leave only a stream.
                await is_stream.wait()
                return {"type": "http.disconnect"}
            return request

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                started.update(message)
                if STREAM in message["headers"]:
                    is_stream.set()
            else:
                parts.append(message.get("body", b""))

        await self.site(scope, receive, send)
        if is_stream.is_set():
            raise StreamRefused
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in started["headers"]]
        return started["status"], headers, b"".join(parts)


def scope_of(environ: dict[str, Any]) -> dict[str, Any]:
    """The request in the form of ASGI."""
    root = environ.get("SCRIPT_NAME", "").encode("latin-1").decode("utf-8", "replace")
    path = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace")
    headers = [
        (name[5:].replace("_", "-").lower().encode(), str(value).encode("latin-1"))
        for name, value in environ.items()
        if name.startswith("HTTP_")
    ]
    headers += [
        (name.encode(), str(environ[variable]).encode("latin-1"))
        for name, variable in (("content-type", "CONTENT_TYPE"), ("content-length", "CONTENT_LENGTH"))
        if environ.get(variable)
    ]
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
        "method": environ["REQUEST_METHOD"], "scheme": environ.get("wsgi.url_scheme", "http"), "root_path": root,
        "path": root + path, "raw_path": None, "query_string": environ.get("QUERY_STRING", "").encode("latin-1"),
        "headers": headers, "client": (environ.get("REMOTE_ADDR", ""), 0), "server": None,
    }  # fmt: skip


def body_of(environ: dict[str, Any]) -> bytes:
    """The body, or one byte more than is taken of one that is too large."""
    text = environ.get("CONTENT_LENGTH") or "0"
    length = int(text) if text.isdecimal() else 0
    return bytes(environ["wsgi.input"].read(min(length, MAX_BODY_BYTES + 1))) if length else b""
