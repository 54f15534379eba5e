"""ChildLink: a child's connection to its supervisor."""

from __future__ import annotations

import os
import select
import signal
import threading
import time

from taskflow.worker.lease import Lease, Progress
from taskflow.worker.messages import Message, encode

ORPHAN_GRACE_S = 0.7
"""The time in which a child whose supervisor is gone may hand back its claims, before it is ended."""

ORPHAN_EXIT_CODE = 70


class ChildLink:
    """A forked child's connection to its supervisor: messages, lease and progress.

    `lease` says whether a step may start; the child notes in `progress` that its loop turns. The supervisor gives orders by
    signals: SIGTERM means drain (a second one changes nothing), SIGQUIT means hand back at once and exit.
    """

    def __init__(
        self,
        *,
        worker_id: str,
        child_id: str,
        lease: Lease,
        progress: Progress,
        to_supervisor: int,
        from_supervisor: int,
    ) -> None:
        self.worker_id = worker_id
        self.child_id = child_id
        self.lease = lease
        self.progress = progress
        self._to_supervisor = to_supervisor
        self._from_supervisor = from_supervisor
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Send a message to the supervisor, from any thread. No error if it is gone: `supervisor_alive` tells that."""
        data = memoryview(encode(message))
        with self._lock:
            try:
                while data:
                    data = data[os.write(self._to_supervisor, data) :]
            except BrokenPipeError:
                return

    def fileno(self) -> int:
        """A file descriptor for `loop.add_reader`: it becomes readable when the supervisor is gone, and only then.

        The child then has to hand back at once and exit.
        """
        return self._from_supervisor

    def supervisor_alive(self) -> bool:
        """Whether the supervisor still lives. Costs a system call (1 us)."""
        poller = select.poll()
        poller.register(self._from_supervisor, select.POLLIN)
        return not poller.poll(0)

    def watch_supervisor(self) -> None:
        """Make sure that this process ends soon after its supervisor, even if user code blocks it.

        A child that lives on has no heartbeat and no lease, and holds memory that its successors need.
        """
        threading.Thread(
            target=self._end_when_orphaned, name="taskflow-supervisor-watch", daemon=True
        ).start()

    def _end_when_orphaned(self) -> None:
        poller = select.poll()
        poller.register(self._from_supervisor, select.POLLIN)
        poller.poll()
        # First a signal that can be caught, so that the runs are handed back now and not by the reaper in 15 s (S9.3).
        # The kernel's PR_SET_PDEATHSIG is no way to do this: only SIGKILL would be certain, and that leaves no time.
        if signal.getsignal(signal.SIGQUIT) is not signal.SIG_DFL:
            os.kill(os.getpid(), signal.SIGQUIT)
            time.sleep(ORPHAN_GRACE_S)
        os._exit(ORPHAN_EXIT_CODE)
