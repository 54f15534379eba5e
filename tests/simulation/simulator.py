"""Simulator: a whole taskflow in one process on a virtual clock, from a seed, with everything going wrong that may.

Workers, beats and producers are the real ones, the scripts run on a real Valkey. A seed gives the same history each time. When a
simulation is over, a checker that shares no code with the engine looks for broken promises.

    python -m tests.simulation.simulator --seeds 1000          many seeds, on all processors
    python -m tests.simulation.simulator --seed 42 --history   one seed, and all that happened
"""

from __future__ import annotations

import gc
import logging
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import click

from taskflow.app import TaskFlow
from taskflow.codecs.codecs import AnyCodec
from taskflow.courier import Courier
from taskflow.dev.spawn import end_with
from taskflow.middleware.base import Middleware
from taskflow.store import store
from taskflow.values.ids import GENERATOR
from tests.simulation.actors import Actors
from tests.simulation.broker import SimulatedBroker, SimulatedPublisher, is_events_queue
from tests.simulation.chaos import Chaos
from tests.simulation.checker import check
from tests.simulation.codecs import codecs_of
from tests.simulation.emptied import survivors, with_empty_store
from tests.simulation.evidence import Evidence
from tests.simulation.history import Record
from tests.simulation.hosts import BeatHost, HostTime, Place, SkewedClock, WorkerHost
from tests.simulation.middleware import middleware_of
from tests.simulation.network import Network
from tests.simulation.observation import has_live_runs, is_outbox_empty, kept_runs, observe
from tests.simulation.process import SimulatedProcess
from tests.simulation.releases import CRON_ENDS_MS, NEW, OLD, with_releases
from tests.simulation.server import OwnServer, StoreServer
from tests.simulation.tasks import TaskActors, has_tasks, narrow_groups, with_tasks
from tests.simulation.typed import with_typed_events
from tests.simulation.workload import QUEUES, SHORT_KEEP_S, Generator, Plan
from tests.simulation.world import Stuck, World

LONGEST_S = 600.0  # from the end of chaos to the end of the last run, at most
LOOK_S = 2.0  # between two looks whether all runs have ended
LONGEST_PAUSE_S = 30.0  # of a process
SETTLING_S = 15.0
RETENTION_S, FAILED_RETENTION_S = 3_600, 7_200
TRIM_S = 60.0  # what is not kept any more is gone after another minute and a half


@dataclass(slots=True)
class Outcome:
    """What a simulation came to; `problems` is empty when all promises were kept."""

    seed: int
    plan: Plan
    problems: list[str]
    records: list[Record]
    history: list[str]
    virtual_s: float

    def __str__(self) -> str:
        """The problems and the whole history, for a seed that failed."""
        functions = "\n".join(f"  {function}" for function in self.plan.functions)
        return "\n".join(
            [
                f"seed {self.seed}: {len(self.problems)} problems",
                *self.problems,
                "",
                functions,
                "",
                *self.history,
            ]
        )


def simulate(seed: int, server: StoreServer) -> Outcome:
    """Run one simulation. Not from inside a running event loop, and one at a time on a server."""
    with isolated(seed), narrow_groups():
        return Simulation(seed, server).run()


