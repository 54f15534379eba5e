"""Timeline: draws as bars when each step of a run executed and waited. Pure functions; times are ms since the epoch.

A bar is exact to half a character; work is shown as blocks, waits as a thin line.

    ██▌╶────────╴▐█
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from itertools import groupby

from taskflow.run import RunView, StepView
from taskflow.values.record import record


class Kind(IntEnum):
    """What a step did in a stretch of time. If two kinds meet in one place, the higher one is shown."""

    NONE = 0
    WAIT = 1  # asleep, waiting for an event, a run, or the next attempt
    WORK = 2
    NOW = 3  # still executing
    FAILED = 4  # an attempt that failed


STYLES = {Kind.NONE: "", Kind.WAIT: "dim", Kind.WORK: "good", Kind.NOW: "accent", Kind.FAILED: "bad"}


@record
class Stretch:
    """A stretch of time in which a step did one thing."""

    kind: Kind
    begin_ms: int
    end_ms: int


def bounds(run: RunView, now_ms: int) -> tuple[int, int]:
    """The time that the bars span: from the first start of the run to its end, or to now."""
    begin_ms = run.started_ms if run.started_ms is not None else run.created_ms
    end_ms = run.ended_ms if run.ended_ms is not None else now_ms
    known = [
        at for step in run.steps.values() for at in (step.ended_ms, step.last_started_ms) if at is not None
    ]
    return begin_ms, max([end_ms, begin_ms + 1, *known])


def stretches(step: StepView, until_ms: int) -> list[Stretch]:
    """The stretches of a step, in order; the last one of a step without outcome lasts until `until_ms`."""
    if step.started_ms is None:
        return []
    end_ms = step.ended_ms if step.ended_ms is not None else until_ms
    if step.is_wait:
        # A wait that was dropped has no end of its own.
        return [Stretch(Kind.WAIT, step.started_ms, step.started_ms if step.state == "dropped" else end_ms)]
    found: list[Stretch] = []
    at_ms = step.started_ms
    for attempt in step.failed_attempts:
        if attempt.started_ms > at_ms:
            found.append(Stretch(Kind.WAIT, at_ms, attempt.started_ms))
        found.append(Stretch(Kind.FAILED, attempt.started_ms, attempt.ended_ms))
        at_ms = attempt.ended_ms
    if step.state == "done" and step.last_started_ms is not None:
        if step.last_started_ms > at_ms:
            found.append(Stretch(Kind.WAIT, at_ms, step.last_started_ms))
        found.append(Stretch(Kind.WORK, step.last_started_ms, end_ms))
    elif step.state in ("retry", "due"):
        found.append(Stretch(Kind.WAIT, at_ms, end_ms))
    return found


def bar(parts: Sequence[Stretch], begin_ms: int, end_ms: int, width: int) -> list[tuple[str, str]]:
    """The bar: `width` characters as (text, style) spans. Each stretch fills at least half a character."""
    if width < 1:
        return []
    halves = [Kind.NONE] * (2 * width)
    scale = len(halves) / max(end_ms - begin_ms, 1)
    for part in sorted(parts, key=lambda part: part.kind):
        first = min(max(int((part.begin_ms - begin_ms) * scale), 0), len(halves) - 1)
        last = min(max(round((part.end_ms - begin_ms) * scale), first + 1), len(halves))
        halves[first:last] = [part.kind] * (last - first)
    cells = [cell(halves[i], halves[i + 1]) for i in range(0, len(halves), 2)]
    return [
        ("".join(text for text, _ in group), style) for style, group in groupby(cells, key=lambda one: one[1])
    ]


def cell(left: Kind, right: Kind) -> tuple[str, str]:
    """The character for two halves, and its style: that of the stronger half."""
    strongest = max(left, right)
    if strongest <= Kind.WAIT:
        text = (" ", "╶", "╴", "─")[2 * left + right]
    elif min(left, right) >= Kind.WORK:
        text = "█"
    else:
        text = "▌" if left > right else "▐"
    return text, STYLES[strongest]
