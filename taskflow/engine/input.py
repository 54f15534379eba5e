"""RunInput: the events that a run was given, and which events its handler has had."""

from __future__ import annotations

import orjson

from taskflow.codecs.codecs import Codecs
from taskflow.event import ReceivedEvent, WireEvent, read_event
from taskflow.store.claimed import ClaimedRun


def decode_received(codecs: Codecs, event: ReceivedEvent) -> None:
    """Decrypt the fields of an event that are encrypted. Raises DecodeError. Rule S12.2."""
    if codecs.encryption is not None:
        from taskflow.codecs.event_fields import decode_event

        event.data, event.user = decode_event(codecs, event.name, event.data, event.user)


class RunInput:
    """The events of one run: `events` of a batch, and the first of them, as an object and (`event_obj`) as on the wire."""

    __slots__ = ("_had", "event", "event_obj", "events")

    def __init__(self, claimed: ClaimedRun) -> None:
        self.event_obj: WireEvent = orjson.loads(claimed.event) if claimed.wire is None else claimed.wire
        self.event = ReceivedEvent.from_wire(self.event_obj)
        self.events = [self.event, *map(read_event, claimed.more_events)]
        self._had: set[str] | None = None

    def decode(self, codecs: Codecs) -> None:
        """Decrypt the events (S12.2). Raises DecodeError."""
        for event in self.events:
            decode_received(codecs, event)

    @property
    def had(self) -> set[str]:
        """The uids of the events that the handler has got; a wait that looks back ignores them."""
        if self._had is None:
            self._had = {event.uid for event in self.events}
        return self._had
