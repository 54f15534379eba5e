"""Heartbeats: keeps the worker's children alive in the store, and hands back what dead children held. Rules S9.3, S9.4."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from taskflow.values.clock import boot_ns, machine_clock
from taskflow.values.record import record
from taskflow.worker.lease import Lease
from taskflow.worker.messages import Failed, Hello

RETRY_S = 1.0
"""The pause after a failed store call. Calls take at most 1 s, so signals wait no longer than that."""

OTHER_STORE = Failed(
    "the app names another store or namespace than when the worker started",
    "Restart the worker itself: a restart of its child processes can't move it to another store.",
)

logger = logging.getLogger("taskflow.worker")


class HeartbeatStore(Protocol):
    """The methods of the store that the supervisor needs. Calls block, for at most 1 s each; any exception means an outage.

    `now_ms` is this host's clock (ms since the epoch); the implementation corrects it by the store's (S8.3). Children hold copies
    of its sockets, so `close`, and each reconnect, has to shut a socket down and not only close it.
    """

    def heartbeat(self, worker_id: str, child_ids: list[str], *, now_ms: int) -> bool:
        """Register the worker and these children as alive.

        Returns False if the store did not know the worker: it is new, or was declared dead and its claims were handed back.
        """
        ...

    def hand_back(
        self, child_id: str, *, cause: str, crashed: bool, now_ms: int, blamed: Sequence[str] = ()
    ) -> int:
        """Hand back all claims of an ended child; return how many (0 when repeated).

        `crashed`: it died by itself, which counts towards `max_crashes` (S9.8); `cause` says how it ended. Of `blamed` claims it
        counts in any case.
        """
        ...

    def leave(self, worker_id: str) -> None:
        """Forget the worker, which is stopping."""
        ...

    def close(self) -> None: ...


StoreFactory = Callable[[Hello], HeartbeatStore]


def host_now_ms() -> int:
    """This host's time in ms since the epoch: the clock whose distance to the store's a HeartbeatStore measures."""
    return machine_clock().local_now_ms()


@record
class HandBack:
    """An ended child whose claims are still to be handed back."""

    child_id: str
    cause: str
    crashed: bool
    blamed: tuple[str, ...] = ()


class Heartbeats:
    """Sends heartbeats, renews the children's leases, and hands back the claims of dead children; survives outages of the store.

    Times are time.monotonic().
    """

    def __init__(
        self,
        make_store: StoreFactory,
        *,
        worker_id: str,
        interval_s: float,
        now_ms: Callable[[], int] = host_now_ms,
    ) -> None:
        self._make_store = make_store
        self._worker_id = worker_id
        self._interval_s = interval_s
        self._now_ms = now_ms
        self._hello: Hello | None = None
        self._store: HeartbeatStore | None = None
        self._hand_backs: deque[HandBack] = deque()
        self._due_s = 0.0
        self._outage_began_s: float | None = None
        self._outage = ""
        self._outage_is_logged = False
        self._confirmed_ns: int | None = None

    def introduce(self, hello: Hello) -> bool:
        """Note the store that a child's Hello names; the next heartbeat registers the child. False if it is another store than
        before.

        A worker can't be alive in two stores: the one without its heartbeats would take its claims away.
        """
        known = self._hello
        if known is not None and (known.store_url, known.namespace) != (hello.store_url, hello.namespace):
            return False
        self._hello = hello
        self._hurry()
        return True

    def hand_back(self, child_id: str, *, cause: str, crashed: bool, blamed: tuple[str, ...] = ()) -> None:
        """Have the next `run_due` hand back the claims of an ended child, or a later one, once the store is back."""
        self._hand_backs.append(HandBack(child_id, cause, crashed, blamed))
        self._hurry()

    @property
    def due_s(self) -> float | None:
        """When `run_due` next has something to do; None before a child has said Hello."""
        return None if self._hello is None else self._due_s

    @property
    def outage(self) -> str:
        """Why the last call of the store failed; empty if it did not."""
        return self._outage

    def run_due(self, leases: Mapping[str, Lease], *, now_s: float) -> None:
        """If it is time, hand back the claims of ended children, and send a heartbeat for the children of `leases`."""
        if self._hello is None or now_s < self._due_s:
            return
        try:
            store = self._open(self._hello)
            self._flush_hand_backs(store)
            self._beat(store, leases)
        except Exception as error:  # no error of the store may keep us from serving signals and children
            self._note_outage(error, now_s=now_s)
            self._due_s = time.monotonic() + RETRY_S
            return
        self._note_recovery(now_s=now_s)
        self._due_s = now_s + self._interval_s

    def leave(self) -> None:
        """Hand back the claims, have the store forget the worker, and close. Tries once; the reaper does the rest later."""
        if self._hello is None or self._confirmed_ns is None:
            return  # the store has never heard of this worker
        try:
            store = self._open(self._hello)
            self._flush_hand_backs(store)
            store.leave(self._worker_id)
            store.close()
        except Exception as error:
            logger.warning(
                "could not tell the store that this worker leaves (%s); beat hands back the claims of %d children later",
                error,
                len(self._hand_backs),
            )

    def _hurry(self) -> None:
        if self._outage_began_s is None:
            self._due_s = 0.0

    def _open(self, hello: Hello) -> HeartbeatStore:
        if self._store is None:
            self._store = self._make_store(hello)
        return self._store

    def _beat(self, store: HeartbeatStore, leases: Mapping[str, Lease]) -> None:
        # The time of sending counts, not that of the answer: a late answer says nothing about the time since.
        sent_ns = boot_ns()
        was_known = store.heartbeat(self._worker_id, list(leases), now_ms=self._now_ms())
        if not was_known and self._confirmed_ns is not None:
            for lease in leases.values():
                lease.lose()
            logger.warning(
                "worker %s had been declared dead (paused, or cut off from the store?): its runs were handed "
                "back and go on elsewhere, what it still commits for them is refused",
                self._worker_id,
            )
        self._confirmed_ns = sent_ns
        for lease in leases.values():
            lease.renew(sent_ns)

    def _flush_hand_backs(self, store: HeartbeatStore) -> None:
        while self._hand_backs:
            ended = self._hand_backs[0]
            count = store.hand_back(
                ended.child_id,
                cause=ended.cause,
                crashed=ended.crashed,
                now_ms=self._now_ms(),
                blamed=ended.blamed,
            )
            self._hand_backs.popleft()
            if count:
                logger.warning("handed back %d runs of child %s (%s)", count, ended.child_id, ended.cause)

    def _note_outage(self, error: Exception, *, now_s: float) -> None:
        self._outage = f"{type(error).__name__}: {error}"
        if self._outage_began_s is None:
            self._outage_began_s = now_s
            if self._confirmed_ns is None:
                return  # wait for the next try: most often a child fails too, and says more fully why
        if self._outage_is_logged:
            return
        self._outage_is_logged = True
        logger.error(
            "no answer from the store (%s); trying again every %g s, no step starts once the lease is over",
            self._outage,
            RETRY_S,
        )

    def _note_recovery(self, *, now_s: float) -> None:
        if self._outage_began_s is None:
            return
        if self._outage_is_logged:
            logger.warning("the store answers again, after %.1f s", now_s - self._outage_began_s)
        self._outage_began_s = None
        self._outage = ""
        self._outage_is_logged = False