class Simulation:
    """One seed."""

    def __init__(self, seed: int, server: StoreServer) -> None:
        self.seed = seed
        self.server = server
        self.world = World(seed)
        self.plan = make_plan(self.world, seed)
        middleware = middleware_of(seed, self.world)
        releases = (OLD, NEW) if self.plan.is_rolling else (OLD,)
        self.apps = {release: make_app(middleware, codecs_of(seed)) for release in releases}
        self.place = Place(self.world, Network(self.world, server), SimulatedBroker(self.world), self.apps)
        link = self.apps[OLD]._link
        link.async_publisher = SimulatedPublisher(self.place.broker, "sim")
        link.courier = Courier(link.async_publisher, link.clear_outbox)
        link.clock = SkewedClock(HostTime(self.world, self.draw_skew_ms()))
        self.actors = Actors(self.world, self.apps, self.plan)
        self.callers = TaskActors(self.actors, self.apps[OLD], self.plan) if self.plan.calls else None
        self.problems: list[str] = []
        self.kept: set[str] | None = None

    def draw_queues(self, host: int) -> tuple[str, ...]:
        """Of a host; somebody serves each, in each release of the code."""
        choices = [QUEUES] if host == 0 or self.plan.is_rolling else [QUEUES, QUEUES, QUEUES[:1], QUEUES[1:]]
        return self.world.random.choice(choices)

    def draw_skew_ms(self) -> int:
        return self.world.random.choice([0, 0, 0, 40, -40, 1_500, -1_500, 30_000, -30_000])

    def run(self) -> Outcome:
        self.server.reset()
        handler = LogHandler(self.world)
        logger = logging.getLogger("taskflow")
        former = logger.propagate, logger.level
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(logging.WARNING)
        try:
            return self.play()
        finally:
            logger.removeHandler(handler)
            logger.propagate, logger.level = former
            self.world.history.is_recording = False
            self.bury_all()

    def play(self) -> Outcome:
        self.start_hosts()
        stored = None
        try:
            self.live()
            stored = observe(self.server)
            self.world.history.add("observed")
            self.look_into_hands()
            self.close_down()
            gc.collect()  # tasks that nobody waited for complain now
        except Stuck as error:
            self.problems.append(str(error))
        left = observe(self.server).keys
        history = self.world.history
        survived = survivors(history.records, stored or observe(self.server))
        evidence = Evidence(self.plan, survived.records, survived.stored, self.kept, left, survived.lost)
        self.problems += check(evidence)
        return Outcome(
            self.seed,
            self.plan,
            self.problems,
            history.records,
            history.lines(),
            self.world.elapsed_s,
        )

    # --- the cast ---

    def start_hosts(self) -> None:
        draw = self.world.random
        self.workers = [
            WorkerHost(
                self.place, f"w{number}", children=draw.randint(1, 2), concurrency=draw.choice([1, 2, 5, 100]),
                queues=self.draw_queues(number),
                skew_ms=self.draw_skew_ms(),
            )
            for number in range(draw.randint(2 if self.plan.is_rolling else 1, 3))
        ]  # fmt: skip
        self.beats = [
            BeatHost(self.place, f"beat{number}", skew_ms=self.draw_skew_ms())
            for number in range(draw.randint(1, 2))
        ]
        self.chaos = Chaos(
            self.place,
            self.workers,
            self.beats,
            length_ms=self.plan.length_ms,
            has_restarts=self.plan.has_bodies,
            is_rolling=self.plan.is_rolling,
            empties=self.plan.empties,
        )
        self.producers: list[SimulatedProcess] = []
        count = draw.randint(1, 2)
        self.work = [
            self.producer(f"producer{number}").start(self.actors.send_all(self.plan.sendings[number::count]))
            for number in range(count)
        ]
        self.work.append(self.producer("canceller").start(self.actors.cancel_some(self.plan.cancels_ms)))
        self.work.append(self.producer("operator").start(self.actors.pause_queues(self.plan.pauses)))
        self.work.append(self.producer("starter").start(self.actors.start_some(self.plan.starts)))
        if self.callers is not None:
            self.work.append(self.producer("caller").start(self.callers.call_all(self.plan.calls)))

    def producer(self, name: str) -> SimulatedProcess:
        process = self.place.process(name)
        self.producers.append(process)
        return process

    # --- the acts ---

    def live(self) -> None:
        """Chaos, then calm, until every run has ended."""
        world = self.world
        self.chaos.begin()
        world.run_until(lambda: self.chaos.is_over and all(work.done() for work in self.work), limit_s=120)
        for work in self.work:
            if not work.done():
                self.problems.append(f"{work.get_coro()} has not ended")
            elif work.exception():
                self.problems.append(f"{work.get_coro()} failed: {work.exception()!r}")
        if self.plan.is_rolling:  # crons tick until then
            world.run_until(lambda: world.elapsed_s * 1_000 > CRON_ENDS_MS, limit_s=CRON_ENDS_MS)
        give_up_s = world.elapsed_s + LONGEST_S
        while not self.has_settled() and world.elapsed_s < give_up_s:
            world.run_for(LOOK_S)
        world.run_for(SETTLING_S)

    def has_settled(self) -> bool:
        if any(
            queue.open_messages for name, queue in self.place.broker.queues.items() if is_events_queue(name)
        ):
            return False
        return is_outbox_empty(self.server) and not has_live_runs(self.server)

    def look_into_hands(self) -> None:
        """All runs have ended: no process holds a slot, a run or a message, but while it is paused or a claim is under way."""
        children = [child for host in self.workers for child in host.children]
        busy = [child for child in children if child.in_hand()]
        if busy:
            self.world.run_until(
                lambda: not any(child.process.is_paused for child in busy), limit_s=LONGEST_PAUSE_S
            )
            self.world.run_for(LOOK_S)
        for child in busy:
            if held := child.in_hand():
                self.problems.append(
                    f"S4.3: all runs have ended, but {child.child_id} holds {', '.join(held)}"
                )

    def close_down(self) -> None:
        """The workers leave; when the retention is over, beat removes what is left."""
        world = self.world
        world.history.add("closing")
        leaving = [task for host in self.workers for task in host.leave()]
        if not world.run_until(lambda: all(task.done() for task in leaving), limit_s=60):
            self.problems.append("a worker did not leave within 60 s of SIGTERM")
        world.jump(int((SHORT_KEEP_S + TRIM_S) * 1_000_000))
        world.run_for(30)
        self.kept = kept_runs(self.server)
        world.jump(int((max(RETENTION_S, FAILED_RETENTION_S) - SHORT_KEEP_S) * 1_000_000))
        world.run_for(30)

    def bury_all(self) -> None:
        processes = [*self.producers]
        for worker in self.workers:
            processes += [*worker.processes(), *worker.buried]
        for beat in self.beats:
            processes += [*beat.processes(), *beat.buried]
        for process in processes:
            process.bury()


