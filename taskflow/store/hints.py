"""Hints: the messages for the broker that a script's reply asks for; `courier` sends them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

from taskflow.store.keys import SEPARATOR


class WorkHint(NamedTuple):
    """A work message is needed: a queue of an app has ready runs."""

    app_id: str
    queue: str


class OutboxEvent(NamedTuple):
    """An event about the end of a run, which has to be published. It stays in the outbox, by its `uid`, until it is."""

    uid: str
    event: bytes  # JSON


Hint: TypeAlias = WorkHint | OutboxEvent
"""A message for the broker that a script's reply asks for."""


def parse_hints(flat: Sequence[bytes]) -> list[Hint]:
    return [parse_hint(flat[i].decode(), flat[i + 1]) for i in range(0, len(flat), 2)] if flat else []


def parse_hint(name: str, value: bytes) -> Hint:
    if name.startswith(SEPARATOR):
        return OutboxEvent(name.removeprefix(SEPARATOR), value)
    return WorkHint(name, value.decode())


def queues_of(hints: Iterable[Hint]) -> dict[str, list[str]]:
    """App -> the queues that need a work message, each once."""
    queues: dict[str, list[str]] = {}
    for hint in hints:
        if isinstance(hint, WorkHint) and hint.queue not in (known := queues.setdefault(hint.app_id, [])):
            known.append(hint.queue)
    return queues


def events_of(hints: Iterable[Hint]) -> list[OutboxEvent]:
    """The events of the outbox among the hints."""
    return [hint for hint in hints if isinstance(hint, OutboxEvent)]
