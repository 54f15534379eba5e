"""The Lua scripts of the streams as files: each says what it takes and gives, and is called with just that."""

from __future__ import annotations

import pytest

from taskflow.broker.streams.bindings import StreamKeys
from taskflow.broker.streams.commands import ConsumerCommands
from taskflow.broker.streams.scripts import PACKAGE, script_call
from taskflow.redis.scripts import load_scripts

SAY = ConsumerCommands(StreamKeys("tf:{b}:"), "me", claim_idle_ms=8_000)
ALIVE = "tf:{b}:alive:"


def test_each_operation_is_one_script() -> None:
    assert set(load_scripts(PACKAGE)) == {"change", "leave", "purge", "release", "requeue", "take_over"}


def test_what_a_script_does_not_use_of_the_includes_is_not_sent() -> None:
    sources = {name: script.source for name, script in load_scripts(PACKAGE).items()}
    assert {name for name, source in sources.items() if "function give_back" in source} == {
        "release",
        "requeue",
    }
    assert "function facts_of" not in sources["change"]


def test_arguments_go_by_name() -> None:
    keys, facts = ["tf:{b}:q:a"], ("q", "me")
    assert SAY.leave("a")[2:] == (1, *keys, *facts, ALIVE)
    assert SAY.take_over(["a"], 5, predecessors=["old"])[2:] == (1, *keys, *facts, 8_000, 5, ALIVE, "old")
    (requeue,) = SAY.requeue({"a": [b"1-1", b"1-2"]})
    assert requeue[2:] == (1, *keys, *facts, b"1-1", b"1-2")
    with pytest.raises(TypeError, match="group"):
        script_call("purge", keys)