def make_plan(world: World, seed: int) -> Plan:
    plan = Generator(world.random, random.Random(f"later {seed}")).plan()
    if has_tasks(seed):
        return with_tasks(with_typed_events(plan, seed), seed)
    return with_empty_store(with_typed_events(with_releases(plan, seed), seed), seed)


def make_app(middleware: Sequence[Middleware], codecs: Sequence[AnyCodec]) -> TaskFlow:
    return TaskFlow(
        "sim", broker="redis://simulated", store="unix:///simulated", namespace="tf", retention=RETENTION_S,
        failed_retention=FAILED_RETENTION_S, middleware=middleware, codecs=codecs,
    )  # fmt: skip


class LogHandler(logging.Handler):
    """What the engine logs becomes a part of the history."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "taskflow.runs":
            return  # runs that fail are a part of the workload
        error = repr(record.exc_info[1]) if record.exc_info else ""
        self.world.history.add("log", "", level=record.levelname, text=record.getMessage(), error=error)


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Chance that the engine takes from elsewhere follows the seed as well, and is given back afterwards."""
    state: Any = random.getstate()
    random.seed(seed)
    GENERATOR.reseed(seed.to_bytes(8))
    new_secret, store.new_secret = store.new_secret, secret_of_a_world  # type: ignore[attr-defined]
    # When the collector runs depends on what ran before, and tasks that it finds complain to the history: here it is told to.
    gc.disable()
    gc.freeze()  # what is there already need not be looked at each time
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()
        gc.enable()
        random.setstate(state)
        GENERATOR.reseed()
        store.new_secret = new_secret  # type: ignore[attr-defined]


def secret_of_a_world() -> bytes:
    """What processes offer as the deployment's secret; the store has one already."""
    return b"not taken"


# --- many seeds ---

SHARE = 25  # seeds that a process runs on one server


def run_share(seeds: Sequence[int]) -> list[tuple[int, str]]:
    """The failures of some seeds, each as text."""
    failures = []
    with OwnServer() as server:
        for seed in seeds:
            outcome = simulate(seed, server)
            if outcome.problems:
                failures.append((seed, str(outcome)))
    return failures


def run_many(seeds: Sequence[int], *, jobs: int, keep_going: bool) -> int:
    """Run them on so many processes, and tell of failures; how many there were."""
    shares = [seeds[start : start + SHARE] for start in range(0, len(seeds), SHARE)]
    began_s, failed, done = time.monotonic(), [], 0
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=end_with, initargs=(os.getpid(),)
    ) as pool:
        for share, failures in zip(shares, pool.map(run_share, shares), strict=True):
            done += len(share)
            for seed, text in failures:
                failed.append(seed)
                click.echo(text if len(failed) == 1 else "\n".join(text.splitlines()[:4]))
            click.echo(f"{done} of {len(seeds)} seeds, {len(failed)} failed: {failed or ''}", err=True)
            if failed and not keep_going:
                pool.shutdown(cancel_futures=True)
                break
    rate = done / (time.monotonic() - began_s)
    click.echo(
        f"{done} seeds, {len(failed)} failed{f' ({failed})' if failed else ''}, {rate:.1f} seeds a second"
    )
    return len(failed)


@click.command()
@click.option("--seeds", default=200, show_default=True, help="How many.")
@click.option("--first", default=0, show_default=True, help="The first of them.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default=True, help="Processes.")
@click.option("--keep-going", is_flag=True, help="Run all, though some fail.")
@click.option("--seed", type=int, help="Only this one, in this process.")
@click.option("--history", is_flag=True, help="With --seed: print the history even if all is well.")
def main(seeds: int, first: int, jobs: int, keep_going: bool, seed: int | None, history: bool) -> None:
    """Simulate, and print the history of the first seed that breaks a promise."""
    if seed is None:
        sys.exit(1 if run_many(range(first, first + seeds), jobs=jobs, keep_going=keep_going) else 0)
    with OwnServer() as server:
        outcome = simulate(seed, server)
    click.echo(str(outcome) if history or outcome.problems else f"seed {seed}: all promises were kept")
    sys.exit(1 if outcome.problems else 0)


if __name__ == "__main__":
    main()
