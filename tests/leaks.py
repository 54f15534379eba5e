"""What ended runs left behind in the store: entries of indexes, counters, places, operations that wait. Rules S6.2, S7.10.

Each entry names its run, so a test need not end all of its runs: what belongs to live ones is no leak.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from taskflow.redis.client import StoreClient
from taskflow.run import RunStatus
from taskflow.store.keys import SEPARATOR
from taskflow.store.operation import Operation

LIVE = frozenset(status.value for status in RunStatus if not status.is_final)
RUN_TIMERS = ("op", "start", "start_timeout", "finish_timeout")


async def find_leaks(client: StoreClient, prefix: str, *, has_publisher: bool = True) -> list[str]:
    """What is left, in words. `prefix` is that of the store's keys; `has_publisher`: somebody empties the outbox."""
    names = [key.decode().removeprefix(prefix) for key in await client.call("KEYS", f"{prefix}*")]
    content = {name: await read(client, prefix + name) for name in sorted(names)}
    leaks = Leaks({name: value for name, value in content.items() if value is not None})
    found = {
        *leaks.of_runs(),
        *leaks.of_operations(),
        *leaks.of_wait_counts(),
        *leaks.of_lanes(),
        *leaks.of_census(),
    }
    return sorted(found.union(leaks.of_outbox() if has_publisher else ()))


async def read(client: StoreClient, key: str) -> Any:
    """A hash as a dict; a set, sorted set or list as a list of texts; a string as text; None for what is of no interest."""
    match await client.call("TYPE", key):
        case b"hash":
            flat = await client.call("HGETALL", key)
            return {text(flat[i]): flat[i + 1] for i in range(0, len(flat), 2)}
        case b"set":
            return [text(member) for member in await client.call("SMEMBERS", key)]
        case b"zset":
            return [text(member) for member in await client.call("ZRANGE", key, 0, -1)]
        case b"string":
            return text(await client.call("GET", key))
        case b"list":
            return []
    return None


