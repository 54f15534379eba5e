"""`taskflow routes`, and what a rule does to a call. Rule S15.4."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskflow.app import TaskFlow
from taskflow.errors import ConfigError
from taskflow.testing import Harness
from tests.commands.shell import Shell

CODE = """
from taskflow import TaskFlow

app = TaskFlow("shop")
app.route("reports.daily", queue="fast")
app.route("reports.*", queue="slow")


@app.task(id="reports.daily")
def daily() -> None: ...


@app.task(id="other", queue="own")
def other() -> None: ...
"""


async def test_the_first_rule_that_fits_decides_where_the_call_is_made(app: TaskFlow) -> None:
    """S15.4: a queue that the call names beats it; in a canvas too."""
    app.route("reports.daily", queue="fast")
    app.route("reports.*", queue="slow")

    @app.task(id="reports.daily")
    async def daily() -> None: ...

    @app.task(id="reports.weekly", queue="own")
    async def weekly(after: object = None) -> None: ...

    @app.task(id="other", queue="own")
    async def other() -> None: ...

    async with Harness(app) as harness:
        runs = [
            await daily.adelay(), await weekly.adelay(), await other.adelay(), await daily.options(queue="named").adelay(),
            *await weekly.amany([()]),
        ]  # fmt: skip
        assert [(await run.aview()).queue for run in runs] == ["fast", "slow", "own", "named", "slow"]
        await (other.s().set(queue="default") | weekly.s()).adelay()
        await harness.settled()
        assert {(await run.aview()).queue for run in await harness.runs(weekly)} == {"slow"}


def test_rules_that_cannot_be_are_refused(app: TaskFlow) -> None:
    """S2.5"""
    with pytest.raises(ConfigError, match="by their ids without it: 'reports"):
        app.route("shop/reports.*", queue="slow")
    with pytest.raises(ConfigError, match="queue must have"):
        app.route("*", queue="a.b")


def test_the_command_says_which_rule_decides(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S15.4"""
    (tmp_path / "routed_shop.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    told = shell.run("routes", "list", "-A", "routed_shop")
    assert told.code == 0 and told.stdout.index("reports.daily") < told.stdout.index("reports.*")
    assert shell.run("routes", "list", "-A", "routed_shop", "--json").json == [
        {"pattern": "reports.daily", "queue": "fast"}, {"pattern": "reports.*", "queue": "slow"}
    ]  # fmt: skip
    names = ("reports.daily", "shop/other", "reports.new")
    lines = [shell.run("routes", "test", name, "-A", "routed_shop").stdout for name in names]
    assert lines == [
        "reports.daily goes to 'fast' by the rule 'reports.daily'\n",
        "other goes to 'own' by no rule: that is its own queue\n",
        "reports.new (shop has no such task) goes to 'slow' by the rule 'reports.*'\n",
    ]
    assert shell.run("routes", "test", "other", "-A", "routed_shop", "--json").json["queue"] == "own"
