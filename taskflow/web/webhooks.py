"""`POST /webhooks/{app}/{name}`: takes requests of other services, and sends the events that user code makes of them. Rule S14.7.

Nothing is stored of a request whose sender is not verified. Then the request is kept, so that one whose function fails can be
replayed once that is mended; its sender gets 202, since to send it again would help nobody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from taskflow.app import TaskFlow
from taskflow.errors import BrokerUnavailable, StoreUnavailable, TaskFlowError
from taskflow.event import NO_TYPES, Event
from taskflow.event_type import EventTypes
from taskflow.store.webhooks import DeliveryOutcome, StoredRequest
from taskflow.values.ids import new_ulid
from taskflow.values.text import short
from taskflow.verify import Unverified
from taskflow.web.api.answers import json_answer
from taskflow.web.api.body import read_body
from taskflow.web.catalogue.operation import Desk
from taskflow.web.catalogue.problems import Kind, Problem, problem_of
from taskflow.webhook import Webhook
from taskflow.webhook_request import WebhookRequest

logger = logging.getLogger("taskflow.web")

TRANSFORM_TIMEOUT_S = 10.0
# What a sender may put its secrets into: not kept.
SECRET_HEADERS = ("authorization", "cookie", "proxy-authorization", "x-gitlab-token", "x-api-key")


@dataclass(frozen=True, slots=True, kw_only=True)
class AppWebhooks:
    """The webhooks of an app whose code is here, by name, and the types of its events."""

    app_id: str = ""
    by_name: Mapping[str, Webhook] = field(default_factory=dict)
    types: EventTypes = NO_TYPES

    @classmethod
    def of(cls, app: TaskFlow) -> Self:
        return cls(app_id=app.id, by_name=app._webhooks, types=app._functions.types)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What came of a request."""

    outcome: DeliveryOutcome
    events: list[str]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class WebhookApi:
    """Takes webhooks at a desk."""

    desk: Desk
    webhooks: AppWebhooks

    def routes(self) -> list[BaseRoute]:
        return [Route("/{app}/{name}", self.take, methods=["POST"])]

    async def take(self, request: Request) -> Response:
        """Check the request, keep it, and send its events. Raises Problem, TaskFlowError."""
        webhook = self.find(request.path_params["app"], request.path_params["name"])
        now_ms = self.desk.link.clock.now_ms()
        given = WebhookRequest(
            url=str(request.url), headers=dict(request.headers),
            query=parse_qs(request.url.query, keep_blank_values=True),
            raw=await read_body(request.headers, request.receive, max_bytes=webhook.max_bytes),
        )  # fmt: skip
        try:
            webhook.verification.check(given, now_ms)
        except Unverified as error:
            logger.warning("webhook %s: a request was refused: %s", webhook.name, error)
            raise Problem(Kind.UNVERIFIED, f"webhook {webhook.name!r}: {error}") from None
        answer = await asyncio.to_thread(webhook.reply, given)
        if answer is not None:
            return json_answer(answer)
        kept = await self.keep(webhook, given, now_ms)
        delivered = await deliver(
            self.desk, webhook, given, types=self.webhooks.types, request_id=kept, now_ms=now_ms
        )
        if delivered.outcome is not DeliveryOutcome.FAILED:
            return json_answer({"ids": delivered.events, "status": 200})
        if kept is None:
            raise Problem(Kind.STORE_UNAVAILABLE, "the request failed, and could not be kept", 1)
        return json_answer({"ids": [], "status": 202, "kept_as": kept, "error": delivered.error}, 202)

    def find(self, app_id: str, name: str) -> Webhook:
        webhook = self.webhooks.by_name.get(name) if app_id == self.webhooks.app_id else None
        if webhook is None:
            raise Problem(
                Kind.WEBHOOK_NOT_FOUND,
                f"there is no webhook {name!r:.60} of app {app_id!r:.60}: the web process needs its code, with -A",
            )
        return webhook

    async def keep(self, webhook: Webhook, given: WebhookRequest, now_ms: int) -> str | None:
        """Keep the request; its id, or None while the store is away: its events can be sent without."""
        request_id = new_ulid(now_ms)
        headers = {name: value for name, value in given.headers.items() if name not in SECRET_HEADERS}
        stored = StoredRequest(
            id=request_id, webhook=f"{self.webhooks.app_id}/{webhook.name}", at_ms=now_ms, url=given.url, headers=headers,
            query=given.query, body=given.raw, size=len(given.raw) + sum(len(name) + len(value) for name, value in headers.items()),
            delivery=delivery_of(webhook, given),
        )  # fmt: skip
        try:
            async with self.desk.store() as (store, _):
                await store.webhooks.keep(stored)
        except StoreUnavailable as error:
            logger.warning("webhook %s: a request is not kept: %s", webhook.name, error)
            return None
        return request_id


