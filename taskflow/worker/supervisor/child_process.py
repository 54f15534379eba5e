"""ChildProcess: the supervisor's side of a child process, from its fork to its end; with pipes, messages and signals."""

from __future__ import annotations

import atexit
import contextlib
import io
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from typing import NoReturn

from taskflow.values.record import record
from taskflow.worker.lease import Lease, Progress
from taskflow.worker.link import ChildLink
from taskflow.worker.messages import Message, decode
from taskflow.worker.supervisor.wakeup import ignore_here

ChildMain = Callable[[ChildLink], int]
"""The main function of a forked child; returns the exit code."""

READ_BYTES = 65_536
LEFT_TO_THE_SUPERVISOR = (signal.SIGINT, signal.SIGHUP)
"""Signals (Ctrl-C, hang-up) that reach the whole process group; only the supervisor acts on them."""

logger = logging.getLogger("taskflow.worker")


@record
class Exit:
    """How a process ended: by an exit `code` (0 or more), or by signal `-code`."""

    code: int

    @property
    def was_killed(self) -> bool:
        """Whether somebody else killed the process, an operator or a system without memory: it did not crash by itself."""
        return self.code in (-signal.SIGKILL, -signal.SIGTERM)

    @property
    def cause(self) -> str:
        """The cause of the end in words: 'exit code 3', or 'killed by signal 9 (SIGKILL; out of memory?)'."""
        if self.code >= 0:
            return f"exit code {self.code}"
        number = -self.code
        try:
            name = signal.Signals(number).name
        except ValueError:  # a realtime signal
            name = "no name"
        guess = "; out of memory?" if number == signal.SIGKILL else ""
        return f"killed by signal {number} ({name}{guess})"


@dataclass(slots=True, eq=False)
class ChildProcess:
    """A child process as the supervisor sees it: its pid, its messages, its end."""

    pid: int
    child_id: str
    lease: Lease
    progress: Progress
    from_child: int
    to_child: int
    _received: bytearray = field(default_factory=bytearray)
    is_silent: bool = False  # the child has closed its end of the pipe, so no more messages come

    @property
    def fds(self) -> tuple[int, int]:
        return self.from_child, self.to_child

    def read_messages(self) -> list[Message]:
        """Return all complete messages that have arrived; never blocks."""
        while not self.is_silent:
            try:
                data = os.read(self.from_child, READ_BYTES)
            except BlockingIOError:
                break
            self.is_silent = not data
            self._received += data
        *lines, rest = self._received.split(b"\n")
        self._received = rest
        messages: list[Message] = []
        for line in lines:
            try:
                messages.append(decode(bytes(line)))
            except ValueError:
                logger.exception("ignored what child %s (pid %d) said", self.child_id, self.pid)
        return messages

    def poll_exit(self) -> Exit | None:
        """Return how the process ended, or None while it lives. Don't call it again after it has returned the end."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # other code in this process has waited for it
            return Exit(code=0)
        return Exit(code=os.waitstatus_to_exitcode(status)) if pid else None

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal. Safe until `poll_exit` has returned the end: before that, no other process can have the pid."""
        os.kill(self.pid, number)

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)
        self.lease.close()
        self.progress.close()


def fork_child(
    main: ChildMain, *, worker_id: str, child_id: str, lease_s: float, close_in_child: Iterable[int]
) -> ChildProcess:
    """Fork a process that runs `main`. `close_in_child` are the supervisor's own file descriptors.

    Raises OSError when the system has no process, memory or file descriptor left.
    """
    lease, progress = Lease(lease_s=lease_s), Progress()
    from_child, to_supervisor, from_supervisor, to_child = open_pipes()
    link = ChildLink(
        worker_id=worker_id,
        child_id=child_id,
        lease=lease,
        progress=progress,
        to_supervisor=to_supervisor,
        from_supervisor=from_supervisor,
    )
    flush_output()  # or both processes would write the buffered output
    # The child must get no signal before its handlers are reset: it would act as the supervisor, and wake that up.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            run_child(main, link, mask=mask, close_fds=(from_child, to_child, *close_in_child))
    except OSError:
        for fd in (from_child, to_child):
            os.close(fd)
        lease.close()
        progress.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for fd in (to_supervisor, from_supervisor):
            os.close(fd)
    return ChildProcess(
        pid=pid, child_id=child_id, lease=lease, progress=progress, from_child=from_child, to_child=to_child
    )


def open_pipes() -> tuple[int, int, int, int]:
    """Make two pipes: (read, write) from child to supervisor, (read, write) from supervisor to child."""
    from_child, to_supervisor = os.pipe()
    try:
        from_supervisor, to_child = os.pipe()
    except OSError:
        os.close(from_child)
        os.close(to_supervisor)
        raise
    os.set_blocking(from_child, False)
    return from_child, to_supervisor, from_supervisor, to_child


def run_child(main: ChildMain, link: ChildLink, *, mask: Iterable[int], close_fds: Iterable[int]) -> NoReturn:
    """Run the child from fork to exit. It never returns into the frames that it inherited."""
    code = 1
    try:
        # If a sibling's pipe stayed open here, that sibling would not notice the supervisor's death.
        for fd in close_fds:
            os.close(fd)
        reset_signals()
        ForksOfUserCode().register()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        print_by_lines()
        atexit._clear()  # drop the exit functions of the supervisor
        link.watch_supervisor()
        code = main(link)
        if code == 0:
            # run the exit functions of user code; the supervisor ends us if they hang
            atexit._run_exitfuncs()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        end_process(code)


def reset_signals() -> None:
    """Remove the supervisor's signal handlers, and ignore the signals that reach the whole process group."""
    forget_handlers()
    for number in LEFT_TO_THE_SUPERVISOR:
        # Not SIG_IGN: a command that a step starts would inherit it, while a handler is gone after exec.
        signal.signal(number, ignore_here)


def forget_handlers() -> None:
    """Reset all signal handlers to the default. SIGPIPE stays ignored, as in all Python processes."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)


class ForksOfUserCode:
    """Gives a process that a step forks, by `multiprocessing` or by hand, the default signal handlers.

    With the child's handlers and its wake-up socket, which both would share, SIGTERM to that process would drain the child. Signals
    are blocked until the handlers are removed: one that came earlier would be lost.
    """

    def __init__(self) -> None:
        self.masks = threading.local()

    def register(self) -> None:
        """Do this for all further forks of this process."""
        os.register_at_fork(
            before=self.hold_signals, after_in_parent=self.let_signals, after_in_child=self.leave_the_worker
        )  # fmt: skip

    def hold_signals(self) -> None:
        self.masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    def let_signals(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self.masks.before)

    def leave_the_worker(self) -> None:
        forget_handlers()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.let_signals()


def print_by_lines() -> None:
    """Write stdout and stderr line by line, also to a pipe or file: buffered output would be lost when the process is killed."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)


def end_process(code: int) -> NoReturn:
    """Flush the output and exit at once. Unlike Python's own exit, this does not wait for threads of user code."""
    try:
        logging.shutdown()
        flush_output()
    finally:
        os._exit(code)


def flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # the stream has no reader any more, or is closed
            stream.flush()


def reap_orphans(known: Container[int]) -> None:
    """Reap dead processes that are not `known`. As process 1 of a container we inherit processes that steps left behind."""
    while hasattr(os, "waitid"):  # macOS has none, and no containers
        try:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        # One of our children has died this very moment: SIGCHLD calls us again once that one is reaped.
        if dead is None or dead.si_pid in known:
            return
        os.waitpid(dead.si_pid, 0)
