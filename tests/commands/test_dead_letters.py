"""`taskflow dead-letters`: messages that could not be read are kept with the reason."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from taskflow import TaskFlow
from taskflow.testing.harness import Harness
from taskflow.values.clock import VirtualClock
from tests.commands.shell import Shell


@pytest.fixture
async def harness(app: TaskFlow) -> AsyncIterator[Harness]:
    async with Harness(app, clock=VirtualClock(time.time_ns() // 1_000_000)) as harness:
        yield harness


async def test_unreadable_messages_are_listed_newest_first(harness: Harness, shell: Shell) -> None:
    for body in (b"nonsense", b'{"name": "no list"}', b"\xff\x00"):
        await harness.apps[0]._link.async_publisher.publish_events([body])
        await harness.settled()
    letters = (await shell.arun("dead-letters", "--json")).json
    assert [letter["body"] for letter in letters] == [None, '{"name": "no list"}', "nonsense"]
    assert letters[0]["body_base64"] == "/wA="
    assert letters[1]["reason"] == "expected a JSON array of events, got a JSON dict"
    assert letters[1]["at_ms"] == harness.clock.now_ms()
    assert set(letters[2]) == {"id", "at_ms", "reason", "body", "body_base64"}
    assert len((await shell.arun("dead-letters", "--limit", "1", "--json")).json) == 1
    text = (await shell.arun("dead-letters")).stdout
    assert '  expected a JSON array of events, got a JSON dict\n  {"name": "no list"}\n' in text


def test_no_dead_letters_is_good_news(shell: Shell) -> None:
    assert shell.run("dead-letters").stdout == "no dead letters: every message could be read\n"
