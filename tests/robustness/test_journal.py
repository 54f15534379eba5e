"""The comparison itself: what it must find."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from taskflow.store.operation import DONE, Operation
from tests.robustness.journal import Journal, StoredRun

GOOD = ["1 start a", "2 end a", "3 seen a", "4 seen a"]


def stored(*, status: str = "completed", token: str = "a", attempts: int = 0) -> StoredRun:
    fields = {
        "function": b"robust/frozen",
        "status": status.encode(),
        "output": orjson.dumps({"freeze": "a"}),
    }
    memo = Operation("step", DONE, 0, data=orjson.dumps(token), attempts=[[1]] * attempts)
    return StoredRun("run", fields, {"freeze": memo})


def journal_of(folder: Path, lines: list[str]) -> Journal:
    path = folder / "journal"
    told = [line.split() for line in lines]
    path.write_text("".join(f"run freeze 0 77 {at_ns} {what} {token}\n" for at_ns, what, token in told))
    return Journal(path)


def test_an_interrupted_execution_before_the_committed_one_is_fine(tmp_path: Path) -> None:
    journal_of(tmp_path, ["0 start b", *GOOD]).check([stored()])


@pytest.mark.parametrize(
    ("lines", "run", "told"),
    [
        ([*GOOD, "5 start b"], stored(), "executed again by process 77"),
        (["1 start b", *GOOD], stored(token="b"), "the memo is of execution b"),
        ([*GOOD, "5 seen b"], stored(), "process 77 saw b"),
        (["1 start a"], stored(), "the committed execution ended 0 times"),
        (GOOD, stored(status="waiting"), "is waiting, not completed"),
        (GOOD, stored(attempts=1), "counts attempts"),
    ],
)
def test_violation_is_found(tmp_path: Path, lines: list[str], run: StoredRun, told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        journal_of(tmp_path, lines).check([run])


def test_repetition_is_found_where_none_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="was started 2 times"):
        journal_of(tmp_path, ["0 start b", *GOOD]).check([stored()], allow_repeats=False)
