"""Publishers: send events and work messages, from any thread or any loop, within a deadline. Rules S1.2, S9.5."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from taskflow.broker.deadline import Deadline
from taskflow.broker.failure import unavailable
from taskflow.broker.session import OutgoingMessage, Session
from taskflow.broker.sessions import open_session
from taskflow.broker.streams.bindings import BoundQueue
from taskflow.broker.topology import Topology
from taskflow.errors import BrokerUnavailable, ConfigError
from taskflow.redis.blocking import ServerNotReady

MAX_IDLE_SESSIONS = 8
MAX_BATCH = 1000
RESET_PAUSE_S = 0.05
PASSING = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, ServerNotReady)


@dataclass(slots=True)
class Letter:
    """Messages that go out together, and the queues that must exist before. Only its maker may add to it."""

    messages: list[OutgoingMessage] = field(default_factory=list)
    queues: dict[str, BoundQueue] = field(default_factory=dict)

    def add(self, other: Letter) -> None:
        self.messages.extend(other.messages)
        self.queues.update(other.queues)


class Publisher:
    """Publishes messages from any thread. Calls at the same time use several connections. It survives a fork of the process.

    A call ends within `send_timeout_ms`, connecting included: the broker has the messages, or BrokerUnavailable is raised.
    """

    def __init__(
        self, url: str, *, app_id: str, send_timeout_ms: int, topology: Topology | None = None
    ) -> None:
        self.url = url
        self.app_id = app_id
        self.topology = topology or Topology()
        self.send_timeout_ms = send_timeout_ms
        self._pid = os.getpid()
        self._idle: deque[Session] = deque()
        self._events_queues: dict[tuple[str, ...], dict[str, BoundQueue]] = {}  # by apps
        self._work_queues: dict[tuple[str, str], BoundQueue] = {}  # by app and name

    def publish_events(self, bodies: Sequence[bytes], *, app_ids: Sequence[str] = ()) -> None:
        """Publish each body (a JSON array of events) as one persistent message; every app gets a copy.

        The events queues of this app and of `app_ids` are declared first, so that what is sent before their
        first worker starts waits for it. Raises BrokerUnavailable. Rules S1.2, S1.6.
        """
        self.send(self.events_letter(bodies, app_ids=app_ids), Deadline(self.send_timeout_ms / 1000))

    def publish_work(self, queue_names: Sequence[str], *, app_id: str | None = None) -> None:
        """Publish a work message for each queue of the app: the queue has ready runs. Raises BrokerUnavailable."""
        self.send(self.work_letter(queue_names, app_id=app_id), Deadline(self.send_timeout_ms / 1000))

    def events_letter(self, bodies: Sequence[bytes], *, app_ids: Sequence[str] = ()) -> Letter:
        exchange, apps = self.topology.events_exchange, (self.app_id, *app_ids)
        queues = self._events_queues.get(apps)
        if queues is None:
            found = [self.topology.events_queue(app_id) for app_id in apps if app_id]
            queues = self._events_queues[apps] = {queue.name: queue for queue in found}
        letter = Letter([], queues)
        for body in bodies:
            letter.messages.append(OutgoingMessage(exchange, "", body, True))
        return letter

    def work_letter(self, queue_names: Sequence[str], *, app_id: str | None = None) -> Letter:
        app = app_id or self.app_id
        letter = Letter()
        for name in queue_names:
            bound = self._work_queues.get((app, name))
            if bound is None:
                bound = self._work_queues[app, name] = self.topology.work_queue(app, name)
            letter.queues[bound.name] = bound
            body = json.dumps({"queue": name}).encode()
            # Not persistent: a lost work message costs time, never a run, since the reaper sends it again.
            letter.messages.append(OutgoingMessage(bound.exchange, bound.routing_key, body, persistent=False))
        return letter

    def send(self, letter: Letter, deadline: Deadline) -> None:
        """Send the letter, over a second connection if a pooled one turns out to be broken.

        That may send a message twice, which is safe: a receiver recognizes an event by its uid (S1.1).
        """
        if not letter.messages:
            return
        try:
            session = self._pooled_session()
            if session is not None and self._try_pooled(session, letter, deadline):
                return
            self._send_anew(letter, deadline)
        except ConfigError:
            raise
        except Exception as error:
            # `from None`: the transport's error stays as the context, but its 60 lines are not printed in front of the reason.
            raise unavailable(self.url, after_ms=self.send_timeout_ms, error=error) from None

    def close(self) -> None:
        """Close the idle connections. The publisher can still be used, and then connects again."""
        if self._pid != os.getpid():
            self._forget_parent()
        while True:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def _try_pooled(self, session: Session, letter: Letter, deadline: Deadline) -> bool:
        """Send the letter over a pooled connection, in half of the time, so that a new one has a chance; whether that worked."""
        try:
            self._send_over(session, letter, Deadline(deadline.remaining_s() / 2))
        except Exception:
            # The cause has probably broken all connections, and the next call would try the next of them.
            self._abandon_idle()
            return False
        return True

    def _send_anew(self, letter: Letter, deadline: Deadline) -> None:
        """Send the letter over a new connection. A reset or failover passes, so try again then, until the deadline."""
        while True:
            try:
                session = open_session(self.url, deadline, key_prefix=self.topology.key_prefix)
                self._send_over(session, letter, deadline)
                return
            except Exception as error:
                if not is_passing(error) or time.monotonic() + RESET_PAUSE_S > deadline.at:
                    raise
                time.sleep(RESET_PAUSE_S)

    def _send_over(self, session: Session, letter: Letter, deadline: Deadline) -> None:
        try:
            session.declare(letter.queues, deadline)
            session.publish(letter.messages, deadline)
        except BaseException:
            session.abandon()
            raise
        if len(self._idle) < MAX_IDLE_SESSIONS:
            self._idle.append(session)
        else:
            session.close()

    def _pooled_session(self) -> Session | None:
        if self._pid != os.getpid():
            self._forget_parent()
        while True:
            try:
                session = self._idle.pop()
            except IndexError:
                return None
            if session.looks_alive():
                return session
            session.abandon()

    def _forget_parent(self) -> None:
        """After a fork: close our copies of the parent's connections, without sending anything over them."""
        self._pid = os.getpid()
        for session in self._idle:
            session.forget()
        self._idle.clear()

    def _abandon_idle(self) -> None:
        while True:
            try:
                self._idle.pop().abandon()
            except IndexError:
                return


