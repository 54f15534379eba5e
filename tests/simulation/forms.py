"""Forms: what the arguments and replies of scripts say, as plain values. The one place that follows the scripts' headers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from tests.simulation.history import Record

EVENT_FIELDS, FUNCTION_FIELDS, OPERATION_FIELDS, END_FIELDS = 5, 8, 9, 7  # how many arguments each takes


@dataclass(frozen=True, slots=True)
class Grant:
    """A child got a run, or an offered step."""

    run: str
    key: str
    child: str
    fence: int


@dataclass(frozen=True, slots=True)
class Write:
    """Something that a child wrote in the name of a claim, and that was not refused."""

    place: int
    script: str
    run: str
    key: str  # of the offered step, or ""
    child: str
    fence: int
    status: str
    memos: tuple[tuple[str, dict[str, Any]], ...]
    ends_claim: str  # how: finished, parked, retried, committed; "" when the claim stays


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event in `route_events`, with the functions that it was to start."""

    place: int
    now_ms: int
    uid: str
    functions: tuple[tuple[str, str, int], ...]  # function, run, when it starts (ms) or 0


def texts(record: Record) -> list[str]:
    return [part.decode(errors="replace") for part in record["argv"]]


def is_answered(record: Record, *names: str) -> bool:
    return record.what == "script" and record["name"] in names and not isinstance(record["reply"], Exception)


def arrivals_in(record: Record) -> Iterator[Arrival]:
    if not is_answered(record, "route_events"):
        return
    argv = texts(record)
    at = 5
    while at < len(argv):
        first, count = at + EVENT_FIELDS, int(argv[at + 4])
        end = first + FUNCTION_FIELDS * count
        functions = tuple(
            (argv[i].partition("/")[2], argv[i + 2], int(argv[i + 3]))
            for i in range(first, end, FUNCTION_FIELDS)
        )
        yield Arrival(record.place, int(argv[0]), argv[at], functions)
        at = end


def grants_in(record: Record) -> Iterator[Grant]:
    if is_answered(record, "route_events"):
        child = texts(record)[1]
        flat = record["reply"][2]
        for i in range(0, len(flat), 2):
            yield Grant(flat[i].decode(), "", child, flat[i + 1])
    elif is_answered(record, "claim_runs"):
        child = texts(record)[1]
        for row in record["reply"][2]:
            yield Grant(row[0].decode(), row[11].decode(), child, row[1])


def handed_back_in(record: Record) -> tuple[str, list[str]] | None:
    """The child, and the jobs that it loses; none: all."""
    if not is_answered(record, "hand_back"):
        return None
    argv = texts(record)
    return argv[1], argv[5:]


def invoked_in(record: Record) -> Iterator[str]:
    """Runs that a parked run starts."""
    if is_answered(record, "park_run") and record["reply"][0] != b"fenced":
        argv = texts(record)
        for i in range(7, 7 + OPERATION_FIELDS * int(argv[6]), OPERATION_FIELDS):
            if argv[i + 4]:
                yield argv[i + 4]


def writes_in(record: Record) -> Iterator[Write]:
    """What was written by claims; nothing for other scripts, and for refusals."""
    if record.what != "script" or isinstance(record["reply"], Exception):
        return
    for write in WRITERS.get(record["name"], no_writes)(record, record["argv"], record["reply"]):
        if write.status != "fenced":
            yield write


def commit_steps(record: Record, raw: Sequence[bytes], reply: Any) -> Iterator[Write]:
    at = 1
    for status in reply[1:]:
        end = at + 4 + 2 * int(raw[at + 3])
        yield make_write(record, raw[0], raw[at], raw[at + 1], status, raw[at + 4 : end])
        at = end


def commit_offered(record: Record, raw: Sequence[bytes], reply: Any) -> Iterator[Write]:
    yield make_write(
        record, raw[1], raw[2], raw[4], reply[0], [raw[3], raw[5]], key=raw[3], ends_claim="committed"
    )


def park_run(record: Record, raw: Sequence[bytes], reply: Any) -> Iterator[Write]:
    pairs = [raw[7 + OPERATION_FIELDS * i + j] for i in range(int(raw[6])) for j in (0, 1)]
    ends_claim = "parked" if reply[0] == b"parked" and raw[4] == b"suspend" else ""
    yield make_write(record, raw[1], raw[2], raw[3], reply[0], pairs, ends_claim=ends_claim)


def retry_run(record: Record, raw: Sequence[bytes], reply: Any) -> Iterator[Write]:
    ends_claim = "retried" if reply[0] == b"ok" else ""
    yield make_write(record, raw[1], raw[2], raw[3], reply[0], (), ends_claim=ends_claim)


def finish_runs(record: Record, raw: Sequence[bytes], reply: Any) -> Iterator[Write]:
    for number, status in enumerate(reply[1:]):
        at = 1 + END_FIELDS * number
        ends_claim = "finished" if status == b"ok" else ""
        yield make_write(record, raw[0], raw[at], raw[at + 1], status, (), ends_claim=ends_claim)


def no_writes(record: Record, raw: Sequence[bytes], reply: Any) -> Iterator[Write]:
    return iter(())


WRITERS = {
    "commit_steps": commit_steps,
    "commit_offered": commit_offered,
    "park_run": park_run,
    "retry_run": retry_run,
    "finish_runs": finish_runs,
}


def make_write(
    record: Record,
    child: bytes,
    run: bytes,
    fence: bytes,
    status: bytes,
    pairs: Sequence[bytes],
    *,
    key: bytes = b"",
    ends_claim: str = "",
) -> Write:
    memos = tuple((pairs[i].decode(), read_memo(pairs[i + 1])) for i in range(0, len(pairs), 2))
    return Write(
        record.place, record["name"], run.decode(), key.decode(), child.decode(), int(fence), status.decode(), memos,
        ends_claim,
    )  # fmt: skip


def read_memo(packed: bytes) -> dict[str, Any]:
    memo: dict[str, Any] = msgpack.unpackb(packed, raw=False, strict_map_key=False)
    return memo
