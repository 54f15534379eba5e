"""What the checker reads: what was sent, what was executed, what the store holds, what was struck."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import orjson
import redis

from chaos.functions import APP_ID
from chaos.producers import Sent
from chaos.strikes import Blow
from taskflow.redis.address import parse_server_url
from taskflow.redis.client import StoreClient
from taskflow.store.keys import Keys
from taskflow.store.records import whole_event
from tests.leaks import find_leaks
from tests.robustness.journal import Line, StoredRun, read_runs

PAGE = 500


@dataclass(frozen=True, slots=True)
class Execution:
    """One call of a step's function. `end_ns` is None when it neither returned nor raised: its process died."""

    token: str
    run_id: str
    step: str
    pid: int
    start_ns: int
    end_ns: int | None
    is_failed: bool


@dataclass(frozen=True)
class Evidence:
    """`events`: the store's record of each accepted event, by uid. `left`: entries of indexes that no live run explains."""

    sent: Sequence[Sent]
    runs: Sequence[StoredRun]
    lines: Sequence[Line]
    events: Mapping[str, Mapping[str, str]]
    blows: Sequence[Blow] = ()
    deployed_ms: int | None = None  # from when on all workers had the newer code
    left: Sequence[str] = field(default_factory=list)

    @cached_property
    def accepted(self) -> list[Sent]:
        return [each for each in self.sent if each.uid]

    @cached_property
    def executions(self) -> list[Execution]:
        """In the order in which they started."""
        ends = {line.token: line for line in self.lines if line.what in ("end", "fail")}
        return [
            Execution(
                line.token, line.run_id, line.step, line.pid, line.at_ns,
                ends[line.token].at_ns if line.token in ends else None,
                is_failed=line.token in ends and ends[line.token].what == "fail",
            )
            for line in sorted(self.lines, key=lambda line: line.at_ns) if line.what == "start"
        ]  # fmt: skip

    @cached_property
    def by_step(self) -> dict[tuple[str, str], list[Execution]]:
        """The executions of each step of each run, in order."""
        found: defaultdict[tuple[str, str], list[Execution]] = defaultdict(list)
        for execution in self.executions:
            found[execution.run_id, execution.step].append(execution)
        return dict(found)

    @cached_property
    def seen(self) -> dict[tuple[str, str], set[str]]:
        """The tokens that handlers got from each step."""
        found: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        for line in self.lines:
            if line.what == "seen":
                found[line.run_id, line.step].add(line.token)
        return dict(found)

    @cached_property
    def repeats(self) -> int:
        """Executions of a step that had been begun before and not failed."""
        return sum(
            len([each for each in executions if not each.is_failed]) - 1
            for executions in self.by_step.values()
            if any(not each.is_failed for each in executions)
        )

    @cached_property
    def statuses(self) -> Counter[str]:
        return Counter(run.status for run in self.runs)


def function_of(run: StoredRun) -> str:
    """Its name without the app."""
    return run.function.removeprefix(f"{APP_ID}/")


def event_of(run: StoredRun) -> dict[str, Any]:
    return cast(dict[str, Any], orjson.loads(run.fields.get("event", b"{}")))


def number_of(run: StoredRun) -> int | None:
    """The number that the producer gave the run's event."""
    return cast(int | None, event_of(run).get("data", {}).get("n"))


def read_all_runs(client: redis.Redis, keys: Keys, ids: Sequence[str]) -> list[StoredRun]:
    pages = [ids[at : at + PAGE] for at in range(0, len(ids), PAGE)]
    return [run for page in pages for run in read_runs(client, keys, page)]


def read_events(client: redis.Redis, keys: Keys, uids: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for at in range(0, len(uids), PAGE):
        page = uids[at : at + PAGE]
        pipeline = client.pipeline(transaction=False)
        for uid in page:
            pipeline.hgetall(keys.event(uid))
        for uid, fields in zip(page, pipeline.execute(), strict=True):
            whole = whole_event(uid, {name.decode(): value for name, value in fields.items()})
            found[uid] = {name: value.decode(errors="replace") for name, value in whole.items()}
    return found


def read_leaks(url: str, prefix: str) -> list[str]:
    async def read() -> list[str]:
        client = StoreClient(parse_server_url(url, what="store"))
        await client.connect()
        try:
            return await find_leaks(client, prefix)
        finally:
            await client.close()

    return asyncio.run(read())
