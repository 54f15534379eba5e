"""kill -9 of children, supervisors, beats and whole hosts: every run goes on, within the times of S9.3."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from typing import Any

import pytest

from tests.processes import TaskflowProcess, is_alive, wait_until
from tests.robustness.conftest import Measure
from tests.robustness.deployment import (
    CHILD_LOST_S,
    HOST_LOST_S,
    LEAD_PASSES_S,
    TARGET,
    Deployment,
    kill_host,
    send,
)
from tests.streams import events_stream

pytestmark = pytest.mark.chaos

HELD_RUNS = 10


def test_runs_of_a_killed_child_go_on_in_another_within_2_s(deployment: Deployment, measure: Measure) -> None:
    deployment.start_beat()
    worker = deployment.start_worker(processes=2)
    run_ids = deployment.invoke("held", count=HELD_RUNS)
    pids = deployment.wait_for_starts("gate", HELD_RUNS)
    victim = max(set(pids), key=pids.count)
    os.kill(victim, signal.SIGKILL)
    killed_s = time.monotonic()
    deployment.wait_for_starts("gate", HELD_RUNS + pids.count(victim), deadline_s=CHILD_LOST_S)
    measure("child killed, its last run goes on", time.monotonic() - killed_s)
    deployment.open_gate()
    deployment.journal.check(deployment.wait_until_final(run_ids))
    assert deployment.journal.repeats() == pids.count(victim), "only the step that was interrupted runs again"
    wait_until(lambda: len(worker.children()) == 2, what="a new child")


def test_runs_of_a_killed_only_child_go_on_in_its_successor_within_2_s(
    deployment: Deployment, measure: Measure
) -> None:
    deployment.start_beat()
    worker = deployment.start_worker(processes=1)
    run_ids = deployment.invoke("held", count=HELD_RUNS)
    (victim, *_) = deployment.wait_for_starts("gate", HELD_RUNS)
    os.kill(victim, signal.SIGKILL)
    killed_s = time.monotonic()
    deployment.wait_for_starts("gate", 2 * HELD_RUNS, deadline_s=CHILD_LOST_S)
    measure("only child killed, its last run goes on", time.monotonic() - killed_s)
    deployment.open_gate()
    deployment.journal.check(deployment.wait_until_final(run_ids))
    assert victim not in worker.children()


def test_events_that_a_killed_child_had_received_are_routed_by_another(
    deployment: Deployment, measure: Measure
) -> None:
    deployment.start_beat()
    worker = deployment.start_worker()
    (child,) = worker.children()
    deployment.wait_until_final(deployment.send("five", {"rest_s": 0.0}))
    os.kill(child, signal.SIGSTOP)  # the read that it waits in still takes what comes
    run_ids: list[str] = []

    def is_received() -> bool:
        run_ids.extend(deployment.send("five", {"rest_s": 0.0}, count=5))
        consumers: Any = deployment.redis.xinfo_consumers(events_stream(deployment.namespace, "robust"), "q")
        return bool(consumers[0]["pending"])

    wait_until(is_received, what="events in the hands of the child")
    os.kill(child, signal.SIGKILL)
    killed_s = time.monotonic()
    deployment.journal.check(deployment.wait_until_final(run_ids, deadline_s=HOST_LOST_S))
    measure("child killed, the events that it had received are routed", time.monotonic() - killed_s)


def test_runs_go_on_elsewhere_when_the_supervisor_is_killed(deployment: Deployment, measure: Measure) -> None:
    deployment.start_beat()
    worker = deployment.start_worker(processes=2)
    run_ids = deployment.invoke("held", count=HELD_RUNS)
    deployment.wait_for_starts("gate", HELD_RUNS)
    children = worker.children()
    other = deployment.start_worker(processes=1)
    worker.kill()
    killed_s = time.monotonic()
    pids = deployment.wait_for_starts("gate", 2 * HELD_RUNS, deadline_s=HOST_LOST_S)
    measure("supervisor killed, its last run goes on", time.monotonic() - killed_s)
    assert set(pids[HELD_RUNS:]) == set(other.children())
    wait_until(lambda: not any(map(is_alive, children)), what="the end of the orphans")
    deployment.open_gate()
    deployment.journal.check(deployment.wait_until_final(run_ids))


def test_runs_go_on_in_a_new_worker_when_all_hosts_died(deployment: Deployment, measure: Measure) -> None:
    deployment.start_beat()
    workers = [deployment.start_worker(processes=2), deployment.start_worker(processes=1)]
    run_ids = deployment.invoke("held", count=HELD_RUNS)
    deployment.wait_for_starts("gate", HELD_RUNS)
    for worker in workers:
        kill_host(worker)
    killed_s = time.monotonic()
    deployment.start_worker()
    deployment.wait_for_starts("gate", 2 * HELD_RUNS, deadline_s=HOST_LOST_S - (time.monotonic() - killed_s))
    measure("all hosts died, the last run goes on", time.monotonic() - killed_s)
    deployment.open_gate()
    deployment.journal.check(deployment.wait_until_final(run_ids))


def test_host_with_the_leading_beat_dies_and_another_host_takes_over_both(
    deployment: Deployment, measure: Measure
) -> None:
    first = deployment.start_worker("-B")
    first.wait_for_line("this beat leads")
    run_ids = deployment.invoke("held", count=HELD_RUNS)
    deployment.wait_for_starts("gate", HELD_RUNS)
    deployment.start_worker("-B")
    kill_host(first)
    killed_s = time.monotonic()
    deployment.wait_for_starts("gate", 2 * HELD_RUNS, deadline_s=HOST_LOST_S)
    measure("host with the leading beat died, the last run goes on", time.monotonic() - killed_s)
    deployment.open_gate()
    deployment.journal.check(deployment.wait_until_final(run_ids))


def test_timers_fire_again_within_10_s_of_the_leading_beats_death(
    deployment: Deployment, measure: Measure
) -> None:
    leader = deployment.start_beat(line="this beat leads")
    standby = deployment.start_beat(line="")
    deployment.start_worker()
    (run_id,) = deployment.invoke("nap", {"nap_s": 0.5})
    wait_until(lambda: deployment.runs([run_id])[0].status == "waiting", what="the sleep")
    leader.kill()
    killed_s = time.monotonic()
    (run,) = deployment.wait_until_final([run_id], deadline_s=LEAD_PASSES_S)
    measure("leading beat killed, a sleeping run wakes", time.monotonic() - killed_s)
    assert run.status == "completed"
    assert "this beat leads" in standby.stderr


def test_beat_that_stands_by_does_not_delay_the_timers_of_the_leading_one(deployment: Deployment) -> None:
    deployment.start_beat(line="")
    deployment.start_beat(line="")
    deployment.start_worker()
    deployment.wait_until_final(deployment.invoke("nap", {"nap_s": 0.05}))  # by now one leads
    for _ in range(5):
        (run,) = deployment.wait_until_final(deployment.invoke("nap", {"nap_s": 0.05}))
        assert int(run.fields["ended"]) - int(run.fields["started"]) < 500, (
            "woken by the timer's nudge, not by chance"
        )


# Random kills

KILLING_S = 30.0
RUNS = 200
SENDING_S = KILLING_S - 4
DECK = ["child"] * 24 + ["supervisor"] * 4 + ["beat"] * 4 + ["host"] * 2 + ["all workers"]


class Monkey:
    """Two workers and two beats, killed at random and started again, as a service manager does."""

    def __init__(self, deployment: Deployment, seed: int) -> None:
        self.deployment = deployment
        self.random = random.Random(seed)
        self.deck = self.random.sample(DECK, len(DECK))
        self.kills: list[str] = []
        self.workers: list[TaskflowProcess] = []
        self.beats: list[TaskflowProcess] = []
        self.revive()

    def revive(self) -> None:
        """Start what was killed; it comes up while the killing goes on."""
        start = self.deployment.start
        self.workers = [worker for worker in self.workers if worker.process.poll() is None]
        self.beats = [beat for beat in self.beats if beat.process.poll() is None]
        while len(self.workers) < 2:
            self.workers.append(start("worker", "-A", TARGET, "--processes", "2"))
        while len(self.beats) < 2:
            self.beats.append(start("beat"))

    def kill(self) -> None:
        """Kill what the next card says."""
        kind = self.deck[len(self.kills) % len(self.deck)]
        self.kills.append(kind)
        match kind:
            case "child":
                self.kill_child()
            case "supervisor":
                self.random.choice(self.workers).kill()
            case "beat":
                self.random.choice(self.beats).kill()
            case "host":
                kill_host(self.random.choice(self.workers))
            case "all workers":
                for worker in self.workers:
                    kill_host(worker)

    def kill_child(self) -> None:
        """Rather one in the middle of a step than an idle one."""
        children = [pid for worker in self.workers for pid in worker.children()]
        busy = self.deployment.journal.busy_pids()
        victims = [pid for pid in children if pid in busy] or children
        if victims:
            send(self.random.choice(victims), signal.SIGKILL)


@pytest.mark.timeout(100)
def test_200_runs_under_random_kills_all_complete_and_no_step_runs_again_after_its_commit(
    deployment: Deployment, measure: Measure
) -> None:
    seed = int(os.environ.get("ROBUSTNESS_SEED", random.randrange(1_000_000)))
    # A run must not pass for poison because it was hit three times by chance; test_poison.py is about those.
    deployment.env["TASKFLOW_MAX_CRASHES"] = "100"
    monkey = Monkey(deployment, seed)
    pace = threading.Event()  # never set: it only spreads the kills over the time
    run_ids: list[str] = []
    began_s = time.monotonic()
    try:
        while (passed_s := time.monotonic() - began_s) < KILLING_S:
            wanted = min(RUNS, int(RUNS * passed_s / SENDING_S) + 5)
            if wanted > len(run_ids):
                run_ids += deployment.send("five", {"rest_s": 0.3}, count=wanted - len(run_ids))
            pace.wait(monkey.random.uniform(0.3, 1.3))
            monkey.kill()
            monkey.revive()
        ended_s = time.monotonic()
        runs = deployment.wait_until_final(run_ids, deadline_s=HOST_LOST_S + 10)
        measure("after 30 s of random kills, all runs have ended", time.monotonic() - ended_s)
        assert len(runs) == RUNS
        deployment.journal.check(runs)
        assert deployment.journal.repeats() > 0, "no kill hit a step"
    except AssertionError as error:
        raise AssertionError(f"ROBUSTNESS_SEED={seed}, kills {monkey.kills}: {error}") from error
    measure(f"steps that {len(monkey.kills)} kills repeated, of {5 * RUNS}", deployment.journal.repeats())
