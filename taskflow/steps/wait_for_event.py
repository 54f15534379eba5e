"""`step.wait_for_event`: a wait for an event by its name, by a value that both events share, or by an expression. Rule S3.3."""

from __future__ import annotations

from collections.abc import Sequence

from taskflow.errors import NonRetriableError
from taskflow.expressions.cel import compile_expression
from taskflow.expressions.matching import VARIABLES, WaitPlan, place_wait
from taskflow.triggers import check_event_name
from taskflow.types import EventFields


def plan_wait(
    step_id: str, events: Sequence[str], match: str | None, if_exp: str | None, *, event: EventFields
) -> WaitPlan:
    """Check the arguments of a wait and work out its place in the index; `event` is the run's own wire object."""
    what = f"step.wait_for_event({step_id!r})"
    if not events:
        raise NonRetriableError(f"{what}: give the name of an event, or several")
    for name in events:
        check_event_name(name, what=what)
    if if_exp is not None:
        compile_expression(if_exp, what=f"{what} if_exp", variables=VARIABLES)
    if match is not None:
        check_path(match, what)
    return place_wait(events, match, if_exp, event=event)


def check_path(path: str, what: str) -> None:
    if all(part.isidentifier() for part in path.split(".")):
        return
    raise NonRetriableError(
        f"{what} match must be a path into both events, like 'data.order_id', but is {path!r}. For anything else use if_exp."
    )
