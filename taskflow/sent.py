"""`SentEvent`, the handle of an event that was sent, and the view of what is stored of it. Rule S10.2."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import field
from typing import Any, Protocol, TypeVar

from taskflow.headers import Headers
from taskflow.run import Run, RunReader
from taskflow.types import JsonObject, RunId
from taskflow.values.record import record

T = TypeVar("T")


@record(kw_only=True)
class EventView:
    """An event, with the runs that it started, skipped, resumed and cancelled. Times are ms since the epoch. Rule S10.2."""

    id: str  # the id that `send` returned
    uid: str  # the internal id
    name: str
    data: JsonObject
    ts: int  # the event's own time
    user: JsonObject | None
    v: str | None
    headers: Headers
    received_ms: int  # when the first app routed it
    duplicate_of: str | None  # the uid of the event that had this id before
    started: Mapping[
        str, str
    ]  # function -> the run that has the event; events of a batch or a debounce share one
    skipped: Mapping[str, str]  # function -> why its run was skipped
    superseded: Mapping[str, str]  # function -> the debounced run that has a later event instead
    resumed: tuple[tuple[str, str], ...]  # (run, key of the step that waited)
    cancelled: tuple[str, ...]  # runs that it cancelled
    # function -> why its condition does not hold; read for one event, not for lists
    unmet: Mapping[str, str] = field(default_factory=dict)

    @property
    def came_to_nothing(self) -> bool:
        """Whether the event had no effect on any function, wait or run."""
        return not (self.started or self.skipped or self.superseded or self.resumed or self.cancelled)

    def to_json(self) -> JsonObject:
        """The view as a JSON object, as `taskflow events show --json` shows it."""
        return {
            "id": self.id, "uid": self.uid, "name": self.name, "data": self.data, "ts": self.ts, "user": self.user, "v": self.v,
            "headers": dict(self.headers),
            "received_ms": self.received_ms, "duplicate_of": self.duplicate_of, "started": dict(self.started),
            "skipped": dict(self.skipped), "superseded": dict(self.superseded),
            "resumed": [{"run_id": run_id, "step": step} for run_id, step in self.resumed], "cancelled": list(self.cancelled),
            "unmet": dict(self.unmet),
        }  # fmt: skip


class EventReader(RunReader, Protocol):
    """The methods that the handle of an event needs to reach the store."""

    async def view_event(self, event_id: str, name: str | None = None) -> EventView:
        """The view of an event; of the one named `name`, if several have the id. Raises EventNotFound."""
        ...

    def block_on(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T: ...


class SentEvent:
    """The handle of an event, by the id that `send` returned. It looks nothing up before one of its methods is called.

    (event_id,) = app.send("shop/order.created", {"sku": "A7"})
    app.event(event_id).view()    # what it started, skipped and resumed
    app.event(event_id).runs()    # handles of the runs that it started
    """

    __slots__ = ("_reader", "id", "name")

    def __init__(self, event_id: str, reader: EventReader, name: str | None = None) -> None:
        self.id = event_id
        self.name = name
        self._reader = reader

    def __repr__(self) -> str:
        return f"<SentEvent {self.id}>"

    def view(self) -> EventView:
        """The event as it is stored, and what it did. An event is unknown until an app has routed it, moments after `send`.

        Raises EventNotFound, StoreUnavailable. Rule S10.2.
        """
        return self._reader.block_on(self.aview)

    async def aview(self) -> EventView:
        """See `view`."""
        return await self._reader.view_event(self.id, self.name)

    def runs(self) -> list[Run[Any]]:
        """The runs that have the event, in the order of their functions' ids. Raises EventNotFound, StoreUnavailable."""
        return self._reader.block_on(self.aruns)

    async def aruns(self) -> list[Run[Any]]:
        """See `runs`."""
        return [Run(RunId(run_id), self._reader) for run_id in (await self.aview()).started.values()]
