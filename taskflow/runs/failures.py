"""Failures: failed runs, grouped by what failed: the function, the class of the error, and the line of code that raised it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from taskflow.run import RunView
from taskflow.values.record import record

FRAME = re.compile(r'^ *File "(?P<path>.+)", line \d+, in (?P<name>.+)$', re.MULTILINE)


@record(kw_only=True)
class FailureGroup:
    """Runs that failed alike. Times are ms since the epoch, of when the runs were made."""

    function: str
    error: str  # the class
    where: str  # "module.py, in charge": the innermost frame of user code; empty if the error has none
    count: int
    first_ms: int
    last: RunView


def grouped(failed: Iterable[RunView]) -> list[FailureGroup]:
    """The groups of failed runs, that with the most runs first. Pure; the runs may come in any order."""
    groups: dict[tuple[str, str, str], list[RunView]] = {}
    for run in failed:
        if run.error is not None:
            key = (run.function, run.error.name, place_of(run.error.stack))
            groups.setdefault(key, []).append(run)
    found = [
        FailureGroup(
            function=function, error=error, where=where, count=len(runs), first_ms=min(run.created_ms for run in runs),
            last=max(runs, key=lambda run: (run.created_ms, run.run_id)),
        )
        for (function, error, where), runs in groups.items()
    ]  # fmt: skip
    return sorted(found, key=lambda each: (-each.count, -each.last.created_ms))


def place_of(stack: str) -> str:
    """The innermost frame without its line, which moves with each edit of the file."""
    frames = list(FRAME.finditer(stack))
    if not frames:
        return ""
    file = frames[-1]["path"].replace("\\", "/").rpartition("/")[2]
    return f"{file}, in {frames[-1]['name']}"
