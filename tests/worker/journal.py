"""The journal: one file to which a worker under test, its children and its store append what they do."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from taskflow.values.clock import boot_ns
from taskflow.worker.lease import NS_PER_S


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened. `at_s` is the time since boot, the same clock in all processes."""

    what: str
    at_s: float
    pid: int
    child_id: str = ""
    detail: Any = None


class Journal:
    """Append from any process, read from any other."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "journal"

    def write(self, what: str, *, child_id: str = "", detail: Any = None) -> None:
        entry = {
            "what": what,
            "at_s": boot_ns() / NS_PER_S,
            "pid": os.getpid(),
            "child_id": child_id,
            "detail": detail,
        }
        with self._path.open("ab", buffering=0) as file:  # O_APPEND: one write, one entry
            file.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))

    def read(self, what: str = "", *, child_id: str = "") -> list[Entry]:
        """All entries so far, or those of one kind or child."""
        if not self._path.exists():
            return []
        *lines, _ = self._path.read_bytes().split(b"\n")
        entries = [Entry(**orjson.loads(line)) for line in lines]
        return [e for e in entries if what in ("", e.what) and child_id in ("", e.child_id)]