def text(value: bytes) -> str:
    return value.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Leaks:
    """`content`: everything in the store, by key without the prefix."""

    content: Mapping[str, Any]

    def status(self, run_id: str) -> str:
        return text(self.content.get(f"run:{run_id}", {}).get("status", b"unknown"))

    def keys(self, kind: str) -> Iterator[tuple[str, Any]]:
        """(rest of the key, what it holds) of all keys of a kind."""
        for name, value in self.content.items():
            if name.startswith(f"{kind}:"):
                yield name.removeprefix(f"{kind}:"), value

    def of_runs(self) -> Iterator[str]:
        """Entries of runs that are not in a state in which they may have them."""
        for place, run_id, statuses in self.holders():
            if (status := self.status(run_id)) not in statuses:
                yield f"{place}: run {run_id}, which is {status}"
        for run_id, fields in self.keys("run"):
            if "cancels" in fields and self.status(run_id) not in LIVE:
                yield f"run:{run_id}: cancel events of a run that is {self.status(run_id)}"

    def holders(self) -> Iterator[tuple[str, str, frozenset[str]]]:
        """Where an entry is, its run, and the states in which that may have it."""
        running = frozenset({"running"})
        for member in self.content.get("timers", ()):
            kind, *parts = member.split(SEPARATOR)
            if kind in RUN_TIMERS:
                yield f"timers {kind}", parts[0], LIVE
        for kind, statuses in (("ready", LIVE), ("claims", LIVE), ("places", LIVE), ("waits", LIVE)):
            for rest, members in self.keys(kind):
                for member in members:
                    run_id, *step = member.removeprefix(SEPARATOR).split(SEPARATOR)
                    is_run = kind != "waits" and not step
                    owned = running if kind in ("claims", "places") else frozenset({"queued"})
                    yield f"{kind}:{rest}", run_id, owned if is_run else statuses
        for name, member in self.content.get("signals", {}).items():
            yield f"signals {name}", text(member).split(SEPARATOR)[0], LIVE
        for rest, fields in self.keys("singleton"):
            yield from ((f"singleton:{rest} {name}", text(run_id), LIVE) for name, run_id in fields.items())
        scheduled = frozenset({"scheduled"})
        for rest, fields in self.keys("debounce"):
            yield f"debounce:{rest}", text(fields.get("run", b"")), scheduled
        for rest, run_id in self.keys("batching"):
            yield f"batching:{rest}", run_id, scheduled
        for rest, _ in self.keys("joins"):
            yield f"joins:{rest}", rest, LIVE
        for rest, _ in self.keys("batch"):
            yield f"batch:{rest}", rest, frozenset(RunStatus)

    def of_operations(self) -> Iterator[str]:
        """Operations that wait though their run has ended."""
        for run_id, steps in self.keys("steps"):
            if self.status(run_id) in LIVE:
                continue
            for step_key, packed in steps.items():
                if Operation.unpack(packed).is_pending:
                    yield f"steps:{run_id}: {step_key} waits, though the run is {self.status(run_id)}"

    def of_wait_counts(self) -> Iterator[str]:
        """Counters of wait paths that count what is not there, or the other way round; patterns that nothing uses."""
        counts = {name: sum(map(int, paths.values())) for name, paths in self.keys("waitpaths")}
        there: Counter[str] = Counter()
        for rest, members in self.keys("waits"):
            # A name may hold a colon, and so may a value: the names that are counted say where one ends.
            name = max((each for each in counts if rest.startswith(f"{each}:")), key=len, default=rest)
            there[name] += len(members)
        for name in counts.keys() | there.keys():
            if counts.get(name, 0) != there[name]:
                yield f"waitpaths:{name} counts {counts.get(name, 0)} waits, but there are {there[name]}"
        for pattern in self.content.get("waitpatterns", ()):
            if pattern not in counts:
                yield f"waitpatterns: {pattern}, which no wait uses"

    def of_census(self) -> Iterator[str]:
        """Counts and lists by status that are not those of the runs that are there."""
        counts: Counter[str] = Counter()
        members: dict[str, set[str]] = {}
        for run_id, fields in self.keys("run"):
            function, status = text(fields["function"]), text(fields["status"])
            queue = text(fields.get("queue", b"default"))
            if status in LIVE:
                counts[SEPARATOR.join((function, queue, status))] += 1
            if status != "completed":
                kind = "live" if status in LIVE else status
                members.setdefault(f"{function}{SEPARATOR}{kind}", set()).add(run_id)
        stored = {name: int(value) for name, value in self.content.get("counts", {}).items()}
        for name in counts.keys() | stored.keys():
            if counts[name] != stored.get(name, 0):
                yield f"counts: {name!r} is {stored.get(name, 0)}, but there are {counts[name]}"
        listed = {rest: set(found) for rest, found in self.keys("runs") if SEPARATOR in rest}
        for name in members.keys() | listed.keys():
            if members.get(name, set()) != listed.get(name, set()):
                yield f"runs:{name!r} lists {listed.get(name)}, but there are {members.get(name)}"

    def of_outbox(self) -> Iterator[str]:
        """Events that nobody published, though all runs have ended."""
        if not any(self.status(run_id) in LIVE for run_id, _ in self.keys("run")):
            yield from (f"outbox: {uid}" for uid in self.content.get("outbox", ()))
            yield from (f"outbox:events {uid}" for uid in self.content.get("outbox:events", {}))

    def of_lanes(self) -> Iterator[str]:
        """Entries of queues and lanes that have no ready run."""
        for rest, members in self.keys("queue"):
            queue = rest.partition(":")[2]
            for member in members:
                function = member.removesuffix(SEPARATOR)
                if f"{'lanes' if function != member else 'ready'}:{queue}:{function}" not in self.content:
                    yield f"queue:{rest}: {member!r} has nothing ready"
        for pool, lanes in self.keys("lanes"):
            for lane in lanes:
                yield from self.empty_lane(f"lanes:{pool}", pool, lane)
        for limit, places in self.keys("blocked"):
            for place in places:
                queue, function, lane = place.split(SEPARATOR, 2)
                yield from self.empty_lane(f"blocked:{limit}", f"{queue}:{function}", lane)
        for member in self.content.get("timers", ()):
            kind, *parts = member.split(SEPARATOR, 3)
            if kind == "lane":
                yield from self.empty_lane("timers lane", f"{parts[0]}:{parts[1]}", parts[2])
        for limit in self.content.get("blocked", ()):
            if f"blocked:{limit}" not in self.content:
                yield f"blocked: {limit}, for which no lane waits"

    def empty_lane(self, place: str, pool: str, lane: str) -> Iterator[str]:
        """`pool` is the queue and the function."""
        if f"ready:{pool}{SEPARATOR}{lane}" not in self.content:
            yield f"{place}: lane {lane!r} has no ready run"