def is_passing(error: BaseException | None) -> bool:
    """Whether the error, or one that caused it, says that an open connection broke, or that no server can serve right now."""
    while error is not None:
        if isinstance(error, PASSING):
            return True
        error = error.__cause__ or error.__context__
    return False


@dataclass(slots=True, eq=False)
class Pending:
    letter: Letter
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]
    deadline: Deadline


class AsyncPublisher:
    """A publisher for coroutines: a thread sends all pending messages in one round trip, and no loop is blocked.

    Several loops may share it. The deadline counts from the call, the time in the thread's queue included. It owns the `Publisher`
    that it is given, and closes it.
    """

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._lock = threading.Lock()
        self._pid = 0
        self._thread: threading.Thread | None = None
        self._pending: queue.SimpleQueue[Pending | None] = queue.SimpleQueue()

    async def publish_events(self, bodies: Sequence[bytes], *, app_ids: Sequence[str] = ()) -> None:
        """As Publisher.publish_events."""
        await self._send(self._publisher.events_letter(bodies, app_ids=app_ids))

    async def publish_work(self, queue_names: Sequence[str], *, app_id: str | None = None) -> None:
        """As Publisher.publish_work."""
        await self._send(self._publisher.work_letter(queue_names, app_id=app_id))

    def close(self) -> None:
        """Send what is pending, end the thread, close the publisher. A later call starts them again. Blocks up to the deadline."""
        with self._lock:
            thread, self._thread = self._thread, None
            is_ours = self._pid == os.getpid()
            pending = self._pending
        if thread is not None and is_ours:
            pending.put(None)
            thread.join(self._publisher.send_timeout_ms / 1000 + 1)
        self._publisher.close()

    async def _send(self, letter: Letter) -> None:
        if not letter.messages:
            return
        timeout_s = self._publisher.send_timeout_ms / 1000
        loop = asyncio.get_running_loop()
        pending = Pending(letter, loop, loop.create_future(), Deadline(timeout_s))
        self._ensure_thread().put(pending)
        # The thread keeps the deadline itself; the timer is for a transport that hangs in spite of it.
        timer = loop.call_later(timeout_s, self._expire, pending)
        try:
            await pending.done
        finally:
            timer.cancel()

    def _expire(self, pending: Pending) -> None:
        settle(pending.done, self._unavailable(TimeoutError("it gave no answer")))

    def _unavailable(self, error: Exception) -> BrokerUnavailable:
        return unavailable(self._publisher.url, after_ms=self._publisher.send_timeout_ms, error=error)

    def _ensure_thread(self) -> queue.SimpleQueue[Pending | None]:
        thread = self._thread
        if thread is not None and thread.is_alive() and self._pid == os.getpid():
            return self._pending
        if self._pid != os.getpid():
            # a thread of the parent may have held the old one when the process forked
            self._lock = threading.Lock()
        with self._lock:
            if self._thread is None or not self._thread.is_alive() or self._pid != os.getpid():
                self._pid = os.getpid()
                self._pending = queue.SimpleQueue()
                self._thread = threading.Thread(
                    target=self._run, args=(self._pending,), name="taskflow-publisher", daemon=True
                )
                self._thread.start()
            return self._pending

    def _run(self, pending: queue.SimpleQueue[Pending | None]) -> None:
        while self._send_next(pending):
            pass

    def _send_next(self, pending: queue.SimpleQueue[Pending | None]) -> bool:
        """Wait for something to send, and send it with all that follows. False at the end.

        A call of its own, so that the thread holds no caller's loop while it waits for the next one.
        """
        first = pending.get()
        batch = [] if first is None else [first]
        is_last = first is None
        while len(batch) < MAX_BATCH:
            try:
                following = pending.get_nowait()
            except queue.Empty:
                break
            if following is None:
                is_last = True
            else:
                batch.append(following)
        if batch:
            self._send_batch(batch)
        if is_last and pending.empty():
            return False
        if is_last:
            pending.put(None)
        return True

    def _send_batch(self, batch: list[Pending]) -> None:
        letter = Letter()
        live = [each for each in batch if not each.done.done()]
        for each in live:
            letter.add(each.letter)
        if not live:
            return
        error: Exception | None = None
        try:
            # The latest deadline counts: calls with less time left are ended by their own timers.
            self._publisher.send(letter, max((each.deadline for each in live), key=lambda each: each.at))
        except Exception as failure:
            error = failure
        by_loop: dict[asyncio.AbstractEventLoop, list[Pending]] = {}
        for each in live:
            by_loop.setdefault(each.loop, []).append(each)
        for loop, waiting in by_loop.items():
            try:
                loop.call_soon_threadsafe(settle_all, waiting, error)
            except RuntimeError:  # the loop was closed, so nobody waits any more
                continue


def settle_all(waiting: list[Pending], error: Exception | None) -> None:
    """End the waiting calls of one loop, on that loop. Each call gets its own exception object, as a traceback is added to it."""
    for each in waiting:
        own: Exception | None = None
        if error is not None:
            own = ConfigError(str(error)) if isinstance(error, ConfigError) else BrokerUnavailable(str(error))
            own.__context__, own.__suppress_context__ = error.__context__, True
        settle(each.done, own)


def settle(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
