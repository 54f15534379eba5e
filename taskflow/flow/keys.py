"""Keys of flow control: CEL over the event that starts a run; each distinct value has its own limit. Rules S7."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from taskflow.expressions.cel import compile_expression
from taskflow.types import EventFields, FunctionId
from taskflow.values.tokens import token_of


def key_id(function_id: FunctionId, source: str | None, event: EventFields) -> str:
    """What names a limit of a function in the store, for the value of its key."""
    return f"{function_id}:{key_token(source, event)}"


def key_token(source: str | None, event: EventFields) -> str:
    """The value of a key as text that is the same for equal values; empty without a key.

    A value that is missing or can't be computed counts as the empty string.
    """
    return "" if source is None else token_of(compile_expression(source, what="key").value(event))


def empty_keys(keys: Sequence[tuple[str, str]], event: EventFields) -> Iterator[str]:
    """Why keys of a function are empty for an event; `keys` are their options and expressions."""
    for option, source in keys:
        _, reason = compile_expression(source, what=option).key_of(event)
        if reason:
            yield f'{option} is "", which all runs without a key share: {reason}'
