"""Refuses expressions, keys and matches that read an encrypted field of an event: the router sees it encrypted. Rule S12.2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields

from taskflow.errors import ConfigError
from taskflow.expressions.paths import Path, paths_of
from taskflow.flow.cancel import Cancels
from taskflow.function import FunctionSpec
from taskflow.triggers import TriggerEvent

# The fields of limits that are CEL.
EXPRESSIONS = ("key", "if_exp", "run")


def check_function(spec: FunctionSpec, encrypted: Sequence[Path]) -> None:
    """Raise ConfigError if an option of the function reads an encrypted field."""
    if not encrypted:
        return
    try:
        for trigger in spec.triggers:
            if isinstance(trigger, TriggerEvent):
                check_expression(trigger.expression, encrypted, what="the expression of a trigger")
        for what, source in expressions_of(spec):
            check_expression(source, encrypted, what=what)
        for cancel in spec.flow.cancel.events if spec.flow.cancel is not None else ():
            check_expression(cancel.if_exp, encrypted, what="cancel if_exp")
            check_match(cancel.match, encrypted, what="cancel match")
    except ConfigError as error:
        raise ConfigError(f"function {spec.id!r}: {error}") from error


def expressions_of(spec: FunctionSpec) -> Iterator[tuple[str, str]]:
    """The expressions of all limits, each with its name in errors before it."""
    yield from spec.flow.keys
    for limit in spec.flow.limits:
        if isinstance(limit, Cancels):
            continue
        for each in fields(limit):  # type: ignore[arg-type]  # a record is a dataclass
            value = getattr(limit, each.name)
            if each.name in EXPRESSIONS and isinstance(value, str):
                yield f"{limit.option}.{each.name}", value


def check_expression(source: str | None, encrypted: Sequence[Path], *, what: str) -> None:
    """Raise ConfigError if a checked CEL expression reads an encrypted field, or something of which one is a part."""
    if source is None or not encrypted:
        return
    for path in paths_of(source):
        check_path(path, encrypted, what=f"{what} {source!r:.200}")


def check_match(match: str | None, encrypted: Sequence[Path], *, what: str) -> None:
    """Raise ConfigError if a match reads an encrypted field."""
    if match is not None:
        check_path(tuple(match.split(".")), encrypted, what=f"{what} {match!r:.200}")


def check_path(path: Path, encrypted: Sequence[Path], *, what: str) -> None:
    for field in encrypted:
        shared = min(len(path), len(field))
        if path[:shared] == field[:shared]:
            read = ".".join(path) or "the whole event"
            raise ConfigError(
                f"{what} reads {read}, but {'.'.join(field)} of events is encrypted, so no value in it can be compared. Send what "
                "is needed in a field of its own, or take the field out of Encryption(event_fields=[...])"
            )
