"""The site of an app, mounted in another app: it uses the connections that the app has at the time."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from taskflow.app import TaskFlow
from taskflow.connections import Connections
from taskflow.web.site import SiteOptions, make_site
from taskflow.web.webhooks import AppWebhooks


class MountedSite:
    """An ASGI app. A site is made at the first request, and anew when the app has other connections, as in a test."""

    def __init__(self, app: TaskFlow, *, dev: bool) -> None:
        self.app = app
        self.dev = dev
        self.made: tuple[Connections, ASGIApp] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        link = self.app._link
        if self.made is None or self.made[0] is not link:
            options = SiteOptions(
                is_dev=self.dev, functions=self.app.functions, version=self.app.config.app_version,
                webhooks=AppWebhooks.of(self.app),
            )  # fmt: skip
            self.made = (link, make_site(link, options))
        await self.made[1](scope, receive, send)
