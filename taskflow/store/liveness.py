"""LivenessStore: the store for a worker's supervisor, with blocking calls over one socket that take a second at most.

A supervisor has neither an event loop nor threads, so that it may fork at any time. Rules S9.3, S9.4.
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

CALL_TIMEOUT_S = 1.0  # for one round trip, connecting and login included
HAND_BACK_BATCH = 150  # runs in one call of the script, so that it stays short
SCRIPTS = ("heartbeat", "hand_back", "forget_worker")


class LivenessStore:
    """Implements `HeartbeatStore`. It connects at the first call, and again at the next call after a failure.

    `queues` of `app_id` are those that the worker serves; they explain why a run is queued (S10.5). Raises ConfigError for a URL
    that can't be read. The calls raise StoreUnavailable, or StoreVersionMismatch; then nothing was written.
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
        """See HeartbeatStore. It also reads the store's clock, for later calls."""
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
        # It is not enough that the store knows the worker: a late heartbeat of ours, held up by the network, may have registered it
        # anew a moment ago, after it had been declared dead.
        known: bool = self._registered_ms == registered_ms
        self._registered_ms = registered_ms
        return known

    def hand_back(
        self, child_id: str, *, cause: str, crashed: bool, now_ms: int, blamed: Sequence[str] = ()
    ) -> int:
        """See HeartbeatStore. The claims are handed back in batches, however many there are."""
        total = 0
        if blamed:
            total, _ = self._hand_back(child_id, "broke", cause, now_ms, blamed)
        left = 1
        while left:
            count, left = self._hand_back(child_id, "died" if crashed else "", cause, now_ms, ())
            total += count
        return total

    def _hand_back(
        self, child_id: str, crash: str, cause: str, now_ms: int, jobs: Sequence[str]
    ) -> tuple[int, int]:
        """Hand back these claims, or a batch of all; return how many, and how many are left."""
        self._begin()
        script = self._script(
            "hand_back",
            now_ms=now_ms + self.skew_ms,
            child_id=child_id,
            crashed=crash,
            cause=cause,
            tells=False,
            limit=HAND_BACK_BATCH,
            jobs=jobs,
        )
        ((count, left, _),) = self._round_trip(script)
        return count, left

    def leave(self, worker_id: str) -> None:
        """See HeartbeatStore."""
        self._begin()
        self._round_trip(self._script("forget_worker", worker_id=worker_id, silent_since_ms=""))
        self._registered_ms = None

    def close(self) -> None:
        """Disconnect, even if forked children hold copies of the socket."""
        self.client.hang_up()

    def _begin(self) -> None:
        """Begin a call: start its time limit, and connect if needed."""
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
        # Checked before the first write, since the keys of another version may mean something else.
        if version is not None and version.decode() != DATA_VERSION:
            client.hang_up()
            raise StoreVersionMismatch(
                f"the store at {client.server} holds data of taskflow's format {version.decode()}, "
                f"but this version reads format {DATA_VERSION}"
            )
        self._follow_clock(now)
        # Not earlier: a server that wants another password closes the connection of a client that sends long scripts, without
        # saying why.
        self._round_trip(*[("SCRIPT", "LOAD", load_scripts(PACKAGE)[name].source) for name in SCRIPTS])

    def _follow_clock(self, now: list[bytes]) -> None:
        seconds, micros = now
        self.skew_ms = int(seconds) * 1000 + int(micros) // 1000 - machine_clock().local_now_ms()

    def _script(self, name: str, **named: Any) -> Command:
        script = load_scripts(PACKAGE)[name]
        return ("EVALSHA", script.sha, 1, self.prefix, *script.argv(**named))

    def _round_trip(self, *commands: Command) -> list[Any]:
        """Send the commands together and return their replies. After a failure the connection is closed.

        So scripts that the server has forgotten (restart, SCRIPT FLUSH) are loaded again at the next call.
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
