"""Keys of flow control: CEL over the event that starts a run; each distinct value has its own limit. Rules S7."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from taskflow.expressions.cel import compile_expression
from taskflow.types import EventFields, FunctionId
from taskflow.values.tokens import token_of


def key_id(function_id: FunctionId, source: str | None, event: EventFields) -> str:
    """The id in the store of a function's limit, for the value of its key."""
    return f"{function_id}:{key_token(source, event)}"


def key_token(source: str | None, event: EventFields) -> str:
    """The value of a key as a token (`values.tokens`); empty without a key.

    A value that is missing or can't be computed counts as the empty string.
    """
    return "" if source is None else token_of(compile_expression(source, what="key").value(event))


def empty_keys(keys: Sequence[tuple[str, str]], event: EventFields) -> Iterator[str]:
    """A text for each key that is empty for this event, with the reason; `keys` are pairs of option and expression."""
    for option, source in keys:
        _, reason = compile_expression(source, what=option).key_of(event)
        if reason:
            yield f'{option} is "", which all runs without a key share: {reason}'
