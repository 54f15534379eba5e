"""Counting: the site of `taskflow web`, each answer of which is counted for `/metrics`. Rule S13.1."""

from __future__ import annotations

import threading
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskflow.observability.families import REQUEST_TIME, REQUESTS
from taskflow.observability.metrics import Tally
from taskflow.web.event_api.receive import is_for_events

METHODS = frozenset(("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"))
PARTS = ("api", "v1")
NO_ANSWER = "0"  # the client went before there was one


class Counting:
    """An ASGI app around the site. The loop's thread counts, and the health server's reads."""

    def __init__(self, site: ASGIApp) -> None:
        self.site = site
        self._lock = threading.Lock()
        self._sums = Tally()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.site(scope, receive, send)
            return
        # Before the site has it, whose routes write into the scope.
        part = part_of(scope)
        began_s, status = time.monotonic(), NO_ANSWER

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self.site(scope, receive, counted)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.count(part, method, status, time.monotonic() - began_s)

    def count(self, part: str, method: str, status: str, took_s: float) -> None:
        with self._lock:
            self._sums.add((REQUESTS.name, part, method, status))
            self._sums.observe((REQUEST_TIME.name, part), REQUEST_TIME.buckets, took_s)

    def tally(self) -> Tally:
        """What was counted, as a copy."""
        tally = Tally()
        with self._lock:
            tally.merge(self._sums)
        return tally


def part_of(scope: Scope) -> str:
    """Which part of the site the request is for: events, api, v1 or pages."""
    if is_for_events(scope):
        return "events"
    first = scope["path"].removeprefix(scope.get("root_path", "")).split("/", 2)[1:2]
    return first[0] if first and first[0] in PARTS else "pages"
