"""Matching: by which values an event finds the waits that it ends, and the runs that it cancels. Rule S3.3.

A wait with an equality stands in the index under the value that the event must have, so an event looks up the waits with its values
and never walks through the others. The rest of the expression stays CEL, and is evaluated for the few waits that were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taskflow.expressions.cel import compile_expression
from taskflow.expressions.equalities import split_equality
from taskflow.types import EventFields
from taskflow.values.record import record
from taskflow.values.tokens import token_of

MISSING = object()

VARIABLES = ("event", "async")

NOTHING_EQUAL = "\x00nothing"  # the token of a wait whose own event lacks the value: no event finds it


@record
class WaitPlan:
    """The place of a wait in the index, and the condition that is left, as the store gets them."""

    events: list[str]
    path: str | None  # the path at which the event must have a certain value
    token: str | None  # path and value as "path=value"
    condition: str | None  # CEL that must hold too

    def is_met_by(self, event: EventFields, *, run_event: EventFields) -> bool:
        """Whether an event of one of the wait's names ends it; the answer is that of the index."""
        if self.path is not None and tokens_of(event, [self.path]) != [self.token]:
            return False
        return self.condition is None or meets_condition(self.condition, run_event=run_event, event=event)


def place_wait(
    events: Sequence[str], match: str | None, if_exp: str | None, *, event: EventFields
) -> WaitPlan:
    """The plan of a wait, or of an event that cancels a run. The arguments were checked before."""
    if match is not None:
        return WaitPlan(list(events), match, token_of_field(match, match, event), if_exp)
    equality = None if if_exp is None else split_equality(if_exp)
    if equality is None:
        return WaitPlan(list(events), None, None, if_exp)
    if equality.other_path is None:
        token = token_for(equality.path, equality.literal)
    else:
        token = token_of_field(equality.path, equality.other_path, event)
    return WaitPlan(list(events), equality.path, token, equality.residue)


def value_at(event: EventFields, path: str) -> Any:
    """The value at a path like "data.order.id", or MISSING."""
    value: Any = event
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            return MISSING
        value = value[part]
    return value


def token_of_field(path: str, own_path: str, run_event: EventFields) -> str:
    """The token for "the event has at `path` the value that the run's own event has at `own_path`"."""
    value = value_at(run_event, own_path)
    return NOTHING_EQUAL if value is MISSING else token_for(path, value)


def token_for(path: str, value: Any) -> str:
    """The index entry for "this path has this value". Equal numbers have one entry, whatever their type, as in CEL."""
    return f"{path}={token_of(value)}"


def tokens_of(event: EventFields, paths: Sequence[str]) -> list[str]:
    """The index entries of an event's values at these `paths`, which are those that waits look at."""
    tokens = []
    for path in paths:
        if not path:
            tokens.append("")
        elif (value := value_at(event, path)) is not MISSING:
            tokens.append(token_for(path, value))
    return tokens


def meets_condition(condition: str, *, run_event: EventFields, event: EventFields) -> bool:
    """Whether an event meets the rest of a wait's expression; an error counts as no."""
    return compile_expression(condition, what="wait", variables=VARIABLES).matches(run_event, event)
