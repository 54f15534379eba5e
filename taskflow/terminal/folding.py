"""Folding: shortens the page of a long run. Of many similar steps it shows some, of a large text the beginning."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from taskflow.run import StepView
from taskflow.values.record import record

MANY_STEPS = 12  # from so many similar steps in a row on, only some are shown
FIRST_SHOWN = 3
TELLING_SHOWN = 5  # how many of them that failed or wait
MAX_LINES = 60  # of an output or an error
MAX_CHARS = 8_000
TELLING = ("failed", "retry", "due", "wait", "offer", "taken")  # states that explain why a run is where it is

NUMBER = re.compile(r"\d+")


@record
class FoldedSteps:
    """Similar steps in a row that are not shown."""

    name: str  # the common form of their ids, with n for a number
    kind: str
    states: Counter[str]

    def __str__(self) -> str:
        told = ", ".join(f"{count:,} {state}" for state, count in self.states.most_common())
        return f"… {self.states.total():,} more {self.name!r}: {told}"


def folded(steps: Iterable[StepView], *, is_whole: bool) -> Iterator[StepView | FoldedSteps]:
    """The steps in order. Of many in a row with similar ids only the first, those that failed or wait, and a count of the rest."""
    for (name, kind), group in groupby(steps, key=lambda step: (name_of(step.key), step.kind)):
        like = list(group)
        if is_whole or len(like) <= MANY_STEPS:
            yield from like
            continue
        telling = [step for step in like[FIRST_SHOWN:] if step.state in TELLING][:TELLING_SHOWN]
        shown = {step.key for step in (*like[:FIRST_SHOWN], *telling)}
        yield from (step for step in like if step.key in shown)
        yield FoldedSteps(name, kind, Counter(step.state for step in like if step.key not in shown))


def name_of(key: str) -> str:
    """The common form of the ids of a loop: "child" for `child#7`, "part n" for `part 7`."""
    return NUMBER.sub("n", key.partition("#")[0])


def cut(lines: Sequence[str], *, is_whole: bool, how_to_see: str) -> Iterator[str]:
    """The first lines of a text, and then a line that says how much was left out, and how to see it."""
    size = sum(map(len, lines)) + len(lines)
    if is_whole or (len(lines) <= MAX_LINES and size <= MAX_CHARS):
        yield from lines
        return
    left = MAX_CHARS
    for line in lines[:MAX_LINES]:
        yield line[:left]
        left -= len(line) + 1
        if left <= 0:
            break
    yield f"… ({size:,} characters in all; {how_to_see})"
