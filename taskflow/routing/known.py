"""KnownFunctions: the functions of an app that count, which are those of all code bases that workers execute. Rule S2.7.

A process that routes an event plans the runs of all functions that the event starts; for those without code here it uses their
manifest. The store refuses a plan if other functions count by then, so no function is forgotten while a deploy rolls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from itertools import combinations

from taskflow.errors import ConfigError, StoreUnavailable
from taskflow.function import read_spec
from taskflow.routing.listeners import Listeners
from taskflow.store.registry import LiveCodeBase, Registry

logger = logging.getLogger("taskflow.worker")

MAX_NAMES = 3  # how many functions a warning names


class UnreadableFunctions(Exception):
    """This version of taskflow can't read all functions that count, so events are left to processes that can."""


class KnownFunctions:
    """The functions that count now, by their `edition`, and the `listeners` made of them. `register` registers this process."""

    def __init__(
        self,
        registry: Registry,
        app_id: str,
        *,
        register: Callable[[], Awaitable[object]],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.registry = registry
        self.app_id = app_id
        self.register = register
        self.on_change = on_change
        self.edition = ""
        self.listeners = Listeners([])
        self.ids: list[str] = []
        self.unreadable: list[str] = []
        self.told: set[str] = set()
        self.lock = asyncio.Lock()

    async def follow(self, outdated: str) -> None:
        """Read the functions that count now, not those of the edition `outdated`. Raises UnreadableFunctions, StoreUnavailable."""
        async with self.lock:
            if self.edition == outdated:
                # The store may have been emptied, and then no functions would count.
                await self.register()
                await self.load()
        if self.unreadable:
            raise UnreadableFunctions(", ".join(self.unreadable))

    async def look_again(self) -> None:
        """Read the functions that count, if another edition counts by now."""
        if await self.registry.edition(self.app_id) not in ("", self.edition):
            async with self.lock:
                await self.load()

    async def load(self) -> None:
        """Read the functions that count. Raises StoreUnavailable."""
        # Read the edition first: if the functions change in between, the store refuses plans that were made by this edition.
        edition = await self.registry.edition(self.app_id)
        manifests, code_bases = await asyncio.gather(
            self.registry.manifests(self.app_id), self.registry.code_bases(self.app_id)
        )
        if not edition:
            raise StoreUnavailable(f"the store has forgotten the functions of app {self.app_id}")
        listeners, unreadable = Listeners([]), []
        for slug, manifest in manifests.items():
            try:
                listeners.listen(read_spec(manifest))
            except ConfigError as error:
                unreadable.append(f"{self.app_id}/{slug}")
                self.say(
                    logging.ERROR,
                    f"function {self.app_id}/{slug} is of a worker with another version of taskflow, and can't be read here "
                    f"({error}); this worker takes no events until that is over, and leaves them to others",
                )  # fmt: skip
        self.edition, self.listeners, self.unreadable = edition, listeners, unreadable
        self.ids = [f"{self.app_id}/{slug}" for slug in manifests]
        for clash in find_clashes(code_bases):
            self.say(logging.WARNING, clash)
        self.on_change()

    def say(self, level: int, text: str) -> None:
        """Log a text, once in the life of this process."""
        if text not in self.told:
            self.told.add(text)
            logger.log(level, "%s", text)


def find_clashes(code_bases: Sequence[LiveCodeBase]) -> list[str]:
    """Warnings about code bases that workers of one app execute side by side.

    A rolling deploy has two code bases with different versions and with common functions: that is no reason for a warning. Nor is a
    worker that replaces its children, on SIGHUP or at a change under `taskflow dev`: its settings stay as they were.
    """
    executed = [each for each in code_bases if each.workers]
    pairs = combinations(executed, 2)
    found = [find_clash(older, newer) for older, newer in pairs if not older.worker_ids & newer.worker_ids]
    return [clash for clash in found if clash]


def find_clash(older: LiveCodeBase, newer: LiveCodeBase) -> str:
    slugs = older.manifests.keys() | newer.manifests.keys()
    common = older.manifests.keys() & newer.manifests.keys()
    if older.version == newer.version:
        differing = [slug for slug in sorted(slugs) if older.manifests.get(slug) != newer.manifests.get(slug)]
        return (
            f"workers of app {newer.app_id} with different code call it the same version, {newer.version!r}; it differs in "
            f"{names(differing) or 'its settings'}. The newest counts. Give each deploy an app_version of its own, or none"
        )
    if not common:
        return (
            f"two code bases share the app id {newer.app_id!r}, and have no function in common: version {older.version!r} with "
            f"{names(sorted(older.manifests))}, and {newer.version!r} with {names(sorted(newer.manifests))}. If these are two "
            "apps, give each an id of its own"
        )
    return ""


def names(slugs: Sequence[str]) -> str:
    more = f" and {len(slugs) - MAX_NAMES} more" if len(slugs) > MAX_NAMES else ""
    return ", ".join(slugs[:MAX_NAMES]) + more
