"""What code bases have registered: their functions and settings. Read by beat, by invokes and by the CLI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from taskflow.redis.client import StoreClient
from taskflow.redis.scripts import Scripts
from taskflow.store.keys import Keys


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSettings:
    """What the store and beat must know of an app."""

    version: str
    retention_ms: int
    failed_retention_ms: int
    max_crashes: int


class RegisteredFunction(NamedTuple):
    """A function as it stands in the store."""

    slug: str
    manifest: bytes  # JSON
    flow: str  # what claims must know, see `FlowControl.settings`


class Registry:
    """Functions by app."""

    def __init__(self, client: StoreClient, scripts: Scripts, keys: Keys) -> None:
        self.client = client
        self.scripts = scripts
        self.keys = keys

    async def register(
        self, app_id: str, settings: AppSettings, functions: Sequence[RegisteredFunction]
    ) -> bool:
        """Make these the app's functions. True when something changed."""
        return bool(
            await self.scripts.register_app(
                app_id=app_id,
                version=settings.version,
                retention_ms=settings.retention_ms,
                failed_retention_ms=settings.failed_retention_ms,
                max_crashes=settings.max_crashes,
                functions=functions,
            )
        )

    async def is_registered(self, app_id: str) -> bool:
        """Whether the store knows the app: not any more, once somebody has emptied it."""
        return bool(await self.client.call("SISMEMBER", self.keys.apps, app_id))

    async def manifest(self, function_id: str) -> bytes | None:
        """The manifest of "app/slug", or None when no worker has registered such a function."""
        app_id, _, slug = function_id.partition("/")
        reply: bytes | None = await self.client.call("HGET", self.keys.functions(app_id), slug)
        return reply

    async def apps(self) -> dict[str, str]:
        """Every app that has registered, with its version."""
        names = sorted(name.decode() for name in await self.client.call("SMEMBERS", self.keys.apps))
        versions = [self.client.call("HGET", self.keys.app(name), "version") for name in names]
        return {
            name: ((await version) or b"").decode() for name, version in zip(names, versions, strict=True)
        }

    async def known_functions(self) -> list[str]:
        """The ids of all functions that have ever been registered or invoked, though their code may be gone."""
        return sorted(each.decode() for each in await self.client.call("SMEMBERS", self.keys.known_functions))

    async def manifests(self, app_id: str) -> list[bytes]:
        """The manifests of an app's functions, by slug."""
        flat = await self.client.call("HGETALL", self.keys.functions(app_id))
        pairs = sorted((flat[i], flat[i + 1]) for i in range(0, len(flat), 2))
        return [manifest for _, manifest in pairs]

    async def last_ticks(self) -> dict[str, int]:
        """When each schedule fired last, in ms since the epoch."""
        flat = await self.client.call("HGETALL", self.keys.crons)
        return {flat[i].decode(): int(flat[i + 1]) for i in range(0, len(flat), 2)}
