"""Commands as a user types them, in this process."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from click.testing import CliRunner

from taskflow.cli import main

SETTINGS = ("STORE", "BROKER", "NAMESPACE", "SEND_TIMEOUT")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command printed, and its exit code."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return orjson.loads(self.stdout)


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs commands with these TASKFLOW_* variables and no others."""

    env: Mapping[str, str]

    def run(self, *arguments: str, stdin: str | None = None, **settings: str) -> Outcome:
        env: dict[str, str | None] = {f"TASKFLOW_{name}": None for name in SETTINGS}
        env |= {**self.env, **{f"TASKFLOW_{name}": value for name, value in settings.items()}}
        # A command of a user is a process of its own: it reads the app's module, and the settings with it, anew.
        for option, target in itertools.pairwise(arguments):
            if option == "-A":
                sys.modules.pop(target.partition(":")[0], None)
        result = CliRunner().invoke(main, arguments, input=stdin, env=env, catch_exceptions=True)
        error = result.exception
        assert error is None or isinstance(error, SystemExit), f"a traceback reaches the user: {error!r}"
        return Outcome(result.exit_code, result.stdout, result.stderr)

    async def arun(self, *arguments: str, **settings: str) -> Outcome:
        """For tests with a worker in the running loop."""
        return await asyncio.to_thread(lambda: self.run(*arguments, **settings))
