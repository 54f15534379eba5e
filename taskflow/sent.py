"""An event that was sent, as the code that sent it sees it: what is stored of it, and `SentEvent`, the handle. Rule S10.2."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from taskflow.headers import Headers
from taskflow.run import Run, RunReader
from taskflow.types import JsonObject, RunId

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """An event and what it came to. Times are ms since the epoch."""

    id: str  # as `send` returned it
    uid: str  # the internal id
    name: str
    data: JsonObject
    ts: int  # its own time
    user: JsonObject | None
    v: str | None
    headers: Headers
    received_ms: int  # when the first app routed it
    duplicate_of: str | None  # the uid of the event that had this id before
    started: Mapping[
        str, str
    ]  # function -> the run that has the event; of a batch or a debounce several events have one
    skipped: Mapping[str, str]  # function -> why it got no run but one that is skipped
    superseded: Mapping[str, str]  # function -> the debounced run that has a later event instead
    resumed: tuple[tuple[str, str], ...]  # (run, key of the step that waited)
    cancelled: tuple[str, ...]  # runs that it cancelled

    @property
    def came_to_nothing(self) -> bool:
        """Whether no function, wait or run took notice of it."""
        return not (self.started or self.skipped or self.superseded or self.resumed or self.cancelled)

    def to_json(self) -> JsonObject:
        """Everything."""
        return {
            "id": self.id, "uid": self.uid, "name": self.name, "data": self.data, "ts": self.ts, "user": self.user, "v": self.v,
            "headers": dict(self.headers),
            "received_ms": self.received_ms, "duplicate_of": self.duplicate_of, "started": dict(self.started),
            "skipped": dict(self.skipped), "superseded": dict(self.superseded),
            "resumed": [{"run_id": run_id, "step": step} for run_id, step in self.resumed], "cancelled": list(self.cancelled),
        }  # fmt: skip


class EventReader(RunReader, Protocol):
    """What the handle of an event needs."""

    async def view_event(self, event_id: str, name: str | None = None) -> EventView:
        """What is stored of an event: that of `name`, should several share the id. Raises EventNotFound."""
        ...

    def block_on(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T: ...


class SentEvent:
    """An event, by the id that `send` returned; nothing is looked up before it is asked for.

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
        """What is stored of the event. An event is unknown until an app has routed it: moments after `send`.

        Raises EventNotFound, StoreUnavailable.
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
