"""`taskflow send`: from the shell into runs. Rules S1.1 to S1.5."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from taskflow import TaskFlow
from taskflow.context import Context
from taskflow.step import Step
from taskflow.testing.harness import Harness
from taskflow.values.clock import VirtualClock
from taskflow.values.ids import is_ulid
from tests.commands.shell import Shell

WIRE_FIELDS = ("id", "name", "data", "ts", "user", "headers")


@pytest.fixture
async def harness(app: TaskFlow) -> AsyncIterator[Harness]:
    @app.function(trigger="shop/order")
    async def fulfil(ctx: Context[Any]) -> None: ...

    async with Harness(app, clock=VirtualClock(time.time_ns() // 1_000_000)) as harness:
        yield harness


async def last_event(harness: Harness, shell: Shell) -> dict[str, object]:
    await harness.settled()
    (run,) = (await shell.arun("runs", "list", "--limit", "1", "--json")).json
    shown = (await shell.arun("runs", "show", run["run_id"], "--json")).json
    return {name: shown["event"].get(name) for name in WIRE_FIELDS}


async def test_event_starts_a_run_and_its_id_is_printed(harness: Harness, shell: Shell) -> None:
    outcome = await shell.arun("send", "shop/order", "--data", '{"sku": "A7"}', "--app", "shop")
    assert outcome.code == 0
    assert is_ulid(outcome.stdout.strip())
    event = await last_event(harness, shell)
    assert (event["id"], event["data"]) == (outcome.stdout.strip(), {"sku": "A7"})


async def test_every_field_of_an_event_can_be_given(harness: Harness, shell: Shell) -> None:
    outcome = await shell.arun(
        "send", "shop/order", "--id", "order-7", "--ts", "2020-01-31T12:00:00Z", "--user", '{"id": 1}', "--header", "tenant=acme",
        "--header", "q=a=b", "--app", "shop", "--json",
    )  # fmt: skip
    assert outcome.json == {"id": "order-7"}
    assert await last_event(harness, shell) == {
        "id": "order-7", "name": "shop/order", "data": {}, "ts": 1_580_472_000_000, "user": {"id": 1},
        "headers": {"tenant": "acme", "q": "a=b"},
    }  # fmt: skip


async def test_headers_of_an_event_are_on_the_page_of_its_run(harness: Harness, shell: Shell) -> None:
    await shell.arun("send", "shop/order", "--header", "tenant=acme", "--app", "shop")
    await harness.settled()
    (run,) = (await shell.arun("runs", "list", "--json")).json
    assert "headers  tenant=acme" in (await shell.arun("runs", "show", run["run_id"])).stdout


def test_a_header_that_is_no_pair_is_a_usage_error(shell: Shell) -> None:
    outcome = shell.run("send", "shop/order", "--header", "tenant", "--app", "shop")
    assert outcome.code == 2
    assert "expected NAME=VALUE, as in tenant=acme, got 'tenant'" in outcome.stderr
    outcome = shell.run("send", "shop/order", "--header", "a b=1", "--app", "shop")
    assert outcome.code != 0
    assert "the name of a header must have 1 to 64 of the characters" in outcome.stderr


async def test_event_of_the_future_schedules_its_runs(harness: Harness, shell: Shell) -> None:
    await shell.arun("send", "shop/order", "--ts", str(harness.clock.now_ms() + 3_600_000), "--app", "shop")
    await harness.settled()
    (run,) = (await shell.arun("runs", "list", "--json")).json
    assert run["status"] == "scheduled"
    assert run["why"].startswith("scheduled for ")


async def test_a_delay_schedules_its_runs_too(harness: Harness, shell: Shell) -> None:
    assert (await shell.arun("send", "shop/order", "--delay", "1h", "--app", "shop")).code == 0
    await harness.settled()
    (run,) = (await shell.arun("runs", "list", "--json")).json
    assert run["status"] == "scheduled"
    outcome = await shell.arun("send", "shop/order", "--delay", "soon", "--app", "shop")
    assert (outcome.code, "delay" in outcome.stderr) == (1, True)
    outcome = await shell.arun(
        "send", "shop/order", "--delay", "1h", "--ts", "1900000000000", "--app", "shop"
    )
    assert (outcome.code, "delay=... or a ts, not both" in outcome.stderr) == (1, True)


def test_data_can_come_from_stdin(shell: Shell) -> None:
    assert shell.run("send", "shop/order", "--data", "-", "--app", "shop", stdin='{"n": 1}').code == 0
    assert shell.run("send", "shop/order", "--data", "-", "--app", "shop", stdin="n").code == 2


def test_app_of_a_module_knows_its_id_and_servers(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "send_shop.py").write_text("from taskflow import TaskFlow\napp = TaskFlow('shop')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert shell.run("send", "shop/order", "-A", "send_shop").code == 0


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["shop/order"], "which app is the event for? Give -A MODULE[:APP], or --app ID"),
        (["shop/order", "--app", "shop", "--data", "[1]"], "expected a JSON object"),
        (["shop/order", "--app", "shop", "--data", "{"], "expected a JSON object"),
        (["shop/order", "--app", "shop", "--ts", "soon"], "can't be read: 'soon'"),
        (["shop/order", "--app", "shop", "-A", "shop"], "give either -A or --app"),
        ([], "Missing argument 'NAME'"),
    ],
)
def test_wrong_usage_exits_with_2(shell: Shell, arguments: list[str], what: str) -> None:
    outcome = shell.run("send", *arguments)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert what in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["taskflow/x", "--app", "shop"], "names that start with 'taskflow/' are reserved"),
        (["shop/order", "--app", "sh.op"], "app_id must have 1 to 64 of the characters"),
        (["shop/order", "-A", "no_such_module"], "there is no module 'no_such_module'"),
    ],
)
def test_what_can_not_be_sent_is_told_in_plain_words(shell: Shell, arguments: list[str], what: str) -> None:
    outcome = shell.run("send", *arguments)
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith("taskflow: ")
    assert what in outcome.stderr


def test_broker_that_is_away_is_told_in_one_line(shell: Shell) -> None:
    outcome = shell.run("send", "a", "--app", "shop", BROKER="redis://127.0.0.1:1", SEND_TIMEOUT="200ms")
    assert outcome.code == 1
    assert outcome.stderr.startswith("taskflow: the broker redis://127.0.0.1:1 ")
    assert outcome.stderr.count("\n") == 1


def test_what_does_not_fit_the_model_of_the_app_is_refused_before_it_is_sent(shell: Shell) -> None:
    send = ("send", "shop/payment", "-A", "examples.typed", "--data")
    outcome = shell.run(*send, '{"order_id": "A-1", "cents": "a lot"}')
    assert (outcome.code, outcome.stdout) == (1, "")
    assert (
        "event 'shop/payment' does not fit Payment (version 2): cents: Input should be a valid integer"
        in outcome.stderr
    )
    old = (*send, '{"order_id": "A-1", "euros": 12.5}')
    assert "cents: Field required" in shell.run(*old).stderr
    assert shell.run(*old, "--event-version", "1").code == 0
    assert "has version '3', but" in shell.run(*old, "--event-version", "3").stderr


async def test_an_event_to_which_nobody_listens_is_sent_and_that_is_said(app: TaskFlow, shell: Shell) -> None:
    @app.function(trigger=["shop/order", "shop/bulk.*"])
    async def fulfil(ctx: Context[Any], step: Step) -> None:
        await step.wait_for_event("paid", "shop/paid", "1h")

    async with Harness(app, clock=VirtualClock(time.time_ns() // 1_000_000)) as harness:
        outcome = await shell.arun("send", "shop/oder", "--app", "shop")
        assert (outcome.code, is_ulid(outcome.stdout.strip())) == (0, True)
        assert outcome.stderr == (
            "taskflow: no function and no run listens to 'shop/oder' now; did you mean 'shop/order'?\n"
        )
        for heard in ("shop/order", "shop/bulk.done"):
            assert (await shell.arun("send", heard, "--app", "shop")).stderr == ""
        await harness.settled()
        # Now a run waits for it.
        assert (await shell.arun("send", "shop/paid", "--app", "shop")).stderr == ""


def test_a_producer_without_a_store_sends_all_the_same(shell: Shell) -> None:
    outcome = shell.run("send", "shop/order", "--app", "shop", STORE="redis://127.0.0.1:1/0")
    assert (outcome.code, outcome.stderr) == (0, "")
