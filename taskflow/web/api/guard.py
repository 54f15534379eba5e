"""Guard: who calls, and what the caller may do. Rule S14.4."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from taskflow.event import Event
from taskflow.web.catalogue.operation import Scope
from taskflow.web.catalogue.problems import Kind, Problem

CORS = {
    "access-control-allow-methods": "GET, POST, OPTIONS",
    "access-control-allow-headers": "*",
    "access-control-max-age": "3600",
}
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


async def spend_nothing(events: int) -> None:
    """For senders without a rate."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends events: a name, which events it may send, and what takes events from its rate."""

    name: str
    allows: Callable[[str], bool] = lambda name: True
    spend: Callable[[int], Awaitable[None]] = spend_nothing

    def check_names(self, events: Sequence[Event]) -> None:
        """Raise Problem unless the sender may send all of them."""
        for index, event in enumerate(events):
            if not self.allows(event.name):
                told = f"event {index}: the {self.name} may not send {event.name!r:.80}"
                raise Problem(Kind.FORBIDDEN, told)


class Guard(Protocol):
    """Says who calls."""

    server_kind: str  # what Inngest's SDKs are told: "dev" or "cloud"

    async def sender(self, headers: Mapping[str, str], key: str) -> Sender:
        """Who sends events, by the key in the address. Raises Problem for a request that is not let in."""
        ...

    def cors(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers that let pages of other origins send events."""
        ...

    async def caller(self, headers: Mapping[str, str]) -> Caller:
        """The caller of the API. Raises Problem for a request that is not let in."""
        ...


class OpenOnThisMachine:
    """Lets in everybody on this machine, and nobody else: for development.

    Pages of other sites are kept out: they reach this port too, under their own name (DNS rebinding), or as cross-site requests.
    """

    server_kind = "dev"

    async def sender(self, headers: Mapping[str, str], key: str) -> Sender:
        return Sender((await self.caller(headers)).name)

    def cors(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Only pages of this machine may send."""
        origin = headers.get("origin")
        if not origin or not is_local(urlsplit(origin).netloc):
            return {}
        return {"access-control-allow-origin": origin, **CORS}

    async def caller(self, headers: Mapping[str, str]) -> Caller:
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
    if not is_local(netloc):
        raise Problem(Kind.FOREIGN_ORIGIN, f"{header} must be localhost or 127.0.0.1, got {netloc!r:.80}")


def is_local(netloc: str) -> bool:
    try:
        name = urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return False
    return name in ("localhost", "127.0.0.1", "::1") or name.endswith(".localhost")
