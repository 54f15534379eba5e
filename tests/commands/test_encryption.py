"""`taskflow encryption status`, `taskflow blobs check`, and what a command shows that has no key."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from taskflow import Context, Encryption, Step, TaskFlow
from taskflow.testing import Harness
from taskflow.values.clock import VirtualClock
from tests.commands.shell import Shell
from tests.conftest import MakeApp

KEY, OLD = "correct horse battery staple", "an old horse and a staple"
APP_MODULE = """
from taskflow import Encryption, TaskFlow

app = TaskFlow("shop", codecs=[Encryption({key!r}, fallback_keys=[{old!r}])])
"""


def add_function(app: TaskFlow) -> None:
    @app.function(trigger="order")
    async def work(ctx: Context, step: Step) -> str:
        await step.run("one", lambda: ctx.event.data["encrypted"])
        await step.sleep("nap", "1h")
        return "done"


def real_clock() -> VirtualClock:
    """Commands go by the real clock."""
    return VirtualClock(time.time_ns() // 1_000_000)


async def test_values_are_counted_by_key(make_app: MakeApp, shell: Shell) -> None:
    clock = real_clock()
    for key in (OLD, KEY):
        app = make_app("shop", codecs=[Encryption(key)])
        add_function(app)
        async with Harness(app, clock=clock) as harness:
            run = await harness.send("order", {"encrypted": "078"})
            if key == OLD:
                await harness.finish(run)
    told = (await shell.arun("encryption", "status", "--json")).json
    old, new = Encryption(OLD).key.id, Encryption(KEY).key.id
    assert (told["runs"], told["has_more"]) == (2, False)
    # The event, the step and the result; the event and the step.
    assert [(row["key"], row["role"], row["values"], row["runs"], row["live_runs"]) for row in told["keys"]] == [
        (old, None, 3, 1, 0), (new, None, 2, 1, 1),
    ]  # fmt: skip
    shown = await shell.arun("encryption", "status")
    assert re.search(rf"{old} +3 +1 +0 ", shown.stdout)
    assert "in all 2 runs" in shown.stdout
    page = await shell.arun("runs", "show", run.id)
    assert f"encrypted (key {new})" in page.stdout
    assert "078" not in page.stdout


async def test_app_says_what_it_does_with_each_key(
    make_app: MakeApp, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "encrypted_shop.py").write_text(APP_MODULE.format(key=KEY, old=OLD))
    monkeypatch.chdir(tmp_path)
    app = make_app("shop", codecs=[Encryption(KEY)])
    add_function(app)
    async with Harness(app, clock=real_clock()) as harness:
        run = await harness.send("order", {"encrypted": "078"})
        shown = await shell.arun("encryption", "status", "-A", "encrypted_shop")
        assert re.search(rf"{Encryption(KEY).key.id} +encrypts +2 ", shown.stdout)
        assert f"no run needs key {Encryption(OLD).key.id}: it can be dropped" in shown.stdout
        page = await shell.arun("runs", "show", run.id, "-A", "encrypted_shop")
        assert "078" in page.stdout


async def test_nothing_is_encrypted(app: TaskFlow, shell: Shell) -> None:
    add_function(app)
    async with Harness(app, clock=real_clock()) as harness:
        await harness.send("order", {"encrypted": "078"})
        shown = await shell.arun("encryption", "status")
    assert shown.stdout == "nothing is encrypted in the 1 runs that were looked at\n"


async def test_blobs_are_checked_and_orphans_removed(make_app: MakeApp, shell: Shell, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/blobs"
    app = make_app(blobs=url)

    @app.function(trigger="order")
    async def work(ctx: Context, step: Step) -> str:
        return await step.run("one", lambda: "x" * 100_000)

    async with Harness(app, clock=real_clock()) as harness:
        run = await harness.send("order")
        await app.codecs.blobs.put("01GONE-abcdef", b"orphan")
        shown = await shell.arun("blobs", "check", BLOBS=url)
        assert shown.code == 0
        assert "1 of them, 6 bytes, are needed by no run" in shown.stdout
        told = (await shell.arun("blobs", "check", "--remove", "--json", BLOBS=url)).json
        assert (told["blobs"], told["removed"], told["missing"]) == (2, 1, [])
        await app.codecs.blobs.remove(run.id)
        missing = await shell.arun("blobs", "check", BLOBS=url)
        assert missing.code == 1
        assert run.id in missing.stdout


def test_check_without_a_place_says_how_to_give_one(shell: Shell) -> None:
    outcome = shell.run("blobs", "check")
    assert outcome.code == 1
    assert "set TASKFLOW_BLOBS" in outcome.stderr
