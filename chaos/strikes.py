"""Carries out a plan: kills, pauses, cuts and stalls, undoes what ends, and notes what was done when."""

from __future__ import annotations

import heapq
import itertools
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeVar

from chaos.fleet import Fleet
from chaos.plan import Strike
from tests.processes import TaskflowProcess, is_alive, is_taskflow
from tests.robustness.deployment import kill_host, send
from tests.servers import Server

T = TypeVar("T")


@dataclass(slots=True)
class Blow:
    """A strike as it happened, by CLOCK_MONOTONIC.

    `pids`: the processes that were killed or paused themselves; `family`: with those that can't go on without them.
    """

    action: str
    target: str
    from_ns: int
    pids: frozenset[int] = frozenset()
    until_ns: int = 0  # 0: not over
    family: frozenset[int] = frozenset()


@dataclass(order=True, slots=True)
class Ending:
    at_s: float
    number: int
    undo: Callable[[], None] = field(compare=False)


class Striker:
    """`run_due` does what is due at a time (s since the start); `heal` undoes all that is left.

    A target that is struck already, or is not there, is left out.
    """

    def __init__(self, fleet: Fleet, plan: Sequence[Strike]) -> None:
        self.fleet = fleet
        self.blows: list[Blow] = []
        self.left_out = 0
        self._strikes = list(reversed(plan))
        self._endings: list[Ending] = []
        self._numbers = itertools.count()
        self._busy: set[str] = set()  # servers and proxies
        self._starting: list[Future[None]] = []

    def run_due(self, now_s: float) -> None:
        while self._endings and self._endings[0].at_s <= now_s:
            heapq.heappop(self._endings).undo()
        while self._strikes and self._strikes[-1].at_s <= now_s:
            self._strike(self._strikes.pop(), now_s)

    def heal(self) -> None:
        """Resume, restart and let through, now. Raises what a restart raised."""
        self._strikes.clear()
        while self._endings:
            heapq.heappop(self._endings).undo()
        for start in self._starting:
            start.result()

    def _strike(self, strike: Strike, now_s: float) -> None:
        act = {
            "kill": self._kill_server if strike.target in ("store", "broker") else self._kill,
            "pause": self._pause_server if strike.target in ("store", "broker") else self._pause,
            "cut": self._cut,
            "stall": self._stall,
            "deploy": self._deploy,
        }[strike.action]
        blow = Blow(strike.action, strike.target, time.monotonic_ns())
        if not act(blow, strike, now_s + strike.for_s):
            self.left_out += 1
            return
        blow.until_ns = 0 if strike.for_s else time.monotonic_ns()
        self.blows.append(blow)

    def _end_at(self, at_s: float, undo: Callable[[], None]) -> None:
        heapq.heappush(self._endings, Ending(at_s, next(self._numbers), undo))

    # Processes

    def _kill(self, blow: Blow, strike: Strike, end_s: float) -> bool:
        fleet = self.fleet
        match strike.target:
            case "child":
                return self._kill_child(blow, strike)
            case "all workers":
                victims = living(fleet.workers)
            case "beat":
                victims = choose(living(fleet.beats), strike.pick)
            case _:
                victims = choose(living(fleet.workers), strike.pick)
        is_host = strike.target in ("host", "all workers")
        blow.family = frozenset(pid for process in victims for pid in (process.pid, *process.children()))
        blow.pids = blow.family if is_host else frozenset(process.pid for process in victims)
        for victim in victims:
            if is_host:
                kill_host(victim)
            else:
                victim.kill()
        return bool(victims)

    def _deploy(self, blow: Blow, strike: Strike, end_s: float) -> bool:
        return self.fleet.deploy_one(strike.pick) is not None

    def _kill_child(self, blow: Blow, strike: Strike) -> bool:
        victims = choose(self.fleet.children(), strike.pick)
        for pid in victims:
            send(pid, signal.SIGKILL)
        blow.pids = blow.family = frozenset(victims)
        return bool(victims)

    def _pause(self, blow: Blow, strike: Strike, end_s: float) -> bool:
        fleet = self.fleet
        if strike.target == "child":
            pids = choose(fleet.children(), strike.pick)
        else:
            of = fleet.beats if strike.target == "beat" else fleet.workers
            victims = choose(living(of), strike.pick)
            is_host = strike.target == "host"
            pids = [pid for each in victims for pid in (each.pid, *(each.children() if is_host else ()))]
        for pid in pids:
            send(pid, signal.SIGSTOP)
        blow.pids = frozenset(pids)

        def resume() -> None:
            for pid in pids:
                if is_alive(pid) and is_taskflow(pid):
                    send(pid, signal.SIGCONT)
            blow.until_ns = time.monotonic_ns()

        self._end_at(end_s, resume)
        return bool(pids)

    # Servers

    def _server(self, target: str) -> tuple[str, Server]:
        """The server by the name under which it is busy."""
        fleet = self.fleet
        return ("store", fleet.store) if target == "store" else ("broker", fleet.broker)

    def _kill_server(self, blow: Blow, strike: Strike, end_s: float) -> bool:
        name, server = self._server(strike.target)
        if name in self._busy:
            return False
        self._busy.add(name)
        server.kill()

        def restart() -> None:
            server.restart()
            blow.until_ns = time.monotonic_ns()
            self._busy.discard(name)

        self._end_at(end_s, lambda: self._starting.append(self.fleet.operator.submit(restart)))
        return True

    def _pause_server(self, blow: Blow, strike: Strike, end_s: float) -> bool:
        name, server = self._server(strike.target)
        if name in self._busy:
            return False
        self._busy.add(name)
        server.pause()

        def resume() -> None:
            server.resume()
            blow.until_ns = time.monotonic_ns()
            self._busy.discard(name)

        self._end_at(end_s, resume)
        return True

    # Connections

    def _cut(self, blow: Blow, strike: Strike, end_s: float) -> bool:
        return self.fleet.proxies[strike.target].cut() > 0

    def _stall(self, blow: Blow, strike: Strike, end_s: float) -> bool:
        name, proxy = f"connections of {strike.target}", self.fleet.proxies[strike.target]
        if name in self._busy:
            return False
        self._busy.add(name)
        proxy.stall()

        def resume() -> None:
            proxy.resume()
            blow.until_ns = time.monotonic_ns()
            self._busy.discard(name)

        self._end_at(end_s, resume)
        return True


def living(processes: Sequence[TaskflowProcess]) -> list[TaskflowProcess]:
    return [process for process in processes if process.process.poll() is None]


def choose(candidates: Sequence[T], pick: float) -> list[T]:
    """One of them, or none if there is none."""
    return [candidates[int(pick * len(candidates))]] if candidates else []
