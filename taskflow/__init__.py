"""Durable functions on Redis and any kombu broker. Public is what `__all__` lists, and `taskflow.testing`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskflow.app import TaskFlow
    from taskflow.blocking_step import BlockingStep
    from taskflow.channel import Channel, Message, Topic, TopicRef
    from taskflow.codecs.compression import Compression
    from taskflow.codecs.encryption import Encryption
    from taskflow.config import Settings
    from taskflow.context import Context
    from taskflow.dependencies.depends import Depends
    from taskflow.errors import (
        BlobUnavailable,
        BrokerUnavailable,
        ChordError,
        ConfigError,
        DecodeError,
        EventNotFound,
        ExpressionError,
        InvalidDuration,
        InvalidEvent,
        LimitExceeded,
        NestedStepError,
        NonDeterminismError,
        NonRetriableError,
        ReaderTooSlow,
        RerunRefused,
        RetryAfterError,
        RunCancelled,
        RunFailed,
        RunNotFound,
        RunSkipped,
        SerializationError,
        SoftTimeLimit,
        StepError,
        StepTimeout,
        StoreUnavailable,
        StoreVersionMismatch,
        Suspend,
        TaskFlowError,
        TokenRefused,
        UnknownKey,
        WorkerLost,
    )
    from taskflow.event import Event, ReceivedEvent
    from taskflow.event_model import EventModel as EventModel
    from taskflow.event_model import upgrade_from as upgrade_from
    from taskflow.flow.batch import Batch
    from taskflow.flow.cancel import Cancel
    from taskflow.flow.concurrency import Concurrency
    from taskflow.flow.debounce import Debounce
    from taskflow.flow.priority import Priority
    from taskflow.flow.rate_limit import RateLimit
    from taskflow.flow.singleton import Singleton
    from taskflow.flow.throttle import Throttle
    from taskflow.function import Function, InvokeOptions
    from taskflow.function_options import FunctionOptions
    from taskflow.middleware.base import Middleware
    from taskflow.middleware.facts import Activation, Attempt, Outcome
    from taskflow.middleware.open_telemetry import OpenTelemetry as OpenTelemetry
    from taskflow.middleware.sentry import Sentry as Sentry
    from taskflow.retries import Retries
    from taskflow.run import Run, RunStatus, RunView, StepView
    from taskflow.runs.queues import QueueView
    from taskflow.sent import EventView, SentEvent
    from taskflow.signals import ReceivedSignal
    from taskflow.step import Step
    from taskflow.tasks.call_options import CallOptions
    from taskflow.tasks.context import TaskContext, current
    from taskflow.tasks.group_runs import GroupRuns
    from taskflow.tasks.options import TaskOptions
    from taskflow.tasks.shared import task
    from taskflow.tasks.signature import Canvas, Signature, chain, chord, group
    from taskflow.tasks.task import Task
    from taskflow.timeouts import Timeouts
    from taskflow.triggers import TriggerCron, TriggerEvent
    from taskflow.webhook import WebhookOptions
    from taskflow.webhook_request import WebhookRequest

__all__ = [
    # define functions
    "TaskFlow",
    "Settings",
    "Function",
    "FunctionOptions",
    "TriggerEvent",
    "TriggerCron",
    "Retries",
    "Timeouts",
    "Cancel",
    # tasks
    "task",
    "Task",
    "TaskOptions",
    "CallOptions",
    "TaskContext",
    "current",
    "Canvas",
    "Signature",
    "GroupRuns",
    "chain",
    "chord",
    "group",
    # flow control
    "Concurrency",
    "Priority",
    "Throttle",
    "RateLimit",
    "Debounce",
    "Batch",
    "Singleton",
    # take webhooks; `taskflow.verify` says whose
    "WebhookRequest",
    "WebhookOptions",
    # send events, follow runs
    "Event",
    "InvokeOptions",
    "Run",
    "RunStatus",
    "RunView",
    "StepView",
    "SentEvent",
    "EventView",
    "QueueView",
    # realtime
    "Channel",
    "Topic",
    "TopicRef",
    "Message",
    # inside a handler
    "Context",
    "Step",
    "BlockingStep",
    "ReceivedEvent",
    "ReceivedSignal",
    # around user code
    "Middleware",
    "Activation",
    "Attempt",
    "Outcome",
    "Depends",
    # between a value and the store
    "Encryption",
    "Compression",
    # errors to raise in a handler or step
    "NonRetriableError",
    "RetryAfterError",
    # errors of steps and runs
    "ChordError",
    "SoftTimeLimit",
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
    "BlobUnavailable",
    "BrokerUnavailable",
    "ConfigError",
    "DecodeError",
    "EventNotFound",
    "ReaderTooSlow",
    "TokenRefused",
    "ExpressionError",
    "InvalidDuration",
    "InvalidEvent",
    "RunCancelled",
    "RunFailed",
    "RunNotFound",
    "RerunRefused",
    "RunSkipped",
    "StoreUnavailable",
    "StoreVersionMismatch",
    "UnknownKey",
]

MODULES = {
    "TaskFlow": "app",
    "Settings": "config",
    "Function": "function",
    "FunctionOptions": "function_options",
    "InvokeOptions": "function",
    "TriggerEvent": "triggers",
    "TriggerCron": "triggers",
    "Retries": "retries",
    "Timeouts": "timeouts",
    "Cancel": "flow.cancel",
    "Concurrency": "flow.concurrency",
    "Priority": "flow.priority",
    "Throttle": "flow.throttle",
    "RateLimit": "flow.rate_limit",
    "Debounce": "flow.debounce",
    "Batch": "flow.batch",
    "Singleton": "flow.singleton",
    "Event": "event",
    "ReceivedEvent": "event",
    "ReceivedSignal": "signals",
    "Channel": "channel",
    "Topic": "channel",
    "TopicRef": "channel",
    "Message": "channel",
    "Run": "run",
    "RunStatus": "run",
    "RunView": "run",
    "StepView": "run",
    "SentEvent": "sent",
    "EventView": "sent",
    "QueueView": "runs.queues",
    "Context": "context",
    "Middleware": "middleware.base",
    "Depends": "dependencies.depends",
    "Encryption": "codecs.encryption",
    "Compression": "codecs.compression",
    "Activation": "middleware.facts",
    "Attempt": "middleware.facts",
    "Outcome": "middleware.facts",
    "Step": "step",
    "task": "tasks.shared",
    "Task": "tasks.task",
    "TaskOptions": "tasks.options",
    "CallOptions": "tasks.call_options",
    "TaskContext": "tasks.context",
    "current": "tasks.context",
    "Canvas": "tasks.signature",
    "Signature": "tasks.signature",
    "GroupRuns": "tasks.group_runs",
    "chain": "tasks.signature",
    "chord": "tasks.signature",
    "group": "tasks.signature",
    "WebhookRequest": "webhook_request",
    "WebhookOptions": "webhook",
    "BlockingStep": "blocking_step",
}
"""Where the names live that are not in `errors`."""

OPTIONAL = {
    "EventModel": "event_model",
    "upgrade_from": "event_model",
    "OpenTelemetry": "middleware.open_telemetry",
    "Sentry": "middleware.sentry",
}
"""Names that need an extra, as taskflow-durable[pydantic]; so `from taskflow import *` leaves them out."""


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: `taskflow --help` needs no broker library."""
    if name not in __all__ and name not in OPTIONAL:
        raise AttributeError(f"module 'taskflow' has no attribute {name!r}")
    module = OPTIONAL.get(name) or MODULES.get(name, "errors")
    value: object = getattr(import_module(f"taskflow.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *OPTIONAL})
