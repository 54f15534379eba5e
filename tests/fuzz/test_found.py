"""What fuzzing has found, case by case."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from taskflow.config import Config
from taskflow.errors import ConfigError
from taskflow.function import FunctionSpec
from tests.commands.shell import Shell
from tests.fuzz.test_config import MANIFEST

LONG = "1" * 5_000  # Python refuses to make an int of it


@pytest.mark.parametrize("name", ["MAX_STEPS", "MAX_EVENT_BYTES", "RETRIES", "MAX_CRASHES"])
@pytest.mark.parametrize("value", [LONG, f"{LONG}MiB", "٣", "²"])
def test_a_number_in_the_environment_that_is_none(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"TASKFLOW_{name}"):
        Config.resolve("shop", environ={f"TASKFLOW_{name}": value})


@pytest.mark.parametrize("wrong", [1e300, 10**30, float("nan")])
@pytest.mark.parametrize("place", [("retries", "initial_ms"), ("timeouts", "start_ms")])
def test_a_manifest_with_a_duration_that_no_timedelta_holds(wrong: Any, place: tuple[str, str]) -> None:
    manifest = copy.deepcopy(MANIFEST)
    manifest[place[0]][place[1]] = wrong
    with pytest.raises(ConfigError):
        FunctionSpec.from_manifest(manifest)


def test_a_ts_of_thousands_of_digits_is_a_usage_error() -> None:
    nobody = {"TASKFLOW_BROKER": "redis://127.0.0.1:1/0"}
    outcome = Shell(nobody).run("send", "shop/paid", "--app", "shop", "--ts", LONG)
    assert outcome.code == 2
    assert "--ts" in outcome.stderr
