"""Adoption: which app the tasks of packages belong to, that know no app. Rule S15.1."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable
from typing import Protocol

from taskflow.connected_app import ConnectedApp
from taskflow.errors import ConfigError


class Orphan(Protocol):
    """A task that may belong to no app yet."""

    task_id: str
    _owner: ConnectedApp | None

    def _adopt(self, app: ConnectedApp) -> None: ...


class Adoption:
    """The tasks that wait for an app, and the app that gets those to come: the first of the process, as long as it lives."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.waiting: list[Orphan] = []
        self.home: weakref.ref[ConnectedApp] | None = None

    def offer(self, task: Orphan) -> None:
        """A package has defined a task."""
        with self.lock:
            home = None if self.home is None else self.home()
            if home is None:
                self.waiting.append(task)
            else:
                task._adopt(home)

    def welcome(self, app: ConnectedApp) -> None:
        """An app was made."""
        with self.lock:
            if self.home is not None and self.home() is not None:
                return
            self.home = weakref.ref(app)
            self.adopt(app, self.waiting)

    def adopt(self, app: ConnectedApp, tasks: Iterable[Orphan]) -> None:
        """Give these tasks to the app. Raises ConfigError for one that belongs to another app."""
        with self.lock:
            for task in list(tasks):
                owner = task._owner
                if owner is app:
                    continue
                if owner is not None:
                    raise ConfigError(
                        f"task {task.task_id!r} belongs to app {owner.id!r} already; a task has one app"
                    )
                task._adopt(app)
                if task in self.waiting:
                    self.waiting.remove(task)


ADOPTION = Adoption()
