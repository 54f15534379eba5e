"""History: what happened in a simulation, as plain records in order. The checker reads nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol


class Now(Protocol):
    @property
    def now_us(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that happened: `what`, at which place in the order, when (us since the epoch), in which process, and details."""

    place: int
    at_us: int
    what: str
    process: str
    about: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.about[name]

    def line(self, start_us: int) -> str:
        details = " ".join(f"{name}={shorten(value)}" for name, value in self.about.items())
        return f"{self.place:6} {(self.at_us - start_us) / 1e6:11.6f}  {self.process:14} {self.what:16} {details}"


class History:
    """Grows while `is_recording`."""

    def __init__(self, clock: Now) -> None:
        self.clock = clock
        self.start_us = clock.now_us
        self.records: list[Record] = []
        self.is_recording = True

    def add(self, what: str, process: str = "", **about: Any) -> Record:
        record = Record(len(self.records), self.clock.now_us, what, process, about)
        if self.is_recording:
            self.records.append(record)
        return record

    def lines(self) -> list[str]:
        return [record.line(self.start_us) for record in self.records]


def shorten(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    text = " ".join(str(value).replace("\x1f", "|").split())
    return text if len(text) <= 160 else text[:157] + "..."
