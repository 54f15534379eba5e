"""Chaos: what goes wrong in a simulation, and when. All of it ends, so that everything can come to its end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from tests.simulation.hosts import BeatHost, Place, WorkerHost
from tests.simulation.observation import observe
from tests.simulation.process import MOMENTS, SimulatedProcess
from tests.simulation.releases import NEW, OLD
from tests.simulation.world import US_PER_S

SECOND = US_PER_S
REFUSALS = (
    b"READONLY You can't write against a read only replica.",
    b"MISCONF Errors writing to the AOF file: No space left on device",
    b"NOREPLICAS Not enough good replicas to write.",
)


class Chaos:
    """Each seed has its own mix of evils: some have none at all, few have all."""

    def __init__(
        self,
        place: Place,
        workers: list[WorkerHost],
        beats: list[BeatHost],
        *,
        length_ms: int,
        has_restarts: bool,
        is_rolling: bool,
        empties: bool,
    ) -> None:
        self.place = place
        self.world = place.world
        self.random: Random = place.world.random
        self.workers = workers
        self.beats = beats
        self.is_rolling = is_rolling
        self.empties = empties
        self.end_us = self.world.now_us + int((length_ms / 1000 + self.random.uniform(2, 15)) * SECOND)
        self.level = self.random.choice([0.0, 0.3, 1.0, 1.0])
        self.has_restarts = has_restarts
        self.is_over = False
        # What came later draws from this, so that seeds without it keep their histories.
        self.later = Random(f"chaos {place.world.seed}")

    def begin(self) -> None:
        if self.level:
            self.set_network()
            self.set_broker()
        if self.is_rolling:
            self.plan(self.roll, 3.0)
        for evil, mean_s in self.evils():
            if self.level and self.world.chance(0.5):
                self.plan(evil, mean_s / self.level)
        if self.level and self.later.random() < 0.25:
            at_us = self.world.now_us
            while (at_us := at_us + int(self.later.expovariate(1 / 6.0) * SECOND)) < self.end_us:
                length_us = int(self.later.choice([0.1, 2.0, 7.0]) * SECOND)
                self.world.at(at_us, partial(self.refuse_writes, length_us, self.later.choice(REFUSALS)))
        if self.empties:
            at_us = self.world.now_us + int(self.later.uniform(0.0, 12.0) * SECOND)
            self.world.at(min(at_us, self.end_us), self.empty_store)
        self.world.at(self.end_us, self.end)

    def evils(self) -> list[tuple[Callable[[], None], float]]:
        """What may happen, and how far apart (s) on average."""
        return [
            (self.kill_child, 6.0),
            (self.pause_child, 6.0),
            (self.crash_host, 15.0),
            (self.freeze_host, 10.0),
            (self.freeze_supervisor, 12.0),
            (self.crash_beat, 8.0),
            (self.freeze_beat, 8.0),
            (self.break_connections, 6.0),
            (self.stop_store, 15.0),
            (self.stop_broker, 12.0),
            (self.drain_child, 12.0),
            (self.set_clock, 12.0),
            *([(self.restart_host, 8.0)] if self.has_restarts else []),
        ]

    def set_network(self) -> None:
        faults, draw = self.place.network.faults, self.random
        faults.break_chance = draw.choice([0.0, 0.0, 0.003, 0.02]) * self.level
        faults.refuse_chance = draw.choice([0.0, 0.1])
        faults.orphan_chance = draw.choice([0.0, 0.3, 1.0])
        faults.slow_chance = draw.choice([0.01, 0.05, 0.2])
        faults.slowest_s = draw.choice([0.01, 0.1, 0.4])

    def set_broker(self) -> None:
        faults, draw = self.place.broker.faults, self.random
        faults.drop_chance = draw.choice([0.0, 0.1, 0.5, 1.0])
        faults.duplicate_chance = draw.choice([0.0, 0.05, 0.3])
        faults.slow_chance = draw.choice([0.02, 0.2])
        faults.slowest_s = draw.choice([0.05, 1.0, 4.0])
        faults.refuse_chance = draw.choice([0.0, 0.05])

    def plan(self, evil: Callable[[], None], mean_s: float) -> None:
        at_us = self.world.now_us + int(self.random.expovariate(1 / mean_s) * SECOND)
        if at_us < self.end_us:
            self.world.at(at_us, partial(self.strike, evil, mean_s))

    def strike(self, evil: Callable[[], None], mean_s: float) -> None:
        evil()
        self.plan(evil, mean_s)

    def end(self) -> None:
        """From here on all is well."""
        self.is_over = True
        self.world.history.add("calm")
        network, broker = self.place.network.faults, self.place.broker.faults
        network.break_chance = network.refuse_chance = network.orphan_chance = 0.0
        network.slow_chance, network.slowest_s = 0.01, 0.02
        broker.drop_chance = broker.duplicate_chance = broker.refuse_chance = 0.0
        broker.slow_chance, broker.slowest_s = 0.02, 0.05
        hosts: list[WorkerHost | BeatHost] = [*self.workers, *self.beats]
        for host in hosts:
            for process in host.processes():
                process.strokes.clear()
            if not host.is_alive:
                host.boot()
        if self.is_rolling:  # what only one release has comes to its end, too
            for host, release in zip(self.workers, (OLD, NEW), strict=False):
                host.reload_with(release)

    # --- evils ---

    def pick(self, hosts: list[Any]) -> Any:
        live = [host for host in hosts if host.is_alive]
        return self.random.choice(live) if live else None

    def some_child(self) -> Any:
        host = self.pick(self.workers)
        children = [child for child in host.children if not child.process.is_dead] if host else []
        return self.random.choice(children) if children else None

    def strike_process(self, process: SimulatedProcess, befall: Callable[[], None]) -> None:
        """In the middle of what it does, not while it waits for something to do."""
        moment = self.random.choice(MOMENTS)
        after = self.random.randrange(30 if moment == "callback" else 3)
        within_s = self.random.choice([0.02, 0.02, 2.0])
        process.strike(befall, moment=moment, after=after, within_us=int(within_s * SECOND))

    def strike_host(self, host: Any, befall: Callable[[Any], None]) -> None:
        """In the middle of what one of its processes does."""
        if host is not None:
            self.strike_process(self.random.choice(host.processes()), partial(befall, host))

    def kill_child(self) -> None:
        child = self.some_child()
        if child is not None:
            self.strike_process(child.process, child.process.kill)

    def pause_child(self) -> None:
        child = self.some_child()
        if child is not None:
            duration_us = int(self.random.choice([0.01, 0.2, 2.0, 15.0]) * SECOND)
            self.strike_process(child.process, partial(child.process.pause, duration_us))

    def drain_child(self) -> None:
        """SIGTERM: the child hands back what it holds, and another takes its place."""
        child = self.some_child()
        if child is None or not hasattr(child.worker, "intake") or child.is_draining:
            return
        child.drain()

    def restart_host(self) -> None:
        """SIGHUP."""
        host = self.pick(self.workers)
        if host is not None:
            host.restart()

    def roll(self) -> None:
        """A deploy goes on by one worker, or is taken back by one."""
        host = self.pick(self.workers)
        if host is None or host.is_leaving:
            return
        release = OLD if host.release == NEW else NEW
        self.random.choice([host.restart_with, host.reload_with])(release)

    def crash_host(self) -> None:
        self.strike_host(self.pick(self.workers), self.crash)

    def crash_beat(self) -> None:
        self.strike_host(self.pick(self.beats), self.crash)

    def crash(self, host: Any) -> None:
        host.crash()
        self.world.later(int(self.random.uniform(0.1, 20.0) * SECOND), partial(self.bring_back, host))

    def bring_back(self, host: Any) -> None:
        if not host.is_alive and not self.is_over:
            host.boot()

    def freeze_host(self) -> None:
        duration_us = int(self.random.choice([0.5, 12.0, 15.0, 25.0]) * SECOND)
        self.strike_host(self.pick(self.workers), lambda host: host.freeze(duration_us))

    def freeze_supervisor(self) -> None:
        """Its children work on, and nobody renews their lease."""
        host = self.pick(self.workers)
        if host is not None:
            duration_us = int(self.random.choice([0.5, 12.0, 15.0, 25.0]) * SECOND)
            self.strike_process(host.supervisor, partial(host.supervisor.pause, duration_us))

    def freeze_beat(self) -> None:
        duration_us = int(self.random.choice([0.5, 9.0, 20.0]) * SECOND)
        self.strike_host(self.pick(self.beats), lambda host: host.freeze(duration_us))

    def set_clock(self) -> None:
        """Somebody sets the clock of a machine."""
        hosts: list[WorkerHost | BeatHost] = [*self.workers, *self.beats]
        host = self.random.choice(hosts)
        host.time.set_by(self.random.choice([-3_600_000, -2_500, 2_500, 3_600_000]))

    def break_connections(self) -> None:
        connections = list(self.place.network.connections)
        for connection in connections:
            if self.world.chance(0.3):
                connection.is_cut = True
                connection.lose()

    def stop_store(self) -> None:
        """The store hangs, or restarts: then it has forgotten its scripts, and all connections are gone."""
        network = self.place.network
        back_us = self.world.now_us + int(self.random.choice([0.1, 2.0, 7.0]) * SECOND)
        network.faults.store_is_back_us = max(network.faults.store_is_back_us, back_us)
        self.world.history.add("store_away", "", until_us=network.faults.store_is_back_us)
        if self.world.chance(0.5):
            network.break_all()
            network.restart()

    def empty_store(self) -> None:
        """The store restarts without its data. Rule S9.5."""
        network = self.place.network
        network.break_all()
        network.restart()
        stored = observe(network.server)
        self.world.history.add("emptied", "", runs=set(stored.runs), events=stored.events)
        network.server.ask("FLUSHALL")

    def refuse_writes(self, length_us: int, refusal: bytes) -> None:
        """The store is a replica for a while, or its disk is full. Rule S9.5."""
        faults = self.place.network.faults
        faults.writes_are_back_us, faults.refusal = self.world.now_us + length_us, refusal
        self.world.history.add("writes_refused", "", until_us=faults.writes_are_back_us, refusal=refusal)

    def stop_broker(self) -> None:
        faults = self.place.broker.faults
        faults.is_back_us = self.world.now_us + int(self.random.choice([0.5, 4.0, 10.0]) * SECOND)
        self.world.history.add("broker_away", "", until_us=faults.is_back_us)
