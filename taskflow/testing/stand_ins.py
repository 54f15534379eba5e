"""StandIns: apps that a Harness makes for stubbed functions whose own apps are not in the test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from taskflow.app import TaskFlow
from taskflow.config import Config
from taskflow.context import Context
from taskflow.errors import ConfigError, NonRetriableError
from taskflow.worker.child.runner import AppRunner


class StandIns:
    """For each app id that a stubbed function names, an app with a worker of its own."""

    def __init__(self, *, config: Callable[[], Config], make_worker: Callable[[TaskFlow], AppRunner]) -> None:
        self.config = config  # the config of the test's apps, for the servers to use
        self.make_worker = make_worker
        self.apps: dict[str, TaskFlow] = {}
        self.workers: dict[str, AppRunner] = {}
        self.wanted: list[str] = []  # ids of functions that no worker serves yet

    def want(self, function_id: str, *, apps: Sequence[TaskFlow]) -> None:
        """Serve the function from the next `start` on, unless one of the apps has it. Raises ConfigError."""
        app_id, slash, slug = function_id.partition("/")
        if not slash or not slug:
            raise ConfigError(f"a function's id is 'app/function', got {function_id!r}")
        for app in apps:
            if function_id in app.functions:
                return
            if app.id == app_id:
                raise ConfigError(
                    f"app {app_id!r} has no function {function_id!r} to stub, only {sorted(app.functions) or 'none'}"
                )
        self.wanted.append(function_id)

    async def start(self) -> list[AppRunner]:
        """Start workers for the wanted functions; return the new workers."""
        started: list[AppRunner] = []
        while self.wanted:
            app_id, _, slug = self.wanted.pop(0).partition("/")
            app = self.apps.get(app_id)
            if app is None:
                config = self.config()
                app = self.apps[app_id] = TaskFlow(
                    app_id, broker=config.broker, store=config.store, namespace=config.namespace
                )
            if f"{app_id}/{slug}" not in app.functions:
                app.function(id=slug, retries=0)(used_up)
            if app_id in self.workers:
                await self.workers[app_id].register()
            else:
                self.workers[app_id] = self.make_worker(app)
                await self.workers[app_id].start()
                started.append(self.workers[app_id])
        return started


async def used_up(ctx: Context[Any]) -> None:
    raise NonRetriableError(f"{ctx.function_id} was called more often than its stubs allow (times=...)")
