"""What of a run is shown when it is long: some of many like steps, and the beginning of a large text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from taskflow.run import StepView

MANY_STEPS = 12  # like ones in a row, from which on only some are shown
FIRST_SHOWN = 3
TELLING_SHOWN = 5  # of those that failed or wait
MAX_LINES = 60  # of an output or an error
MAX_CHARS = 8_000
TELLING = ("failed", "retry", "due", "wait", "offer", "taken")  # states that say why a run is where it is

NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class FoldedSteps:
    """Steps in a row, all called alike, that are not shown."""

    name: str  # their ids, with n for a number
    kind: str
    states: Counter[str]

    def __str__(self) -> str:
        told = ", ".join(f"{count:,} {state}" for state, count in self.states.most_common())
        return f"… {self.states.total():,} more {self.name!r}: {told}"


def folded(steps: Iterable[StepView], *, is_whole: bool) -> Iterator[StepView | FoldedSteps]:
    """The steps in their order; of many in a row with like ids the first, those that tell something, and a count of the rest."""
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
    """What ids in a loop have in common: "child" of `child#7`, "part n" of `part 7`."""
    return NUMBER.sub("n", key.partition("#")[0])


def cut(lines: Sequence[str], *, is_whole: bool, how_to_see: str) -> Iterator[str]:
    """The first lines of a text, and at the end what was left out and how to see it."""
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
