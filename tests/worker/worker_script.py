"""A worker to test the supervisor with: `python -m tests.worker.worker_script <folder> <options as JSON>`.

Its store is the journal. Files in the folder are switches, read when they matter:
  broken      children say that they can't start (the text is the message), and exit
  dies        children exit with code 3 before they say anything
  store-down  the store raises; with "stall" in it, each call takes 1 s first
  known-dead  the next heartbeat says that the worker is not known, and removes the file
  slow        children that start wait until it is gone, with SIGTERM ignored, before they say hello
  version     what children say in their "ready" entry: the code that they have read
  store-url   the URL that children say in their hello
Signals to a child: USR1 asks to be recycled; USR2 begins a step that lasts until the file "finish" exists;
ALRM blocks its main thread and event loop until the file "unblock" exists.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import stat
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import orjson

from taskflow.errors import StoreUnavailable
from taskflow.worker.link import ChildLink
from taskflow.worker.messages import Failed, Hello, Ready, Recycle
from taskflow.worker.supervisor.children import RestartBackoff
from taskflow.worker.supervisor.options import SupervisorOptions
from taskflow.worker.supervisor.supervisor import Supervisor
from tests.worker.journal import Journal

TICK_S = 0.01


class JournalStore:
    """Writes down what the supervisor wants of the store."""

    def __init__(self, folder: Path, hello: Hello) -> None:
        self._folder = folder
        self._journal = Journal(folder)
        self._heartbeats = 0
        self._journal.write("open", child_id=hello.child_id, detail=hello.store_url)

    def heartbeat(self, worker_id: str, child_ids: list[str], *, now_ms: int) -> bool:
        self._answer()
        self._heartbeats += 1
        dead = self._folder / "known-dead"
        is_known = self._heartbeats > 1 and not dead.exists()
        dead.unlink(missing_ok=True)
        self._journal.write("heartbeat", detail=child_ids)
        return is_known

    def hand_back(
        self, child_id: str, *, cause: str, crashed: bool, now_ms: int, blamed: Sequence[str] = ()
    ) -> int:
        self._answer()
        self._journal.write("hand_back", child_id=child_id, detail={"cause": cause, "crashed": crashed})
        return 1

    def leave(self, worker_id: str) -> None:
        self._answer()
        self._journal.write("leave", detail=worker_id)

    def close(self) -> None:
        self._journal.write("close")

    def _answer(self) -> None:
        switch = self._folder / "store-down"
        if not switch.exists():
            return
        if "stall" in switch.read_text():
            time.sleep(1.0)
        raise StoreUnavailable("the switch says that it is down")


class TestChild:
    """A child as taskflow's is: drains at SIGTERM, hands back at SIGQUIT, leaves with its supervisor."""

    __test__ = False

    def __init__(self, folder: Path, link: ChildLink) -> None:
        self._folder = folder
        self._link = link
        self._journal = Journal(folder)
        self._version = self._read("version")
        self._ended = asyncio.Event()
        self._steps: set[asyncio.Task[None]] = set()

    def write(self, what: str, detail: object = None) -> None:
        self._journal.write(what, child_id=self._link.child_id, detail=detail)

    async def serve(self) -> int:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._drain)
        loop.add_signal_handler(signal.SIGQUIT, self._quit, "quit")
        loop.add_signal_handler(signal.SIGUSR1, self._recycle)
        loop.add_signal_handler(signal.SIGUSR2, self._begin_step)
        loop.add_signal_handler(signal.SIGALRM, self._block)
        loop.add_reader(self._link.fileno(), self._quit, "orphaned")
        self._link.send(self._hello())
        while not self._link.lease.is_valid():  # noqa: ASYNC110 - another process makes it valid
            await asyncio.sleep(TICK_S)
        self.write("works")  # what the supervisor does next comes after this entry in the journal
        self._link.send(Ready())
        self.write("ready", self._version)  # and what a test does next comes after the message
        beat = asyncio.create_task(self._watch_lease())
        await self._ended.wait()
        beat.cancel()
        return 0

    def _hello(self) -> Hello:
        url = self._read("store-url") or "test://store"
        return Hello(child_id=self._link.child_id, app_id="shop", store_url=url)

    def _read(self, name: str) -> str:
        path = self._folder / name
        return path.read_text() if path.exists() else ""

    async def _watch_lease(self) -> None:
        lease, was_valid, epoch = self._link.lease, True, self._link.lease.epoch
        while True:
            self._link.progress.loop_turned()
            if lease.is_valid() is not was_valid:
                was_valid = not was_valid
                self.write("lease", was_valid)
            if lease.epoch != epoch:
                epoch = lease.epoch
                self.write("epoch", epoch)
            await asyncio.sleep(TICK_S)

    def _begin_step(self) -> None:
        task = asyncio.create_task(self._step())
        self._steps.add(task)

    async def _step(self) -> None:
        self.write("step begins")
        while not (self._folder / "finish").exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(TICK_S)
        self.write("step ends")

    def _drain(self) -> None:
        self.write("drains")
        for task in self._steps:
            task.add_done_callback(self._end_if_idle)
        self._end_if_idle()

    def _end_if_idle(self, task: asyncio.Task[None] | None = None) -> None:
        if all(step.done() for step in self._steps):
            self._ended.set()

    def _quit(self, why: str) -> None:
        if not self._ended.is_set():
            self.write(why)
        self._ended.set()

    def _recycle(self) -> None:
        self._link.send(Recycle("a step was abandoned"))

    def _block(self) -> None:
        self.write("blocks")
        while not (self._folder / "unblock").exists():
            time.sleep(TICK_S)


def inherited_fds() -> list[str]:
    """The kinds of all open file descriptors except stdin, stdout and stderr."""
    kinds: list[str] = []
    for fd in range(3, 256):
        with contextlib.suppress(OSError):
            mode = os.fstat(fd).st_mode
            kinds.append("pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "file")
    return kinds


def child_main(link: ChildLink) -> int:
    folder = Path(sys.argv[1])
    journal = Journal(folder)
    journal.write("start", child_id=link.child_id, detail=inherited_fds())
    if (folder / "dies").exists():
        return 3
    broken = folder / "broken"
    if broken.exists():
        link.send(Failed(broken.read_text(), hint="Repair it."))
        return 1
    child = TestChild(folder, link)
    if (folder / "slow").exists():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while (folder / "slow").exists():
            time.sleep(TICK_S)
    return asyncio.run(child.serve())


def main() -> int:
    folder = Path(sys.argv[1])
    fields = orjson.loads(sys.argv[2])
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    backoff = RestartBackoff(**fields.pop("backoff", {}))
    options = SupervisorOptions(child_main=child_main, backoff=backoff, **fields)
    supervisor = Supervisor(options, make_store=partial(JournalStore, folder))
    Journal(folder).write("supervisor", detail=os.getpid())
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
