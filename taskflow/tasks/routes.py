"""Routes: rules by which calls of tasks get their queue, where the call names none. Rule S15.4."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from taskflow.config import check_slug
from taskflow.errors import ConfigError


def checked_route(pattern: object, queue: object) -> tuple[str, str]:
    """A rule: the pattern of task ids, and their queue. Raises ConfigError for what can't be one."""
    if not isinstance(pattern, str) or not pattern:
        raise ConfigError(f"a route begins with a pattern of task ids, like 'reports.*', got {pattern!r:.80}")
    if "/" in pattern:
        raise ConfigError(
            f"a route is for the tasks of its own app, by their ids without it: {pattern.rpartition('/')[2]!r}, not {pattern!r}"
        )
    return pattern, check_slug(queue, what="queue")


def find_route(routes: Iterable[tuple[str, str]], task_id: str) -> tuple[str, str] | None:
    """The first rule that fits a task, by its id within the app."""
    return next((route for route in routes if fnmatchcase(task_id, route[0])), None)
