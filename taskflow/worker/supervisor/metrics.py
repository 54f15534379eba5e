"""WorkerMetrics: the sums of what a worker's processes have counted, for `/metrics`. Rule S13.1."""

from __future__ import annotations

import signal
import threading
from collections.abc import Collection
from typing import Any

from taskflow.observability.families import CHILD_DEATHS
from taskflow.observability.metrics import Key, Tally
from taskflow.worker.supervisor.child_process import Exit


class WorkerMetrics:
    """Counters and histograms of all processes, those that have ended too; gauges of those that live.

    The supervisor's thread counts, and the health server's reads: once a second each, so a lock costs nothing.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums = Tally()
        self._gauges: dict[str, dict[Key, float]] = {}

    def count(self, child_id: str, told: list[Any]) -> None:
        """Add what a process has counted since it last told; its gauges replace the former ones."""
        tally = Tally.from_json(told)
        with self._lock:
            self._gauges[child_id], tally.gauges = tally.gauges, {}
            self._sums.merge(tally)

    def died(self, exit: Exit) -> None:
        """Count a process that nobody had asked to end."""
        cause = "exit"
        if exit.code < 0:
            known = -exit.code in {number.value for number in signal.Signals}
            cause = signal.Signals(-exit.code).name if known else f"signal {-exit.code}"
        with self._lock:
            self._sums.add((CHILD_DEATHS.name, cause))

    def keep(self, child_ids: Collection[str]) -> None:
        """Forget the gauges of all other processes."""
        gone = self._gauges.keys() - child_ids
        if gone:
            with self._lock:
                for child_id in gone:
                    del self._gauges[child_id]

    def tally(self) -> Tally:
        """The sums, as a copy."""
        tally = Tally()
        with self._lock:
            tally.merge(self._sums)
            for gauges in self._gauges.values():
                each = Tally()
                each.gauges = gauges
                tally.merge(each)
        return tally
