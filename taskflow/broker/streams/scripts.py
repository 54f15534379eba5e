"""Calls the Lua scripts in `lua/`, which change a stream or the topology atomically."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taskflow.redis.blocking import Command
from taskflow.redis.scripts import load_scripts

PACKAGE = "taskflow.broker.streams"

GROUP = "q"
"""The one consumer group of each stream: its consumers compete, as those of an AMQP queue do."""


def script_call(name: str, keys: Sequence[str], **named: Any) -> Command:
    """The command that runs a script; see its header for the arguments and the reply."""
    script = load_scripts(PACKAGE)[name]
    return ("EVALSHA", script.sha, len(keys), *keys, *script.argv(**named))


def loading_commands() -> list[Command]:
    """The commands that load the scripts into a server; it refuses EVALSHA of an unknown script with NOSCRIPT."""
    return [("SCRIPT", "LOAD", script.source) for script in load_scripts(PACKAGE).values()]
