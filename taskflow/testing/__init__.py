"""Tools to test your functions on the real engine, with a clock that the test turns.

from taskflow.testing import Harness

async def test_reminder_goes_out_after_30_days() -> None:
    async with Harness(app) as harness:
        run = await harness.send("shop/user.created", {"id": 7})
        await harness.advance(days=30)
        assert await run.aresult() == "reminded"

The public names are those in `__all__`. Pytest finds the fixtures of `taskflow.testing.plugin` by itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskflow.testing.blocking import SyncHarness
    from taskflow.testing.checks import CheckedRun, CheckedStep
    from taskflow.testing.contract import check_middleware
    from taskflow.testing.harness import Harness
    from taskflow.testing.runs import HarnessRun
    from taskflow.testing.sent import Sent
    from taskflow.testing.stubs import Stub, StubCall
    from taskflow.values.clock import VirtualClock

__all__ = [
    "Harness",
    "SyncHarness",
    "HarnessRun",
    "Sent",
    "CheckedRun",
    "CheckedStep",
    "Stub",
    "StubCall",
    "VirtualClock",
    "check_middleware",
]

MODULES = {
    "Harness": "testing.harness",
    "SyncHarness": "testing.blocking",
    "HarnessRun": "testing.runs",
    "Sent": "testing.sent",
    "CheckedRun": "testing.checks",
    "CheckedStep": "testing.checks",
    "Stub": "testing.stubs",
    "StubCall": "testing.stubs",
    "VirtualClock": "values.clock",
    "check_middleware": "testing.contract",
}


def __getattr__(name: str) -> object:
    """Import a name at its first use: pytest loads the plugin, and with it this package, in every project."""
    if name not in __all__:
        raise AttributeError(f"module 'taskflow.testing' has no attribute {name!r}")
    value: object = getattr(import_module(f"taskflow.{MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
