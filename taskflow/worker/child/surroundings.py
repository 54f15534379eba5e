"""Checks and mends the process after the import of user code, which may have patched modules or disabled loggers."""

from __future__ import annotations

import gc
import logging
import sys

from taskflow.errors import ConfigError

USUAL_COLLECTOR = gc.get_threshold()  # as Python has it, before any user code runs
CALM_COLLECTOR = (10_000, *USUAL_COLLECTOR[1:])


def calm_collector() -> None:
    """Have Python look for cycles of garbage after 10,000 new objects instead of 700.

    A hundred runs that begin together are more than 700 objects, so each was looked through several times while it lived, for 7% of
    a no-op run's CPU; and the engine leaves no cycles behind. User code that has chosen another threshold keeps it.
    """
    if gc.get_threshold() == USUAL_COLLECTOR:
        gc.set_threshold(*CALM_COLLECTOR)


def refuse_green_threads() -> None:
    """Raise ConfigError if gevent or eventlet has replaced parts of the standard library."""
    for name, module, function in (
        ("gevent", "gevent.monkey", "is_module_patched"),
        ("eventlet", "eventlet.patcher", "is_monkey_patched"),
    ):
        is_patched = getattr(sys.modules.get(module), function, None)
        if is_patched is not None and (is_patched("socket") or is_patched("threading")):
            raise ConfigError(
                f"the app's code has the standard library patched by {name}, but a worker runs asyncio and real threads, which "
                f"that breaks. Leave the patching out where the worker imports the app: `async def` handlers run concurrently, "
                "and `def` handlers in threads."
            )


def enable_own_loggers() -> None:
    """Enable taskflow's loggers again: `logging.config.dictConfig` by default disables all loggers that exist already."""
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and f"{name}.".startswith("taskflow."):
            logger.disabled = False
