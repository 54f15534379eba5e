"""What `taskflow` offers by name, and that asking for it is cheap until it is used."""

from __future__ import annotations

import subprocess
import sys

import taskflow
from taskflow import errors

PUBLIC = {
    "BlockingStep", "Cancel", "Context", "Event", "Function", "FunctionOptions", "InvokeOptions", "ReceivedEvent", "ReceivedSignal",
    "Retries", "Run", "RunStatus", "RunView", "StepView", "SentEvent", "EventView", "QueueView", "Settings", "Step",
    "TaskFlow", "Timeouts", "TriggerCron", "TriggerEvent",
    "Compression", "Encryption",
    "WebhookOptions", "WebhookRequest",
    "Activation", "Attempt", "Depends", "Middleware", "Outcome",
    "Batch", "Concurrency", "Debounce", "Priority", "RateLimit", "Singleton", "Throttle",
    "Channel", "Message", "ReaderTooSlow", "TokenRefused", "Topic", "TopicRef",
    "BlobUnavailable", "DecodeError", "UnknownKey",
    "BrokerUnavailable", "ConfigError", "EventNotFound", "ExpressionError", "InvalidDuration", "InvalidEvent",
    "LimitExceeded", "NestedStepError",
    "NonDeterminismError", "NonRetriableError", "RetryAfterError", "RunCancelled", "RunFailed", "RunNotFound",
    "RerunRefused", "RunSkipped",
    "SerializationError", "StepError", "StepTimeout", "StoreUnavailable", "StoreVersionMismatch", "Suspend",
    "TaskFlowError", "WorkerLost",
    "Canvas", "CallOptions", "ChordError", "GroupRuns", "Signature", "SoftTimeLimit", "Task", "TaskContext", "TaskOptions",
    "chain", "chord", "current", "group", "task",
}  # fmt: skip

# Who has not installed the extra may still write `from taskflow import *`.
OPTIONAL = {"EventModel", "OpenTelemetry", "Sentry", "upgrade_from"}


def test_public_names_are_these() -> None:
    assert set(taskflow.__all__) == PUBLIC
    assert len(taskflow.__all__) == len(PUBLIC)
    assert set(taskflow.OPTIONAL) == OPTIONAL


def test_each_public_name_can_be_imported_and_is_listed() -> None:
    for name in PUBLIC | OPTIONAL:
        assert getattr(taskflow, name).__name__ == name
    assert set(dir(taskflow)) >= PUBLIC | OPTIONAL


def test_every_error_is_public() -> None:
    kinds = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == "taskflow.errors"
    }
    assert kinds <= PUBLIC


def test_name_that_does_not_exist_is_an_attribute_error() -> None:
    assert not hasattr(taskflow, "Celery")


def test_importing_the_package_and_the_command_line_loads_no_broker_library() -> None:
    check = (
        "import sys, taskflow, taskflow.cli; from taskflow import StepError; "
        "sys.exit(bool({'kombu', 'redis', 'asyncio', 'celpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
