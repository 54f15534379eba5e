"""Supervisor: starts child processes, keeps them and their claims alive, replaces them, and stops them.

It is one thread that waits in poll(), and imports no user code. So no function of a user can stop its heartbeat, and a fork is
always safe. Rules S9.3 to S9.6, S9.8, S9.9.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from enum import IntEnum

from taskflow.worker.messages import Blocked, Counted, Failed, Hello, Message, Ready, Recycle
from taskflow.worker.supervisor.child_process import ChildMain, Exit, fork_child, reap_orphans
from taskflow.worker.supervisor.children import Child, ChildState, Purpose, Seat
from taskflow.worker.supervisor.health import WorkerHealth, report_if_stuck
from taskflow.worker.supervisor.heartbeats import OTHER_STORE, Heartbeats, StoreFactory, host_now_ms
from taskflow.worker.supervisor.options import SupervisorOptions
from taskflow.worker.supervisor.stalls import Stalls
from taskflow.worker.supervisor.wakeup import Wakeup

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD)

logger = logging.getLogger("taskflow.worker")


class Phase(IntEnum):
    STARTING = 0  # no child has been ready yet; if a child fails now, the worker ends
    RUNNING = 1
    DRAINING = 2  # after the first SIGTERM or SIGINT
    QUITTING = 3  # after the second one, SIGQUIT, or a failed start


class Supervisor:
    """The supervisor of one worker. `run` returns the exit code: 0 after a clean stop, 1 if the worker could not start.

    SIGTERM and SIGINT drain, a second one or SIGQUIT hands back at once (S9.6), SIGHUP replaces the children one by one.
    """

    def __init__(
        self,
        options: SupervisorOptions,
        *,
        make_store: StoreFactory,
        worker_id: str | None = None,
        now_ms: Callable[[], int] = host_now_ms,
        health: WorkerHealth | None = None,
    ) -> None:
        self.worker_id = worker_id or new_worker_id()
        self._options = options
        self._heartbeats = Heartbeats(
            make_store,
            worker_id=self.worker_id,
            interval_s=options.heartbeat_interval_s,
            now_ms=now_ms,
        )
        self._health = health
        self._stalls = Stalls(limit_s=options.replace_after_s)
        self._wakeup = Wakeup(SIGNALS)
        self._phase = Phase.STARTING
        self._exit_code = 0
        # Helpers last, so that in a rolling restart they start with the Hello of the new children.
        self._seats = [Seat() for _ in range(options.processes)] + [
            Seat(helper) for helper in options.helpers
        ]
        self._hello: Hello | None = None  # the latest one of a child
        self._children: dict[Child, Seat] = {}
        self._started = 0  # how many children were started so far; numbers their ids
        self._restart_asked = False
        self._generation = 0
        self._is_rolling = False
        self._rolled_out: Child | None = None  # the child that this rolling restart drains now

    def run(self) -> int:
        """Serve until a signal says stop; return the exit code. Call it once, in the main and only thread of the process."""
        # So that a child's garbage collector does not touch these objects, and their memory stays shared. Imports leave no garbage
        # that would be worth a look first.
        gc.freeze()
        with self._wakeup:
            try:
                while self._phase < Phase.DRAINING or self._children:
                    self.run_once()
                self._heartbeats.leave()
            finally:
                self._kill_all()
        return self._exit_code

    def run_once(self) -> None:
        """Do one turn: start missing children, wait until something happens or is due, and act on it."""
        self._fill_seats()
        self._wait()
        signals = self._wakeup.take()
        for child in self._stalls.look(self._children, now_s=time.monotonic()):
            self._kill(child)
        # Read messages first: a child that was ready before the signal came counts as ready.
        for child in list(self._children):
            self._hear(child)
        for number in signals:
            self._on_signal(number)
        if self._restart_asked:
            self._begin_rolling_restart()
        for child in list(self._children):
            self._reap(child)
        reap_orphans({child.process.pid for child in self._children})
        self._kill_overdue()
        leases = {child.child_id: child.process.lease for child in self._children if child.said_hello}
        self._note_health()  # before a call that may take a second
        self._heartbeats.run_due(leases, now_s=time.monotonic())
        self._note_health()
        for child in self._children:
            report_if_stuck(child, limit_s=self._options.blocked_after_s, now_s=time.monotonic())

    def _note_health(self) -> None:
        if self._health is not None:
            self._health.note(
                self._children,
                is_draining=self._phase >= Phase.DRAINING,
                is_running=self._phase is Phase.RUNNING,
                outage=self._heartbeats.outage,
            )

    # Waiting

    def _wait(self) -> None:
        poller = select.poll()
        poller.register(self._wakeup.fileno(), select.POLLIN)
        for child in self._children:
            if not child.process.is_silent:
                poller.register(child.process.from_child, select.POLLIN)
        poller.poll(math.ceil(self._timeout_s(time.monotonic()) * 1000))

    def _timeout_s(self, now_s: float) -> float:
        due_s = [now_s + self._options.heartbeat_interval_s]
        if self._heartbeats.due_s is not None:
            due_s.append(self._heartbeats.due_s)
        due_s += [child.kill_at_s for child in self._children if child.kill_at_s is not None]
        if self._phase >= Phase.DRAINING and not self._children:
            return 0.0
        if self._phase < Phase.DRAINING:
            due_s += [seat.start_at_s for seat in self._seats if self._may_fill(seat)]
        return max(0.0, min(due_s) - now_s)

    # Starting and replacing

    def _fill_seats(self) -> None:
        now_s = time.monotonic()
        for seat in self._seats:
            # We may be draining from the beginning, or because a child could not be started.
            if self._phase >= Phase.DRAINING:
                return
            if self._may_fill(seat) and now_s >= seat.start_at_s:
                self._start_child(seat, Purpose.FILL if seat.current is None else Purpose.RECYCLE)
        if self._is_rolling:
            self._roll_on()

    def _may_fill(self, seat: Seat) -> bool:
        return seat.wants_child and (seat.helper is None or self._hello is not None)

    def _main_for(self, seat: Seat) -> ChildMain:
        if seat.helper is None:
            return self._options.child_main
        assert self._hello is not None, "a helper's seat is filled once a child has said hello"
        main, hello = seat.helper.main, self._hello
        return lambda link: main(link, hello)

    def _roll_on(self) -> None:
        """Start the next successor of a rolling restart, unless one is starting or a predecessor drains."""
        if self._rolled_out in self._children or any(c.state is ChildState.STARTING for c in self._children):
            return
        for seat in self._seats:
            if seat.current is not None and seat.current.generation < self._generation:
                self._start_child(seat, Purpose.RELOAD)
                return
        self._is_rolling = False
        logger.info("rolling restart is done")

    def _begin_rolling_restart(self) -> None:
        self._restart_asked = False
        if self._phase >= Phase.DRAINING:
            return
        logger.info("rolling restart of %d children", len(self._seats))
        self._generation += 1
        self._is_rolling = True
        self._rolled_out = None
        for seat in self._seats:
            seat.forgive()
        for child in self._children:
            if child.state is ChildState.STARTING:  # it may have imported the old code
                self._dismiss(child, reason="restart")

    def _start_child(self, seat: Seat, purpose: Purpose) -> None:
        self._started += 1
        own_fds = [*self._wakeup.fds, *(fd for child in self._children for fd in child.process.fds)]
        now_s = time.monotonic()
        try:
            process = fork_child(
                self._main_for(seat),
                worker_id=self.worker_id,
                child_id=f"{self.worker_id}:{self._started}",
                lease_s=self._options.lease_s,
                close_in_child=own_fds,
            )
        except OSError as error:
            reason = f"cannot start a process: {error}"
            if self._phase is Phase.STARTING:
                self._fail_start(
                    Failed(reason, "Raise the limits (ulimit -u, ulimit -n), or run fewer processes.")
                )
                return
            delay_s = seat.note_death(lived_s=0.0, now_s=now_s, backoff=self._options.backoff)
            logger.error("%s; trying again in %g s", reason, delay_s)
            return
        child = Child(
            process=process, purpose=purpose, generation=self._generation, started_s=now_s, name=seat.name
        )
        self._children[child] = seat
        seat.seat_child(child)
        logger.debug("started %s (%s)", child, purpose.value)

    # What children say

    def _hear(self, child: Child) -> None:
        for message in child.process.read_messages():
            self._on_message(child, message)

    def _on_message(self, child: Child, message: Message) -> None:
        match message:
            case Hello():
                child.said_hello = self._heartbeats.introduce(message)
                if child.said_hello:
                    self._hello = message
                else:
                    child.failure = OTHER_STORE
                    self._kill(child)
            case Ready():
                self._on_ready(child, message)
            case Failed():
                child.failure = message
                child.kill_at_s = (
                    time.monotonic() + self._options.quit_grace_s
                )  # in case it does not exit by itself
            case Recycle():
                child.recycle_reason = message.reason
            case Blocked():
                child.blocked_by = message.jobs
            case Counted() if self._health is not None:
                self._health.counted.count(child.child_id, message.tally)

    def _on_ready(self, child: Child, ready: Ready) -> None:
        if child.state is not ChildState.STARTING or child.was_killed:
            return
        child.state = ChildState.RUNNING
        seat = self._children[child]
        if self._phase is Phase.STARTING and seat.helper is None:
            self._phase = Phase.RUNNING
            logger.info("worker %s is ready%s", self.worker_id, ready.about and f": {ready.about}")
            if ready.warning:
                logger.warning("%s", ready.warning)
        if seat.successor is not child:
            return
        predecessor = seat.promote()
        if predecessor is None:
            return
        if child.purpose is Purpose.RELOAD:
            self._rolled_out = predecessor
            self._dismiss(predecessor, reason="restart")
        else:
            self._dismiss(predecessor, reason=f"recycled, {predecessor.recycle_reason}")

    # How children end

    def _reap(self, child: Child) -> None:
        exit = child.process.poll_exit()
        if exit is None:
            return
        self._hear(child)  # read its last messages
        seat = self._children.pop(child)
        child.process.close()
        was_successor = seat.successor is child
        seat.vacate(child)
        if child.said_hello:
            self._heartbeats.hand_back(
                child.child_id, cause=child.cause(exit), crashed=child.has_crashed(exit), blamed=child.blamed
            )
        if child.end_reason is not None or self._phase >= Phase.DRAINING:
            # After a failed start the reason was already printed, so the end of the other children is not worth a line.
            level = logging.DEBUG if self._exit_code else logging.INFO
            logger.log(level, "%s has ended (%s)", child, child.cause(exit))
        elif self._phase is Phase.STARTING and not (child.failure is None and exit.was_killed):
            self._fail_start(
                child.failure or Failed(f"its child process ended before it was ready, by {exit.cause}")
            )
        else:
            self._on_death(child, exit, seat, was_successor=was_successor)

    def _on_death(self, child: Child, exit: Exit, seat: Seat, *, was_successor: bool) -> None:
        now_s = time.monotonic()
        if self._health is not None:
            self._health.counted.died(exit)
        lived_s = 0.0 if child.state is ChildState.STARTING else now_s - child.started_s
        delay_s = seat.note_death(lived_s=lived_s, now_s=now_s, backoff=self._options.backoff)
        why = child.why(exit)
        if was_successor and child.purpose is Purpose.RELOAD:
            self._is_rolling = False
            logger.error("%s can't start, rolling restart given up, the old children go on: %s", child, why)
            return
        when = f"in {delay_s:g} s" if delay_s else "now"
        logger.error(
            "%s died after %.1f s, the next one starts %s: %s", child, now_s - child.started_s, when, why
        )

    def _fail_start(self, failure: Failed) -> None:
        self._exit_code = 1
        hint = f"\n  {failure.hint}" if failure.hint else ""
        sys.stderr.write(f"taskflow: the worker can't start: {failure.message}{hint}\n")
        sys.stderr.flush()
        self._quit()

    # Ending children

    def _on_signal(self, number: signal.Signals) -> None:
        match number:
            case signal.SIGHUP:
                self._restart_asked = True
            case signal.SIGQUIT:
                self._quit()
            case signal.SIGTERM | signal.SIGINT:
                if self._phase < Phase.DRAINING:
                    self._drain(number)
                else:
                    self._quit()

    def _drain(self, number: signal.Signals) -> None:
        self._phase = Phase.DRAINING
        logger.info(
            "%s: draining, for up to %g s; send it again to stop at once",
            number.name,
            self._options.drain_timeout_s,
        )
        for child in self._children:
            if child.end_reason is None:
                self._dismiss(child, reason="worker stopped")

    def _dismiss(self, child: Child, *, reason: str) -> None:
        """Have a child end. Its executing steps may take up to the drain timeout."""
        child.end_reason = reason
        if child.state is ChildState.STARTING:  # it holds nothing yet, and may not act on signals
            self._kill(child)
            return
        child.state = ChildState.DRAINING
        # After the drain timeout the child itself hands back the rest; the grace is the time for that.
        child.kill_at_s = time.monotonic() + self._options.drain_timeout_s + self._options.quit_grace_s
        child.process.send_signal(signal.SIGTERM)

    def _quit(self) -> None:
        """Have all children hand back at once and exit."""
        self._phase = Phase.QUITTING
        kill_at_s = time.monotonic() + self._options.quit_grace_s
        for child in self._children:
            child.end_reason = child.end_reason or "worker stopped at once"
            if child.state is ChildState.STARTING:
                self._kill(child)
                continue
            child.state = ChildState.DRAINING
            child.kill_at_s = min(child.kill_at_s or kill_at_s, kill_at_s)
            child.process.send_signal(signal.SIGQUIT)

    def _kill_overdue(self) -> None:
        now_s = time.monotonic()
        for child in self._children:
            if child.kill_at_s is not None and now_s >= child.kill_at_s:
                logger.warning("%s did not end in time, is killed (%s)", child, child.end_reason or "failed")
                self._kill(child)

    def _kill(self, child: Child) -> None:
        # Kill first, and hand back a moment later, once the child is reaped: so no step goes on here while it starts elsewhere.
        child.was_killed = True
        child.kill_at_s = None
        child.process.send_signal(signal.SIGKILL)

    def _kill_all(self) -> None:
        """Kill and reap all children, so that no process is left behind after an error here."""
        for child in self._children:
            child.process.send_signal(signal.SIGKILL)
            os.waitpid(child.process.pid, 0)


def new_worker_id() -> str:
    """An id that no other worker ever has: host, pid, and 4 random bytes, since pids are used again."""
    return f"{os.uname().nodename}-{os.getpid()}-{os.urandom(4).hex()}"