def delivery_of(webhook: Webhook, given: WebhookRequest) -> str | None:
    """The id of the delivery, as far as it can be told: `id` of the webhook is user code, which may fail."""
    try:
        found = webhook.delivery_id(given)
    except Exception as error:
        logger.info("webhook %s: the id of a delivery is unknown: %r", webhook.name, error)
        return None
    return found if isinstance(found, str) else None


async def deliver(
    desk: Desk, webhook: Webhook, given: WebhookRequest, *, types: EventTypes, request_id: str | None, now_ms: int
) -> Delivered:  # fmt: skip
    """Make the events of a verified request, send them, and note that. Raises BrokerUnavailable: the sender is to come again."""
    events: list[Event] = []
    try:
        async with asyncio.timeout(TRANSFORM_TIMEOUT_S):
            events = await webhook.events(given, types=types, now_ms=now_ms)
        posted = await desk.post.send(events) if events else None
        ids = posted.uids if posted else []
        delivered = Delivered(outcome=DeliveryOutcome.SENT if ids else DeliveryOutcome.IGNORED, events=ids)
    except BrokerUnavailable as error:
        await note(desk, request_id, Delivered(outcome=DeliveryOutcome.FAILED, events=[], error=str(error)))
        raise
    except TimeoutError:
        told = f"the function took longer than {TRANSFORM_TIMEOUT_S:g} s"
        delivered = Delivered(outcome=DeliveryOutcome.FAILED, events=[], error=told)
        logger.error("webhook %s: %s", webhook.name, told)
    except Exception as error:
        told = short(f"{type(error).__name__}: {error}")
        delivered = Delivered(outcome=DeliveryOutcome.FAILED, events=[], error=told)
        logger.error(
            "webhook %s: its function failed; the request is kept as %s",
            webhook.name,
            request_id,
            exc_info=error,
        )
    await note(desk, request_id, delivered)
    return delivered


async def note(desk: Desk, request_id: str | None, delivered: Delivered) -> None:
    """Note what came of a request that is kept."""
    if request_id is None:
        return
    try:
        async with desk.store() as (store, _):
            await store.webhooks.settle(
                request_id, delivered.outcome, events=delivered.events, error=delivered.error or ""
            )
    except StoreUnavailable as error:
        logger.warning("what came of the request %s is not noted: %s", request_id, error)


async def replay(desk: Desk, webhooks: AppWebhooks, request_id: str) -> Delivered:
    """Make the events of a kept request anew, by the code that is here, and send them. Raises Problem, TaskFlowError."""
    async with desk.store() as (store, moment):
        stored = await store.webhooks.find(request_id)
    if stored is None:
        raise Problem(
            Kind.WEBHOOK_NOT_FOUND, f"there is no request {request_id!r:.60}: they are kept for 7 days"
        )
    webhook = WebhookApi(desk, webhooks).find(*stored.webhook.split("/", 1))
    given = WebhookRequest(url=stored.url, headers=stored.headers, query=stored.query, raw=stored.body)
    try:
        return await deliver(
            desk, webhook, given, types=webhooks.types, request_id=request_id, now_ms=moment.now_ms
        )
    except TaskFlowError as error:
        raise problem_of(error) from error
