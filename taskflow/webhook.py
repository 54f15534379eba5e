"""Webhook: what `@app.webhook` makes of a function: who may send, and which events a request stands for. Rule S14.7."""

from __future__ import annotations

import inspect
from asyncio import to_thread
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Required, TypeAlias, TypedDict, TypeVar

from taskflow.config import check_slug
from taskflow.errors import ConfigError
from taskflow.event import MAX_ID_CHARS, AnyEvent, Event, events_of
from taskflow.event_type import EventTypes
from taskflow.values.keywords import check_keywords
from taskflow.verify import Verification
from taskflow.webhook_request import WebhookRequest

MAX_BYTES = 1024 * 1024
LARGEST_BYTES = 8 * 1024 * 1024

Made: TypeAlias = AnyEvent | Sequence[AnyEvent] | None
Transform: TypeAlias = Callable[[WebhookRequest], Made] | Callable[[WebhookRequest], Awaitable[Made]]
F = TypeVar("F", bound=Callable[[WebhookRequest], Any])


class WebhookOptions(TypedDict, total=False):
    """The options of `@app.webhook`.

    verify     who may send: `verify.github(secret)`, ... of `taskflow.verify`; `verify.nothing()` lets in everybody
    id         what the sender calls a delivery; by default as `verify` knows it. The same id starts nothing twice in 24 h
    reply      an answer (a JSON value) to a request that asks for one, and brings no events; None for all others
    max_bytes  the greatest body that is taken: 1 MiB unless set, 8 MiB at most
    """

    verify: Required[Verification]
    id: Callable[[WebhookRequest], str | None] | None
    reply: Callable[[WebhookRequest], Any] | None
    max_bytes: int | None


class Webhook:
    """A webhook of an app: checks requests, and makes events of them."""

    def __init__(
        self, name: str, transform: Callable[[WebhookRequest], Any], options: WebhookOptions
    ) -> None:
        check_keywords(options, WebhookOptions, what=f"webhook {name!r}")
        check_slug(name, what="the name of a webhook")
        if not isinstance(options.get("verify"), Verification):
            raise ConfigError(
                f"webhook {name!r}: verify must say who may send, like verify.github(secret); verify.nothing() lets in everybody"
            )
        max_bytes = options.get("max_bytes") or MAX_BYTES
        if type(max_bytes) is not int or not 1 <= max_bytes <= LARGEST_BYTES:
            raise ConfigError(
                f"webhook {name!r}: max_bytes must be from 1 to {LARGEST_BYTES:,}, got {max_bytes!r:.40}"
            )
        self.name = name
        self.transform = transform
        self.verification = options["verify"]
        self.id_of = options.get("id")
        self.reply_of = options.get("reply")
        self.max_bytes = max_bytes

    def reply(self, request: WebhookRequest) -> Any:
        """The answer that the sender asks for; None if it does not."""
        return self.verification.reply(request) if self.reply_of is None else self.reply_of(request)

    def delivery_id(self, request: WebhookRequest) -> str | None:
        """What the sender calls this delivery, if it does."""
        return self.verification.delivery_id(request) if self.id_of is None else self.id_of(request)

    async def events(self, request: WebhookRequest, *, types: EventTypes, now_ms: int) -> list[Event]:
        """The events that the user's function makes of the request. Those without an id get that of the delivery.

        Raises what the function raises, and InvalidEvent.
        """
        if inspect.iscoroutinefunction(self.transform):
            made = await self.transform(request)
        else:
            made = await to_thread(self.transform, request)
        if made is None:
            return []
        delivery, found = self.delivery_id(request), list(events_of(made, now_ms=now_ms, types=types))
        if delivery is None:
            return found
        return [
            event if event.id is not None else replace(event, id=numbered(self.name, delivery, number))
            for number, event in enumerate(found)
        ]


def numbered(name: str, delivery: str, number: int) -> str:
    """The id of an event of a delivery."""
    return f"{name}:{delivery[: MAX_ID_CHARS - len(name) - 8]}" + (f":{number}" if number else "")


def define(known: dict[str, Webhook], name: str, transform: F, options: WebhookOptions) -> F:
    """Add a webhook of this function to those that are known, and return the function as it is. Raises ConfigError."""
    if name in known:
        raise ConfigError(f"there is a webhook {name!r} already: give this one another name")
    known[name] = Webhook(name, transform, options)
    return transform
