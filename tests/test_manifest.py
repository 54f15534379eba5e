"""Frozen dataclasses as manifests, and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

import orjson
import pytest

from taskflow.types import Duration
from taskflow.values.durations import parse_duration_ms
from taskflow.values.manifest import NoManifest, from_manifest, to_manifest


@dataclass(frozen=True, slots=True)
class Pause:
    length: Duration = field(compare=False)
    longest: Duration | None = field(default=None, compare=False)
    length_ms: int = field(init=False)
    longest_ms: int | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "length_ms", parse_duration_ms(self.length))
        longest_ms = None if self.longest is None else parse_duration_ms(self.longest)
        object.__setattr__(self, "longest_ms", longest_ms)


@dataclass(frozen=True, slots=True)
class Bell:
    sound: str
    times: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    name: str
    parts: tuple[Bell | Pause, ...] = ()
    mode: Literal["loud", "low"] = "low"
    factor: float = 1.0
    is_on: bool = True
    last: Bell | None = None
    size: int = field(init=False, default=0)


WHOLE = Plan("a", (Bell("ding", 2), Pause("90s", "1h"), Pause(1)), "loud", 2, False, Bell("dong"))


@pytest.mark.parametrize("plan", [Plan("a"), WHOLE])
def test_what_is_written_is_read_back(plan: Plan) -> None:
    assert from_manifest(Plan, orjson.loads(orjson.dumps(to_manifest(plan)))) == plan


def test_durations_are_in_ms_and_what_is_derived_or_none_is_left_out() -> None:
    assert to_manifest(Plan("a", (Pause("90s"),))) == {
        "name": "a", "parts": [{"length_ms": 90_000}], "mode": "low", "factor": 1.0, "is_on": True
    }  # fmt: skip
    assert from_manifest(Pause, {"length_ms": 1_500}).length == timedelta(milliseconds=1_500)


def test_a_reader_takes_defaults_for_what_is_missing_and_passes_over_what_it_does_not_know() -> None:
    assert from_manifest(Plan, {"name": "a", "of_a_later_version": {"x": 1}}) == Plan("a")


@pytest.mark.parametrize(
    ("manifest", "problem"),
    [
        ([], "it is a list where an object is expected"),
        ({}, "it has no 'name'"),
        ({"name": 1}, "in 'name' it has a int where a str is expected"),
        ({"name": "a", "is_on": 1}, "in 'is_on' it has a int where a bool is expected"),
        ({"name": "a", "factor": "2"}, "in 'factor' it has a str where a float is expected"),
        ({"name": "a", "mode": "off"}, "in 'mode' it has 'off' where one of ('loud', 'low') is expected"),
        ({"name": "a", "parts": "b"}, "in 'parts' it has a str where a list is expected"),
        ({"name": "a", "parts": [{"length_ms": "1"}]}, "in 'parts' in 'length_ms' it has a str where a number of ms is expected"),
        ({"name": "a", "parts": [{"length_ms": 10**20}]}, "in 'parts' in 'length_ms' it has 100000000000000000000 ms"),
        ({"name": "a", "parts": [{"x": 1}]}, "in 'parts' it has no 'length_ms'"),
        ({"name": "a", "last": 7}, "in 'last' it is a int where an object is expected"),
    ],
)  # fmt: skip
def test_what_can_not_be_read_is_refused_with_its_place(manifest: Any, problem: str) -> None:
    with pytest.raises(NoManifest) as refused:
        from_manifest(Plan, manifest)
    assert str(refused.value).startswith(problem)
