"""The store as a worker's supervisor uses it: blocking, over one socket, never for longer than a second a call.

A supervisor has neither event loop nor threads, so that it may fork at any time. Rules S9.3, S9.4.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import hiredis

from taskflow.errors import StoreUnavailable, StoreVersionMismatch
from taskflow.redis.blocking import Command, RespClient, ServerLost
from taskflow.redis.client import describe
from taskflow.redis.scripts import load_scripts
from taskflow.store.keys import SEPARATOR, Keys
from taskflow.store.store import DATA_VERSION, PACKAGE
from taskflow.values.clock import machine_clock

CALL_TIMEOUT_S = 1.0  # for one round trip, with connecting and greeting where that is needed
HAND_BACK_BATCH = 150  # runs a script, so that each stays short
SCRIPTS = ("heartbeat", "hand_back", "forget_worker")


class LivenessStore:
    """Implements `HeartbeatStore`. Connects when first called; after any failure, anew with the next call.

    `queues` of `app_id` are what the worker serves: whoever asks why a run is queued is told by them (S10.5).
    Raises ConfigError for a URL that can't be read; the calls raise StoreUnavailable, or StoreVersionMismatch,
    in which case nothing was written.
    """

    def __init__(
        self, url: str, *, namespace: str = "tf", app_id: str = "", queues: Sequence[str] = ()
    ) -> None:
        self.serving = SEPARATOR.join([app_id, *queues]) if queues else ""
        self.prefix = Keys(namespace).prefix
        # A supervisor forks at any time.
        self.client = RespClient(url, what="store", home_key=self.prefix, forks=True)
        self.skew_ms = 0  # the store's clock minus ours
        self._registered_ms: int | None = None  # when the store registered the worker, by the store's clock

    def heartbeat(self, worker_id: str, child_ids: list[str], *, now_ms: int) -> bool:
        """See HeartbeatStore. Reads the store's clock on the way, for the calls to come."""
        self._begin()
        beat = self._script(
            "heartbeat",
            now_ms=now_ms + self.skew_ms,
            worker_id=worker_id,
            serving=self.serving,
            child_ids=child_ids,
        )
        registered_ms, now = self._round_trip(beat, ("TIME",))
        self._follow_clock(now)
        # Not whether the store knows the worker: an earlier heartbeat of ours, held up by the network, may have
        # registered it anew a moment ago, after it had been declared dead.
        known: bool = self._registered_ms == registered_ms
        self._registered_ms = registered_ms
        return known

    def hand_back(self, child_id: str, *, cause: str, crashed: bool, now_ms: int) -> int:
        """See HeartbeatStore. However many claims there are: in batches."""
        total: int = 0
        while True:
            self._begin()
            crash = "died" if crashed else ""
            script = self._script(
                "hand_back",
                now_ms=now_ms + self.skew_ms,
                child_id=child_id,
                crashed=crash,
                cause=cause,
                tells=False,
                limit=HAND_BACK_BATCH,
                jobs=(),
            )
            ((count, left, _),) = self._round_trip(script)
            total += count
            if not left:
                return total

    def leave(self, worker_id: str) -> None:
        """See HeartbeatStore."""
        self._begin()
        self._round_trip(self._script("forget_worker", worker_id=worker_id, silent_since_ms=""))
        self._registered_ms = None

    def close(self) -> None:
        """Disconnect, though forked children hold copies of the socket."""
        self.client.hang_up()

    def _begin(self) -> None:
        """A call begins: its time runs, and it may have to connect."""
        client = self.client
        client.deadline = time.monotonic() + CALL_TIMEOUT_S
        if client.is_connected and not client.topology.is_current():
            client.hang_up()
        if client.is_connected:
            return
        try:
            client.connect()
        except ServerLost as error:
            raise self._unavailable(error.__cause__ or error) from error
        version, now = self._round_trip(("GET", f"{self.prefix}version"), ("TIME",))
        # Before the first write: the keys of another version may mean something else.
        if version is not None and version.decode() != DATA_VERSION:
            client.hang_up()
            raise StoreVersionMismatch(
                f"the store at {client.server} holds data of taskflow's format {version.decode()}, "
                f"but this version reads format {DATA_VERSION}"
            )
        self._follow_clock(now)
        # Not before: a server that wants another password cuts off who sends it long scripts, without saying why.
        self._round_trip(*[("SCRIPT", "LOAD", load_scripts(PACKAGE)[name].source) for name in SCRIPTS])

    def _follow_clock(self, now: list[bytes]) -> None:
        seconds, micros = now
        self.skew_ms = int(seconds) * 1000 + int(micros) // 1000 - machine_clock().local_now_ms()

    def _script(self, name: str, **named: Any) -> Command:
        script = load_scripts(PACKAGE)[name]
        return ("EVALSHA", script.sha, 1, self.prefix, *script.argv(**named))

    def _round_trip(self, *commands: Command) -> list[Any]:
        """Send the commands in one go and return their replies. After a failure the connection is closed.

        So scripts that the server has forgotten (a restart, SCRIPT FLUSH) are there again with the next call.
        """
        try:
            replies = self.client.pipeline(commands)
        except ServerLost as error:
            raise self._unavailable(error.__cause__ or error) from error
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                self.client.hang_up()
                raise self._unavailable(reply)
        return replies

    def _unavailable(self, error: BaseException) -> StoreUnavailable:
        return StoreUnavailable(f"the store at {self.client.server}: {describe(error)}")
