"""Producers: threads that send events at a steady rate, outlive refusals, and note what was accepted."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from taskflow import BrokerUnavailable, TaskFlow
from taskflow.types import JsonObject

# What is sent, and how often in a hundred.
MIX = {
    "flow": 30,
    "order": 12,
    "report": 10,
    "shaky": 10,
    "limited": 14,
    "paced": 8,
    "calm": 8,
    "blocking": 8,
}
TENANTS = 4
KEYS = 5
LONGEST_PAUSE_S = 3.0  # between an order and the event that it waits for
RETRY_S = 0.2


@dataclass(frozen=True, slots=True)
class Sent:
    """One call of `send`. `uid` is empty when it was refused, which leaves open whether the broker has the event."""

    name: str
    data: JsonObject
    uid: str
    took_s: float


class Producer:
    """One thread. `numbers` gives each event a number of its own, in `data.n`."""

    def __init__(
        self, app: TaskFlow, *, seed: int, every_s: float, numbers: itertools.count[int], is_async: bool
    ) -> None:
        self.app = app
        self.sent: list[Sent] = []
        self.error: BaseException | None = None
        self._random = random.Random(seed)
        self._every_s = every_s
        self._numbers = numbers
        self._runner = asyncio.Runner() if is_async else None
        self._owed: list[tuple[float, int]] = []  # when to send the event that an order waits for
        self._stop = threading.Event()
        self._abort = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos-producer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._abort.set()
        self._stop.set()
        self._thread.join()
        self.app.close()

    def finish(self, *, deadline_s: float) -> list[str]:
        """Send no new orders, but all that they wait for; what could not be sent. Raises what the thread raised."""
        self._stop.set()
        self._thread.join(deadline_s)
        if self.error is not None:
            raise self.error
        if not self._thread.is_alive():
            return []
        return [f"{len(self._owed)} events could not be sent within {deadline_s:g} s after the chaos"]

    def _run(self) -> None:
        try:
            due_s = time.monotonic()
            while not self._stop.is_set():
                self._send_one()
                self._pay(time.monotonic())
                due_s = max(
                    due_s + self._every_s, time.monotonic() - 1.0
                )  # what was missed is not made up for
                self._stop.wait(max(0.0, due_s - time.monotonic()))
            while self._owed and not self._abort.is_set():
                self._pay(time.monotonic() + LONGEST_PAUSE_S)
        except BaseException as error:  # told by `finish`
            self.error = error
        finally:
            if self._runner is not None:
                self._runner.close()

    def _send_one(self) -> None:
        (kind,) = self._random.choices(list(MIX), weights=list(MIX.values()))
        data: JsonObject = {"n": next(self._numbers)}
        if kind == "limited":
            data["tenant"] = f"tenant-{self._random.randrange(TENANTS)}"
        elif kind == "calm":
            data["key"] = self._random.randrange(KEYS)
        elif kind == "order":
            data["order"] = data["n"]
        self._send(f"chaos/{kind}", data)
        if kind == "order":  # also when it was refused: the broker may have it, and then a run waits
            self._owed.append((time.monotonic() + self._random.uniform(0, LONGEST_PAUSE_S), data["n"]))

    def _pay(self, now_s: float) -> None:
        """Send the events that are due; one that is refused stays due."""
        for owed in [each for each in self._owed if each[0] <= now_s]:
            if self._send("chaos/paid", {"n": next(self._numbers), "order": owed[1]}):
                self._owed.remove(owed)
            elif self._abort.wait(RETRY_S):
                return

    def _send(self, name: str, data: JsonObject) -> bool:
        began_s = time.monotonic()
        uid = ""
        with suppress(BrokerUnavailable):
            (uid,) = self._call(name, data)
        self.sent.append(Sent(name, data, uid, time.monotonic() - began_s))
        return bool(uid)

    def _call(self, name: str, data: dict[str, Any]) -> list[str]:
        if self._runner is not None:
            return self._runner.run(self.app.asend(name, data))
        return self.app.send(name, data)
