"""Guard: who calls, and what the caller may do. Rule S14.4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from starlette.requests import Request

from taskflow.web.catalogue.operation import Scope
from taskflow.web.catalogue.problems import Kind, Problem

FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: a name for the audit list, and the scope; None for one that may only send events."""

    name: str
    scope: Scope | None

    def check(self, needed: Scope) -> None:
        """Raise Problem unless the caller has this scope."""
        if self.scope is None or not self.scope.includes(needed):
            has = f"has the scope {self.scope}" if self.scope else "is for events only"
            raise Problem(Kind.FORBIDDEN, f"this needs the scope {needed}, but {self.name} {has}")


class Guard(Protocol):
    """Says who calls."""

    async def caller(self, request: Request) -> Caller:
        """The caller of the API. Raises Problem for a request that is not let in."""
        ...


class OpenOnThisMachine:
    """Lets in everybody on this machine, and nobody else: for development.

    Pages of other sites are kept out: they reach this port too, under their own name (DNS rebinding), or as cross-site requests.
    """

    async def caller(self, request: Request) -> Caller:
        headers = request.headers
        check_is_local(headers.get("host", ""), "Host")
        if origin := headers.get("origin"):
            check_is_local(urlsplit(origin).netloc, "Origin")
        if headers.get("sec-fetch-site", "none") == "cross-site" and not origin:
            raise Problem(Kind.FOREIGN_ORIGIN, "a page of another site sent this request")
        if any(name in headers for name in FORWARDED):
            raise Problem(
                Kind.FOREIGN_ORIGIN,
                "a proxy forwarded this request; behind a proxy, start `taskflow web` with keys",
            )
        return Caller("dev", Scope.ADMIN)


def check_is_local(netloc: str, header: str) -> None:
    """Raise Problem unless the name is one of this machine's own."""
    name = urlsplit(f"//{netloc}").hostname if is_netloc(netloc) else None
    if name is None or not (name in ("localhost", "127.0.0.1", "::1") or name.endswith(".localhost")):
        raise Problem(Kind.FOREIGN_ORIGIN, f"{header} must be localhost or 127.0.0.1, got {netloc!r:.80}")


def is_netloc(text: str) -> bool:
    try:
        return bool(urlsplit(f"//{text}").hostname)
    except ValueError:
        return False
