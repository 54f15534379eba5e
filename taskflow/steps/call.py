"""Call, StepCall and Done: what the step tools and the engine hand to each other for one call of a tool."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from taskflow.errors import LimitExceeded, NonRetriableError
from taskflow.step_options import PLAIN, StepSettings
from taskflow.store.operation import Operation
from taskflow.values.shape import ANY, Shape

MAX_STEP_ID_CHARS = 256
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters and lone surrogates


@dataclass(slots=True)
class Call:
    """A call of a step tool. `known` is its operation, if the store had one when this process got the run."""

    id: str
    # the step id, with #1, #2, ... when it was used before (S3.8)
    key: str
    # its place in the order of calls
    index: int
    known: Operation | None


class StepCall(NamedTuple):
    """A call of `step.run`: the function to call, its arguments, the step's options, and the type of the result (S11.3)."""

    call: Call
    fn: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}
    output: Shape = ANY
    settings: StepSettings = PLAIN


class Done(NamedTuple):
    """The outcome of a step that was executed here and is stored; the handler gets it."""

    value: Any


def check_step_id(step_id: object) -> None:
    """Raise NonRetriableError unless this can be the id of a step."""
    if isinstance(step_id, str) and 0 < len(step_id) <= MAX_STEP_ID_CHARS and not UNPRINTABLE.search(step_id):
        return
    raise NonRetriableError(
        f"a step id must be a string of 1 to {MAX_STEP_ID_CHARS} printable characters, but is {step_id!r:.80}. "
        "The first argument of every step tool is its id: step.run('charge', charge_card, order)"
    )


def check_output_size(data: bytes | str, what: str, max_bytes: int, *, verb: str = "returned") -> None:
    """Raise LimitExceeded for JSON that is too large to be the outcome, or the kept input, of a step. Rule S3.10."""
    size = len(data) if isinstance(data, bytes) else len(data.encode())
    if size > max_bytes:
        raise LimitExceeded(
            f"{what} {verb} {size:,} bytes of JSON, but at most {max_bytes:,} are allowed "
            "(max_step_output_bytes). Keep what is large elsewhere, and give a reference to it."
        )
