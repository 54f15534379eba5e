"""Listeners: finds the functions that an event starts, by name, by pattern, and by a trigger's expression. Rules S1.6, S2.2."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from taskflow.errors import ExpressionError
from taskflow.event import WireEvent
from taskflow.expressions.cel import Expression, compile_expression
from taskflow.function import FunctionSpec
from taskflow.triggers import TriggerEvent

logger = logging.getLogger("taskflow.router")


@dataclass(slots=True)
class Listener:
    """A function, with one of its event triggers."""

    spec: FunctionSpec
    expression: Expression | None
    has_told: bool = False  # why an event could not be judged

    def wants(self, event: WireEvent) -> bool:
        """Whether the trigger's expression is true. An error counts as false, and is logged the first time."""
        if self.expression is None:
            return True
        try:
            return self.expression.holds(event)
        except ExpressionError as error:
            if not self.has_told:
                self.has_told = True
                logger.info(
                    "%s was not started by event %r %s: %s (for other events of this kind that is not said again)",
                    self.spec.id, event["name"], event["id"], error,
                )  # fmt: skip
            return False

    def objection(self, event: WireEvent) -> str:
        """Why the trigger's expression is not true."""
        assert self.expression is not None
        try:
            self.expression.holds(event)
        except ExpressionError as error:
            return str(error)
        return f"its condition does not hold: {self.expression.source}"


class Listeners:
    """Finds the functions that an event starts; names stand in a dict, patterns in a list."""

    def __init__(self, specs: Sequence[FunctionSpec]) -> None:
        self.by_name: dict[str, list[Listener]] = {}
        self.by_prefix: list[tuple[str, Listener]] = []
        for spec in specs:
            self.listen(spec)

    def listen(self, spec: FunctionSpec) -> None:
        """Add a function with its event triggers. Raises ConfigError when an expression can't be read."""
        for trigger in spec.triggers:
            if isinstance(trigger, TriggerEvent):
                self.add(spec, trigger)

    def add(self, spec: FunctionSpec, trigger: TriggerEvent) -> None:
        expression = None
        if trigger.expression is not None:
            expression = compile_expression(
                trigger.expression, what=f"function {spec.id!r}: trigger expression"
            )
        listener = Listener(spec, expression)
        if trigger.is_pattern:
            self.by_prefix.append((trigger.event[:-1], listener))
        else:
            self.by_name.setdefault(trigger.event, []).append(listener)

    def of(self, event: WireEvent) -> list[FunctionSpec]:
        """The functions that the event starts; each is there once, even if the event meets several of its triggers."""
        specs: dict[str, FunctionSpec] = {}
        for listener in self.named(event["name"]):
            if listener.spec.id not in specs and listener.wants(event):
                specs[listener.spec.id] = listener.spec
        return list(specs.values())

    def named(self, name: str) -> list[Listener]:
        """The listeners to events of this name, whatever their expressions say."""
        listeners = self.by_name.get(name, [])
        if self.by_prefix:
            listeners = listeners + [
                listener for prefix, listener in self.by_prefix if name.startswith(prefix)
            ]
        return listeners

    def objections(self, event: WireEvent) -> dict[str, str]:
        """By function: why it does not start by the event, though it listens to events of this name."""
        told: dict[str, str] = {}
        wanted = {spec.id for spec in self.of(event)}
        for listener in self.named(event["name"]):
            if listener.spec.id not in wanted:
                told.setdefault(listener.spec.id, listener.objection(event))
        return told
