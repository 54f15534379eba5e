"""Registration: tells the store of a process's code, at its start, and again if the store has forgotten it. Rules S2.7, S9.5."""

from __future__ import annotations

import logging

import orjson

from taskflow.app import TaskFlow
from taskflow.store.registry import AppSettings, CodeBase, RegisteredFunction
from taskflow.store.store import Store
from taskflow.values.clock import Clock

logger = logging.getLogger("taskflow.worker")


class Registration:
    """Registers one process. `is_watched`: it has a supervisor, which gives heartbeats; if not, the process leaves by itself."""

    def __init__(self, app: TaskFlow, store: Store, *, child_id: str, is_watched: bool, clock: Clock) -> None:
        self.app = app
        self.store = store
        self.child_id = child_id
        self.is_watched = is_watched
        self.clock = clock
        self._code_base: CodeBase | None = None

    @property
    def code_base(self) -> CodeBase:
        """The code base of the app. It is made anew if functions were added to the app."""
        if self._code_base is None or len(self._code_base.functions) != len(self.app.functions):
            self._code_base = code_base_of(self.app)
        return self._code_base

    async def register(self) -> None:
        """Tell the store which code this process executes."""
        await self.store.registry.register(
            self.code_base, child_id=self.child_id, is_watched=self.is_watched, now_ms=self.clock.now_ms()
        )

    async def register_if_forgotten(self) -> None:
        """Register again if the store was emptied, or declared this worker dead: otherwise nothing would start its functions."""
        registry = self.store.registry
        if await registry.is_registered(self.code_base, child_id=self.child_id):
            return
        if not await registry.edition(self.app.id):
            logger.warning(
                "the store has forgotten app %s (was it emptied?); it is registered again", self.app.id
            )
        await self.store.check_version()
        await self.register()

    async def leave(self) -> None:
        """Have the store forget the worker at the end of a process without supervisor; a supervisor does that itself."""
        if not self.is_watched:
            await self.store.duties.forget_worker(self.child_id.rpartition(":")[0])


def code_base_of(app: TaskFlow) -> CodeBase:
    """The code base of an app, with its present functions."""
    config = app.config
    specs = [function.spec for function in app.functions.values()]
    settings = AppSettings(
        retention_ms=config.retention_ms, failed_retention_ms=config.failed_retention_ms, max_crashes=config.max_crashes
    )  # fmt: skip
    functions = [
        RegisteredFunction(spec.slug, orjson.dumps(spec.manifest()), spec.settings) for spec in specs
    ]
    return CodeBase(app.id, settings, tuple(functions), given_version=config.app_version)
