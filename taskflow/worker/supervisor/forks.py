"""One forked child: fork, pipes, messages, wait status."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NoReturn

from taskflow.worker.lease import Lease, Progress
from taskflow.worker.link import ChildLink
from taskflow.worker.messages import Message, decode

ChildMain = Callable[[ChildLink], int]
"""Runs in the forked child; returns its exit code."""

READ_BYTES = 65_536
IGNORED_BY_CHILDREN = (signal.SIGINT, signal.SIGHUP)
"""Ctrl-C and a hang-up reach the whole process group; only the supervisor answers them."""

logger = logging.getLogger("taskflow.worker")


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: by an exit `code` (0 or more), or by signal `-code`."""

    code: int

    @property
    def was_killed(self) -> bool:
        """By somebody else: an operator, or a system without memory. Not by a crash of its own."""
        return self.code in (-signal.SIGKILL, -signal.SIGTERM)

    @property
    def cause(self) -> str:
        """In words: 'exit code 3', or 'killed by signal 9 (SIGKILL; out of memory?)'."""
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
    """The supervisor's end: `pid`, what the child says, how it ends."""

    pid: int
    child_id: str
    lease: Lease
    progress: Progress
    from_child: int
    to_child: int
    _received: bytearray = field(default_factory=bytearray)
    is_silent: bool = False  # it has closed its end of the pipe: nothing more will come

    @property
    def fds(self) -> tuple[int, int]:
        return self.from_child, self.to_child

    def read_messages(self) -> list[Message]:
        """All complete messages that have arrived; never blocks."""
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
        """How the process ended, or None while it lives. Call no more once it has told."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # somebody else in this process waited for it
            return Exit(code=0)
        return Exit(code=os.waitstatus_to_exitcode(status)) if pid else None

    def send_signal(self, number: signal.Signals) -> None:
        """Safe until `poll_exit` has told the end: the pid can't be another process's before that."""
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
    flush_output()  # or both processes would write what is buffered
    # Until its handlers are reset, the child must get no signal: it would answer as the supervisor, and wake
    # that up.
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
    """Two pipes: (read, write) from child to supervisor, (read, write) from supervisor to child."""
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
    """The child's life from fork to exit; it never returns into the frames that it inherited."""
    code = 1
    try:
        # A sibling's pipe that stays open here would hide the supervisor's death from that sibling.
        for fd in close_fds:
            os.close(fd)
        reset_signals()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        atexit._clear()  # those of the supervisor
        link.watch_supervisor()
        code = main(link)
        if code == 0:
            atexit._run_exitfuncs()  # those of user code; the supervisor ends us if they hang
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        end_process(code)


def reset_signals() -> None:
    """Forget the supervisor's handlers. SIGPIPE stays ignored, as Python has it."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    for number in IGNORED_BY_CHILDREN:
        signal.signal(number, signal.SIG_IGN)


def end_process(code: int) -> NoReturn:
    """Flush and exit. Threads of user code must not delay it, as they would an exit of Python's own."""
    try:
        logging.shutdown()
        flush_output()
    finally:
        os._exit(code)


def flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more, or it is closed
            stream.flush()
