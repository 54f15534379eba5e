"""`taskflow doctor`: what is wrong with a deployment, from real servers that it is wrong with."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.commands.shell import Outcome, Shell
from tests.processes import TaskflowProcess, wait_until
from tests.servers import RabbitMQServer, ValkeyServer

APP = """
from taskflow import Context, TaskFlow, TriggerCron

app = TaskFlow("shop")


@app.function(trigger=TriggerCron("0 3 * * *"))
async def nightly(ctx: Context) -> None:
    pass
"""


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer(aof=True) as running:
        yield running


def shell_of(server: ValkeyServer, **settings: str) -> Shell:
    return Shell({"TASKFLOW_STORE": server.url, "TASKFLOW_BROKER": server.url, **settings})


def findings(outcome: Outcome) -> dict[str, Any]:
    """(level, text) by subject; the worst where a subject has several."""
    order = ("ok", "warning", "error")
    found: dict[str, tuple[str, str]] = {}
    for each in outcome.json["findings"]:
        known = found.get(each["subject"], ("ok", ""))
        if order.index(each["level"]) >= order.index(known[0]):
            found[each["subject"]] = (each["level"], each["text"])
    return found


def configure(server: ValkeyServer, **settings: str) -> None:
    with redis.Redis.from_url(server.url) as admin:
        for name, value in settings.items():
            admin.config_set(name.replace("_", "-"), value)


def test_a_deployment_that_is_well(server: ValkeyServer, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    env = {"TASKFLOW_STORE": server.url, "TASKFLOW_BROKER": server.url}
    with TaskflowProcess(
        "worker", "-A", "shop:app", "-B", "--processes", "1", cwd=tmp_path, env=env
    ) as worker:
        worker.wait_for_line("is ready")
        # The beat of a worker begins beside it.
        outcome = wait_until(
            lambda: found if (found := shell_of(server).run("doctor", "--json")).code == 0 else None,
            what="a doctor that is content",
        )
    assert outcome.json["ok"]
    found = findings(outcome)
    assert {level for level, _ in found.values()} == {"ok"}
    assert found["workers"] == ("ok", "1 live")
    assert found["beat"][1].endswith(" leads")
    assert found["functions"] == ("ok", "1 registered")
    assert found["store"][1].startswith("Valkey ")
    assert found["store persistence"] == ("ok", "append-only file")


def test_nobody_works(server: ValkeyServer) -> None:
    outcome = shell_of(server).run("doctor", "--json")
    assert outcome.code == 1
    found = findings(outcome)
    assert {subject for subject, (level, _) in found.items() if level == "error"} == {
        "workers",
        "beat",
        "functions",
    }
    shown = shell_of(server).run("doctor")
    assert shown.code == 1
    assert "none is live" in shown.stdout


def test_a_cron_without_a_leader_is_named(server: ValkeyServer, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    env = {"TASKFLOW_STORE": server.url, "TASKFLOW_BROKER": server.url}
    with TaskflowProcess("worker", "-A", "shop:app", "--processes", "1", cwd=tmp_path, env=env) as worker:
        worker.wait_for_line("is ready")
        outcome = shell_of(server).run("doctor", "--json")
    assert outcome.code == 1
    level, text = findings(outcome)["beat"]
    assert level == "error"
    assert "shop/nightly" in text


@pytest.mark.parametrize(
    ("policy", "level"),
    [
        ("allkeys-lru", "error"),
        ("allkeys-random", "error"),
        ("volatile-lru", "warning"),
        ("noeviction", "ok"),
    ],
)
def test_eviction(server: ValkeyServer, policy: str, level: str) -> None:
    configure(server, maxmemory_policy=policy)
    outcome = shell_of(server).run("doctor", "--json")
    assert findings(outcome)["store eviction"][0] == level


@pytest.mark.parametrize(("limit", "level"), [("1gb", "ok"), ("32mb", "warning"), ("1500kb", "error")])
def test_maxmemory(server: ValkeyServer, limit: str, level: str) -> None:
    shell_of(server).run("doctor")  # the store gets its version, which a full one refuses
    configure(server, maxmemory=limit)
    assert findings(shell_of(server).run("doctor", "--json"))["store memory"][0] == level


def test_no_persistence_is_a_warning() -> None:
    with ValkeyServer() as server:
        assert findings(shell_of(server).run("doctor", "--json"))["store persistence"][0] == "warning"


def test_servers_that_are_away(server: ValkeyServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        away = f"redis://127.0.0.1:{taken.getsockname()[1]}/0"
        without_store = shell_of(server, TASKFLOW_STORE=away).run("doctor", "--json")
        without_broker = shell_of(server, TASKFLOW_BROKER=away).run("doctor", "--json")
    assert (without_store.code, without_broker.code) == (1, 1)
    assert findings(without_store)["store"][0] == "error"
    assert findings(without_store)["broker"][0] == "ok"
    assert findings(without_broker)["broker"][0] == "error"
    assert findings(without_broker)["store"][0] == "ok"


@pytest.mark.rabbitmq
def test_a_broker_of_another_kind_tells_what_it_is(server: ValkeyServer) -> None:
    if not RabbitMQServer.is_installed():
        pytest.skip("no RabbitMQ")
    with RabbitMQServer() as rabbit:
        level, text = findings(shell_of(server, TASKFLOW_BROKER=rabbit.url).run("doctor", "--json"))["broker"]
    assert level == "ok"
    assert text.startswith("RabbitMQ ")


def test_a_role_goes_with_acl(server: ValkeyServer) -> None:
    assert shell_of(server).run("doctor", "worker").code == 2
