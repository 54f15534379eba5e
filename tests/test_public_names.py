"""What `taskflow` offers by name, and that asking for it is cheap until it is used."""

from __future__ import annotations

import subprocess
import sys

import taskflow
from taskflow import errors

PUBLIC = {
    "BlockingStep", "Cancel", "Context", "Event", "Function", "FunctionOptions", "InvokeOptions", "ReceivedEvent", "ReceivedSignal",
    "Retries", "Run", "RunStatus", "RunView", "StepView", "SentEvent", "EventView", "Settings", "Step",
    "TaskFlow", "Timeouts", "TriggerCron", "TriggerEvent",
    "Batch", "Concurrency", "Debounce", "Priority", "RateLimit", "Singleton", "Throttle",
    "BrokerUnavailable", "ConfigError", "EventNotFound", "ExpressionError", "InvalidDuration", "InvalidEvent",
    "LimitExceeded", "NestedStepError",
    "NonDeterminismError", "NonRetriableError", "RetryAfterError", "RunCancelled", "RunFailed", "RunNotFound",
    "RerunRefused", "RunSkipped",
    "SerializationError", "StepError", "StepTimeout", "StoreUnavailable", "StoreVersionMismatch", "Suspend",
    "TaskFlowError", "WorkerLost",
}  # fmt: skip


def test_public_names_are_these() -> None:
    assert set(taskflow.__all__) == PUBLIC
    assert len(taskflow.__all__) == len(PUBLIC)


def test_each_public_name_can_be_imported_and_is_listed() -> None:
    for name in PUBLIC:
        assert getattr(taskflow, name).__name__ == name
    assert set(dir(taskflow)) >= PUBLIC


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


def members(kind: type) -> set[str]:
    """What a user sees of a class: what it defines without an underscore, the attributes of its instances included."""
    named = {
        name for each in kind.__mro__[:-1] for name in [*vars(each), *vars(each).get("__annotations__", {})]
    }
    return {name for name in named if not name.startswith("_")}


def test_members_of_the_classes_that_users_hold_are_these() -> None:
    app = taskflow.TaskFlow("shop", store="redis://localhost", broker="redis://localhost")

    @app.function
    def work(ctx: taskflow.Context[taskflow.BlockingStep]) -> None: ...

    assert members(taskflow.TaskFlow) | {name for name in vars(app) if name[0] != "_"} == {
        "id", "config", "functions", "function",
        "send", "asend", "send_signal", "asend_signal", "invoke", "ainvoke", "run", "runs", "aruns", "event",
        "pause", "apause", "resume", "aresume", "cancel_runs", "acancel_runs", "rerun", "arerun", "replay", "areplay",
        "close", "aclose",
    }  # fmt: skip
    assert members(taskflow.Run) == {
        "id", "status", "astatus", "view", "aview", "result", "aresult", "cancel", "acancel",
    }  # fmt: skip
    assert members(taskflow.SentEvent) == {"id", "view", "aview", "runs", "aruns"}
    own = {name for name in vars(work) if not name.startswith("_")}
    assert members(taskflow.Function) | own == {
        "id", "spec", "handler", "shape", "output", "takes_step", "is_async", "send", "invoke", "ainvoke",
    }  # fmt: skip
    tools = {
        "run", "sleep", "sleep_until", "wait_for_event", "wait_for_signal", "send_event", "invoke", "parallel",
    }  # fmt: skip
    assert members(taskflow.Step) == members(taskflow.BlockingStep) == tools
    assert members(taskflow.Context) == {
        "attempt", "event", "events", "function_id", "headers", "logger", "run_id", "step", "started_at",
    }  # fmt: skip
    assert members(taskflow.Event) == {"name", "data", "id", "ts", "user", "v", "headers"}
    assert members(taskflow.ReceivedEvent) == {
        "uid",
        "id",
        "name",
        "data",
        "ts",
        "user",
        "v",
        "headers",
        "from_wire",
    }
    assert members(taskflow.ReceivedSignal) == {"name", "data", "from_wire"}
