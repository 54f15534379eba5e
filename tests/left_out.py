"""Tests of servers that the machine lacks are left out, and one line says so. In CI they run, and fail without the server."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.servers import RABBITMQ_HINT, REDIS_HINT, RabbitMQServer, RedisServer
from tests.web.browser import BROWSER_HINT, NODE_FOLDER, has_browser

NODE_HINT = "no Node, Inngest SDK or React here: npm install --prefix tests/web/node"


def has_node_sdk() -> bool:
    return shutil.which("node") is not None and all(
        (NODE_FOLDER / "node_modules" / name).exists()
        for name in ("inngest", "@inngest/realtime", "react", "react-dom")
    )


def missing_servers() -> dict[str, str]:
    """Marker of the tests that can't run here, and what to do about it."""
    if os.environ.get("CI") == "true":
        return {}
    missing = {}
    if not has_browser():
        missing["browser"] = BROWSER_HINT
    if not has_node_sdk():
        missing["node"] = NODE_HINT
    if not RabbitMQServer.is_installed():
        missing["rabbitmq"] = RABBITMQ_HINT
    if not RedisServer.is_installed():
        missing["redis"] = REDIS_HINT
    return missing


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing = missing_servers()
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in missing)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name, hint in missing_servers().items():
        terminalreporter.write_line(f"left out: the tests marked {name!r}; {hint}")
