"""What is imported where: a start is mostly imports, so each way in is held to what it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import TaskflowProcess, clean_environment
from tests.servers import ValkeyServer

OTHER_BROKERS = {"kombu", "amqp", "vine", "yaml"}  # only those pay for them who use another broker than Redis
INTERPRETER_OF_CEL = {"celpy", "lark", "re2"}
FOREIGN = (
    OTHER_BROKERS
    | INTERPRETER_OF_CEL
    | {
        "redis",
        "croniter",
        "rich",
        "watchfiles",
        "importlib.metadata",
        "email",
        "pydantic",
        "typing_extensions",
    }
)
NOT_TO_DEFINE = {
    "asyncio",
    "ssl",
    "socket",
    "hiredis",
    "zoneinfo",
    "difflib",
    "taskflow.broker",
    "taskflow.connections",
    "taskflow.courier",
    "taskflow.engine",
    "taskflow.redis.client",
    "taskflow.redis.scripts",
    "taskflow.routing",
    "taskflow.runs.control",
    "taskflow.steps",
    "taskflow.store",
}
"""What connects, looks at runs or executes them: who only defines functions need not wait for it."""

NOT_TO_EXECUTE = {
    "ctypes",
    "taskflow.commands.options",
    "taskflow.redis.library",
    "taskflow.runs.control",
    "taskflow.runs.lookup",
    "taskflow.runs.replay",
    "taskflow.store.session",
}
"""What commands look and act with, the linker of Lua, and what raises errors in threads: a worker starts without them."""

MOST_TO_DEFINE = 70
"""Modules of taskflow that an app with a function takes; each costs half a million instructions at least."""

APP = """
from taskflow import TaskFlow

app = TaskFlow("lean")

@app.function(trigger="lean/go")
async def work(ctx):
    print("it runs", flush=True)
"""


def imported_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-P", "-X", "importtime", "-c", code],
        env=clean_environment({}),
        capture_output=True,
        text=True,
        check=True,
    )
    return names_in(done.stderr)


def names_in(report: str) -> set[str]:
    """The modules of an interpreter's report of its imports; those of processes that it forked are among them."""
    lines = [line for line in report.splitlines() if line.startswith("import time:")]
    assert lines, report
    return {line.rpartition("|")[2].strip() for line in lines}


def unwanted(imported: set[str], names: set[str]) -> set[str]:
    return {name for name in imported for root in names if name == root or name.startswith(f"{root}.")}


def test_the_bare_package_imports_nothing_but_itself() -> None:
    imported = imported_by("import taskflow") - imported_by("pass")
    assert {name for name in imported if name.startswith("taskflow")} == {"taskflow"}
    assert unwanted(imported, FOREIGN | {"asyncio", "click", "orjson", "hiredis"}) == set()


def test_an_app_is_made_without_foreign_brokers_and_the_interpreter_of_cel() -> None:
    imported = imported_by(APP)
    assert unwanted(imported, FOREIGN | NOT_TO_DEFINE) == set()
    assert len({name for name in imported if name.startswith("taskflow")}) <= MOST_TO_DEFINE
    names = "Concurrency, Context, Event, NonRetriableError, Retries, Step, Throttle, TriggerCron"
    more = imported_by(f"{APP}\nfrom taskflow import {names}")
    assert unwanted(more, FOREIGN) == set()


def test_without_pydantic_an_error_names_the_extra_and_nothing_else_needs_it() -> None:
    hide = "import sys; sys.modules['pydantic'] = None\n"
    imported_by(f"{hide}{APP}\nfrom taskflow import *")
    done = subprocess.run(
        [sys.executable, "-c", f"{hide}from taskflow import EventModel"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "EventModel needs pydantic 2: pip install 'taskflow-durable[pydantic]'" in done.stderr


@pytest.mark.parametrize(
    ("package", "name", "told"),
    [
        (
            "opentelemetry",
            "OpenTelemetry",
            "needs the SDK of OpenTelemetry: pip install 'taskflow-durable[otel]'",
        ),
        ("sentry_sdk", "Sentry", "needs the SDK of Sentry: pip install 'taskflow-durable[sentry]'"),
    ],
)
def test_a_middleware_whose_package_is_missing_names_the_extra(package: str, name: str, told: str) -> None:
    hide = f"import sys; sys.modules[{package!r}] = None\n"
    imported_by(f"{hide}{APP}\nfrom taskflow import *")
    done = subprocess.run(
        [sys.executable, "-c", f"{hide}from taskflow import {name}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"taskflow.{name} {told}" in done.stderr


@pytest.fixture
def lean(tmp_path: Path) -> Path:
    (tmp_path / "lean.py").write_text(APP)
    return tmp_path


def test_help_imports_no_more_than_the_command_line(lean: Path) -> None:
    with TaskflowProcess("--help", cwd=lean, env={"PYTHONPROFILEIMPORTTIME": "1"}) as help_:
        assert help_.wait() == 0
        imported = names_in(help_.stderr)
    assert unwanted(imported, FOREIGN | {"asyncio", "orjson", "hiredis", "uvloop"}) == set()
    assert {name for name in imported if name.startswith("taskflow.commands")} == set()


def test_sending_and_executing_import_nothing_foreign(lean: Path) -> None:
    with ValkeyServer() as server:
        env = {"TASKFLOW_BROKER": server.url, "TASKFLOW_STORE": server.url, "PYTHONPROFILEIMPORTTIME": "1"}
        with TaskflowProcess("send", "lean/go", "-A", "lean", cwd=lean, env=env) as send:
            assert send.wait() == 0
            assert unwanted(names_in(send.stderr), FOREIGN) == set()
        with TaskflowProcess("worker", "-A", "lean", "--processes", "1", cwd=lean, env=env) as worker:
            worker.wait_for_line("it runs")
            assert worker.stop() == 0
            assert unwanted(names_in(worker.stderr), FOREIGN | NOT_TO_EXECUTE) == set()


def test_what_every_child_needs_is_imported_before_the_fork(lean: Path) -> None:
    """A second child adds nothing of ours to the report: it shares what the supervisor has."""
    with ValkeyServer() as server:
        env = {"TASKFLOW_BROKER": server.url, "TASKFLOW_STORE": server.url, "PYTHONPROFILEIMPORTTIME": "1"}
        with TaskflowProcess("worker", "-A", "lean", "--processes", "2", "-B", cwd=lean, env=env) as worker:
            worker.wait_for_line("is ready")
            worker.wait_for_line("this beat leads")
            assert worker.stop() == 0
            names = [line.rpartition("|")[2].strip() for line in worker.stderr.splitlines() if "|" in line]
    assert [name for name in names if name == "taskflow.worker.child.entry"] != []
    twice = {name for name in names if names.count(name) > 1 and not name.startswith("lean")}
    assert {name for name in twice if name.startswith("taskflow")} == set()
