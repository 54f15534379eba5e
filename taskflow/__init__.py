"""Durable functions on Redis and any kombu broker. Public is what `__all__` lists, and `taskflow.testing`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskflow.app import TaskFlow
    from taskflow.cancellation import Timeouts
    from taskflow.context import Context
    from taskflow.errors import (
        BrokerUnavailable,
        ConfigError,
        InvalidDuration,
        InvalidEvent,
        LimitExceeded,
        NestedStepError,
        NonDeterminismError,
        NonRetriableError,
        RetryAfterError,
        RunCancelled,
        RunFailed,
        RunNotFound,
        SerializationError,
        StepError,
        StepTimeout,
        StoreUnavailable,
        StoreVersionMismatch,
        Suspend,
        TaskFlowError,
        WorkerLost,
    )
    from taskflow.event import Event, ReceivedEvent
    from taskflow.function import Function
    from taskflow.handle import Run, RunStatus
    from taskflow.retries import Retries
    from taskflow.step import BlockingStep, Step
    from taskflow.triggers import TriggerCron, TriggerEvent

__all__ = [
    # define functions
    "TaskFlow",
    "Function",
    "TriggerEvent",
    "TriggerCron",
    "Retries",
    "Timeouts",
    # send events, follow runs
    "Event",
    "Run",
    "RunStatus",
    # inside a handler
    "Context",
    "Step",
    "BlockingStep",
    "ReceivedEvent",
    # errors to raise in a handler or step
    "NonRetriableError",
    "RetryAfterError",
    # errors of steps and runs
    "LimitExceeded",
    "NestedStepError",
    "NonDeterminismError",
    "SerializationError",
    "StepError",
    "StepTimeout",
    "Suspend",
    "WorkerLost",
    # errors of calls
    "TaskFlowError",
    "BrokerUnavailable",
    "ConfigError",
    "InvalidDuration",
    "InvalidEvent",
    "RunCancelled",
    "RunFailed",
    "RunNotFound",
    "StoreUnavailable",
    "StoreVersionMismatch",
]

MODULES = {
    "TaskFlow": "app",
    "Function": "function",
    "TriggerEvent": "triggers",
    "TriggerCron": "triggers",
    "Retries": "retries",
    "Timeouts": "cancellation",
    "Event": "event",
    "ReceivedEvent": "event",
    "Run": "handle",
    "RunStatus": "handle",
    "Context": "context",
    "Step": "step",
    "BlockingStep": "step",
}
"""Where the names live that are not in `errors`."""


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: `taskflow --help` needs no broker library."""
    if name not in __all__:
        raise AttributeError(f"module 'taskflow' has no attribute {name!r}")
    value: object = getattr(import_module(f"taskflow.{MODULES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
