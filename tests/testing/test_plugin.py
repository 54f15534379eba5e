"""The pytest plugin, in projects that use it and in projects that don't."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.processes import REPOSITORY

PLUGIN = "taskflow.testing.plugin"
APP = """
from taskflow import TaskFlow
from taskflow.testing import Harness, SyncHarness

app = TaskFlow("shop")

@app.function(trigger="user.created")
async def remind(ctx, step):
    await step.sleep("a month", "30 days")
    return "reminded"
"""


def run_pytest(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    if folder != REPOSITORY:
        (folder / "pytest.ini").write_text("[pytest]\n")  # whatever lies in the folders above
    own = {name: value for name, value in os.environ.items() if not name.startswith(("TASKFLOW_", "PYTEST_"))}
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", "-q", *arguments]
    return subprocess.run(
        command, cwd=folder, env={**own, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True,
        timeout=50, check=False,
    )  # fmt: skip


def test_the_entry_point_names_the_plugin() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    # The name is the module's, so that `-p` and the entry point are one plugin to pytest, not two.
    assert project["entry-points"]["pytest11"] == {PLUGIN: PLUGIN}
    plugin = importlib.import_module(PLUGIN)
    assert {"taskflow_valkey", "make_harness", "make_sync_harness"} <= set(vars(plugin))


def test_the_example_runs() -> None:
    done = run_pytest("examples/testing", folder=REPOSITORY)
    assert "4 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("manager", ["asyncio", "anyio"])
def test_async_tests_work_with_pytest_asyncio_and_with_anyio(tmp_path: Path, manager: str) -> None:
    marks = {
        "asyncio": "import pytest\npytestmark = pytest.mark.asyncio\n",
        "anyio": "import pytest\npytestmark = pytest.mark.anyio\n\n@pytest.fixture\ndef anyio_backend(): return 'asyncio'\n",
    }
    (tmp_path / "test_it.py").write_text(
        marks[manager]
        + APP
        + """
async def test_remind(make_harness, taskflow_valkey):
    async with make_harness(app) as harness:
        assert app.config.store.startswith(taskflow_valkey.removesuffix("/0"))
        run = await harness.send("user.created")
        await harness.advance(days=30)
        assert await run.aresult() == "reminded"
"""
    )
    options = {
        "asyncio": ("-p", "no:anyio", "-o", "asyncio_default_fixture_loop_scope=function"),
        "anyio": ("-p", "no:asyncio"),
    }
    done = run_pytest("-W", "error", *options[manager], folder=tmp_path)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_a_failed_test_shows_the_timeline_of_its_runs(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        APP
        + """
def test_remind(make_sync_harness):
    with make_sync_harness(app) as harness:
        run = harness.send("user.created")
        assert harness.view(run).output == "reminded"
"""
    )
    done = run_pytest(folder=tmp_path)
    assert done.returncode == 1
    assert "○ shop/remind  ·  waiting" in done.stdout
    assert "○ a month  sleep" in done.stdout


def test_a_failed_test_shows_no_frames_of_taskflow(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        APP
        + """
def test_result(make_sync_harness):
    with make_sync_harness(app) as harness:
        harness.send("user.created").result()

def test_step(make_sync_harness):
    with make_sync_harness(app) as harness:
        harness.view(harness.send("user.created")).step("a month").assert_completed()

def test_no_run(make_sync_harness):
    with make_sync_harness(app) as harness:
        harness.send("nobody.listens").run
"""
    )
    done = run_pytest(folder=tmp_path)
    assert "3 failed" in done.stdout, done.stdout + done.stderr
    frames = re.findall(r"^(\S+\.py):\d+: ", done.stdout, re.MULTILINE)
    assert set(frames) == {"test_it.py"}


def test_a_project_that_does_not_use_it_pays_no_import(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        """
import sys

def test_nothing_of_taskflow_is_imported():
    heavy = {"kombu", "redis", "celpy", "msgpack", "orjson", "taskflow.app", "taskflow.testing.harness"}
    assert not heavy & set(sys.modules)
"""
    )
    done = run_pytest("-W", "error", "-p", "no:asyncio", "-p", "no:anyio", "-p", "no:xdist", folder=tmp_path)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
