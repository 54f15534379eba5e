"""Registry: the code bases of apps that workers have registered, and the functions that count. Rule S2.7.

Workers, beat, invokes and the command line read it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import astuple, field
from typing import NamedTuple

from taskflow.redis.client import StoreClient
from taskflow.redis.scripts import Scripts
from taskflow.store.fields import number, text, to_fields
from taskflow.store.keys import SEPARATOR, Keys
from taskflow.values.ids import derive_ulid
from taskflow.values.record import record

CODE_CHARS = 40
VERSION_CHARS = 8  # short, since each run keeps its version
FUNCTION_FIELD = "fn:"


@record(kw_only=True)
class AppSettings:
    """The settings of an app that the store and beat need, besides its functions."""

    retention_ms: int
    failed_retention_ms: int
    max_crashes: int


class RegisteredFunction(NamedTuple):
    """A function as it is stored."""

    slug: str
    manifest: bytes  # JSON
    flow: str  # the settings that claims need; see `FlowControl.settings`


@record
class CodeBase:
    """What a worker's code says of its app. Its name is `code`, a digest of all of it; `version` is for people. Rule S2.7."""

    app_id: str
    settings: AppSettings
    functions: tuple[RegisteredFunction, ...]
    given_version: str = ""
    code: str = field(init=False)

    def __post_init__(self) -> None:
        known = (self.app_id, self.given_version, astuple(self.settings), sorted(self.functions))
        digest = hashlib.sha256(repr(known).encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "code", digest[:CODE_CHARS])

    @property
    def version(self) -> str:
        """The version that the user gave, or else the beginning of `code`."""
        return self.given_version or self.code[:VERSION_CHARS]


@record
class LiveCodeBase:
    """A code base that workers execute, as the store knows it; without workers, it is the last that was executed."""

    app_id: str
    code: str
    version: str
    registered_ms: int
    worker_ids: frozenset[str]
    manifests: Mapping[str, bytes]  # by slug

    @property
    def workers(self) -> int:
        """How many execute it."""
        return len(self.worker_ids)


class Registry:
    """Registers code bases, and reads functions by app."""

    def __init__(self, client: StoreClient, scripts: Scripts, keys: Keys) -> None:
        self.client = client
        self.scripts = scripts
        self.keys = keys
        self.secret = b""  # of the deployment; known once the store is open

    def derive_uid(self, source: str, at_ms: int) -> str:
        """The uid that stands for `source` at `at_ms` (ms since epoch); nobody outside of the deployment can tell it. Rule S1.7."""
        return derive_ulid(source, at_ms, secret=self.secret)

    async def register(
        self, code_base: CodeBase, *, child_id: str, is_watched: bool = False, now_ms: int
    ) -> bool:
        """Register that a child executes this code base. True if other functions count now.

        `is_watched`: a supervisor gives heartbeats for the child. If such a child was declared dead, nothing happens until the
        store hears its supervisor again.
        """
        settings = code_base.settings
        return bool(
            await self.scripts.register_app(
                now_ms=now_ms,
                child_id=child_id,
                is_watched=is_watched,
                app_id=code_base.app_id,
                code=code_base.code,
                version=code_base.version,
                retention_ms=settings.retention_ms,
                failed_retention_ms=settings.failed_retention_ms,
                max_crashes=settings.max_crashes,
                functions=code_base.functions,
            )
        )

    async def is_registered(self, code_base: CodeBase, *, child_id: str) -> bool:
        """Whether the store knows that the child executes this code base. A store that was emptied does not."""
        entry = await self.client.call("HGET", self.keys.running, child_id)
        return bool(entry == SEPARATOR.join((code_base.app_id, code_base.code)).encode())

    async def edition(self, app_id: str) -> str:
        """The edition of an app's functions that count now; "" if none were registered. Read it before the functions."""
        return ((await self.client.call("HGET", self.keys.app(app_id), "edition")) or b"").decode()

    async def code_bases(self, app_id: str) -> list[LiveCodeBase]:
        """The code bases of an app that count, oldest first."""
        codes, running = await asyncio.gather(
            self.client.call("ZRANGE", self.keys.codes(app_id), 0, -1),
            self.client.call("HGETALL", self.keys.running),
        )
        records = await asyncio.gather(
            *[self.client.call("HGETALL", self.keys.code(app_id, code.decode())) for code in codes]
        )
        workers = workers_of(to_fields(running))
        return [
            live_code_base(app_id, code.decode(), to_fields(flat), workers[app_id, code.decode()])
            for code, flat in zip(codes, records, strict=True)
        ]

    async def manifest(self, function_id: str) -> bytes | None:
        """The manifest of "app/slug", or None when no worker has registered such a function."""
        app_id, _, slug = function_id.partition("/")
        reply: bytes | None = await self.client.call("HGET", self.keys.functions(app_id), slug)
        return reply

    async def manifests_of(self, function_ids: Collection[str]) -> dict[str, bytes | None]:
        """The manifests of these functions, by id; None for one that no worker has registered. One command for each app."""
        by_app: defaultdict[str, list[str]] = defaultdict(list)
        for function_id in function_ids:
            app_id, _, slug = function_id.partition("/")
            by_app[app_id].append(slug)
        rows = await asyncio.gather(
            *[
                self.client.call("HMGET", self.keys.functions(app_id), *slugs)
                for app_id, slugs in by_app.items()
            ]
        )
        return {
            f"{app_id}/{slug}": manifest
            for (app_id, slugs), row in zip(by_app.items(), rows, strict=True)
            for slug, manifest in zip(slugs, row, strict=True)
        }

    async def app_ids(self) -> list[str]:
        """The ids of all registered apps."""
        return sorted(name.decode() for name in await self.client.call("SMEMBERS", self.keys.apps))

    async def apps(self) -> dict[str, str]:
        """All registered apps, each with the version of its newest code base."""
        names = await self.app_ids()
        versions = [self.client.call("HGET", self.keys.app(name), "version") for name in names]
        return {
            name: ((await version) or b"").decode() for name, version in zip(names, versions, strict=True)
        }

    async def known_functions(self) -> list[str]:
        """The ids of all functions that were ever registered or invoked, even if their code is gone."""
        return sorted(each.decode() for each in await self.client.call("SMEMBERS", self.keys.known_functions))

    async def manifests(self, app_id: str) -> dict[str, bytes]:
        """The manifests of the app's functions that count, by slug, in order."""
        return dict(sorted(to_fields(await self.client.call("HGETALL", self.keys.functions(app_id))).items()))

    async def last_ticks(self) -> dict[str, int]:
        """Schedule -> its last tick that was fired, in ms since the epoch."""
        flat = await self.client.call("HGETALL", self.keys.crons)
        return {flat[i].decode(): int(flat[i + 1]) for i in range(0, len(flat), 2)}


def workers_of(running: Mapping[str, bytes]) -> defaultdict[tuple[str, str], set[str]]:
    """By app and code base, the workers that execute it, from what is known of each child."""
    found: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for child_id, entry in running.items():
        app_id, code, *_ = entry.decode().split(SEPARATOR)
        found[app_id, code].add(child_id.rpartition(":")[0])
    return found


def live_code_base(app_id: str, code: str, fields: Mapping[str, bytes], worker_ids: set[str]) -> LiveCodeBase:
    manifests = {
        name.removeprefix(FUNCTION_FIELD): value
        for name, value in sorted(fields.items())
        if name.startswith(FUNCTION_FIELD)
    }
    return LiveCodeBase(
        app_id,
        code,
        text(fields, "version"),
        number(fields, "registered") or 0,
        frozenset(worker_ids),
        manifests,
    )
