"""Forms: what the arguments and replies of scripts say, as plain values. The one place that follows the scripts' headers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from taskflow.redis.scripts import load_scripts
from taskflow.redis.signature import Parameter
from taskflow.store.claimed import FRESH_FIELDS, STEP_FIELDS
from taskflow.store.store import PACKAGE
from tests.simulation.history import Record

SIGNATURES = {name: script.signature for name, script in load_scripts(PACKAGE).items()}


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


Row = dict[str, Any]
"""Arguments by name: bytes, and lists of bytes or of rows."""


def arguments_of(record: Record) -> Row:
    """The arguments of a script by the names in its header."""
    argv: Sequence[bytes] = record["argv"]
    row: Row = {}
    at = 0
    parameters = SIGNATURES[record["name"]].parameters
    for parameter in parameters:
        if parameter.kind != "list":
            row[parameter.name], at = argv[at], at + 1
        elif parameter is parameters[-1]:
            items = row[parameter.name] = []
            while at < len(argv):
                item, at = read_item(parameter, argv, at)
                items.append(item)
        else:
            row[parameter.name], at = read_counted(parameter, argv, at)
    return row


def read_item(parameter: Parameter, argv: Sequence[bytes], at: int) -> tuple[Any, int]:
    """One item of a list, and where the next one begins."""
    if not parameter.fields:
        return argv[at], at + 1
    row: Row = {}
    for field in parameter.scalars:
        row[field.name], at = argv[at], at + 1
    if parameter.nested is not None:
        row[parameter.nested.name], at = read_counted(parameter.nested, argv, at)
    return row, at


def read_counted(parameter: Parameter, argv: Sequence[bytes], at: int) -> tuple[list[Any], int]:
    count, at = int(argv[at]), at + 1
    items = []
    for _ in range(count):
        item, at = read_item(parameter, argv, at)
        items.append(item)
    return items, at


def is_answered(record: Record, *names: str) -> bool:
    return record.what == "script" and record["name"] in names and not isinstance(record["reply"], Exception)


def is_routed(record: Record) -> bool:
    """Whether events were routed; not: the child had planned by functions that count no more."""
    return is_answered(record, "route_events") and len(record["reply"]) > 1


def arrivals_in(record: Record) -> Iterator[Arrival]:
    if not is_routed(record):
        return
    row = arguments_of(record)
    for event in row["events"]:
        functions = tuple(
            (
                run["function_id"].decode().partition("/")[2],
                run["run_id"].decode(),
                int(run["start_at_ms"]),
            )
            for run in event["runs"]
        )
        yield Arrival(record.place, int(row["now_ms"]), event["uid"].decode(), functions)


def starting_time_in(record: Record) -> Iterator[tuple[int, int]]:
    """Place, and the time (ms) that a script was told which starts runs that are due by then."""
    if is_answered(record, "route_events", "fire_timers"):
        yield record.place, int(arguments_of(record)["now_ms"])


def grants_in(record: Record) -> Iterator[Grant]:
    if is_routed(record):
        child = arguments_of(record)["child_id"].decode()
        flat = record["reply"][2]
        for i in range(0, len(flat), 2):
            yield Grant(flat[i].decode(), "", child, flat[i + 1])
    elif is_answered(record, "claim_runs"):
        child = arguments_of(record)["child_id"].decode()
        for row in record["reply"][2]:
            if len(row) == FRESH_FIELDS:
                yield Grant(row[0].decode(), "", child, 1)
            elif len(row) == STEP_FIELDS:
                yield Grant(row[0].decode(), row[1].decode(), child, row[2])
            else:
                yield Grant(row[0].decode(), row[11].decode(), child, row[1])


def sent_to_in(record: Record) -> Iterator[tuple[str, str]]:
    """A run that somebody has started by hand or made anew, with the queue that it is for."""
    if is_answered(record, "start_run", "rerun_run"):
        row = arguments_of(record)
        run_id: bytes = row["new_id" if record["name"] == "rerun_run" else "run_id"]
        yield run_id.decode(), row["queue"].decode()
    elif is_answered(record, "start_calls"):
        row = arguments_of(record)
        for call in row["calls"]:
            yield call["run_id"].decode(), row["queue"].decode()


def taken_from_in(record: Record) -> Iterator[tuple[str, str]]:
    """Runs that a child found in a queue, each with that queue."""
    if is_answered(record, "claim_runs"):
        queue = arguments_of(record)["queue"].decode()
        for row in record["reply"][2]:
            yield row[0].decode(), queue


def queue_steered_in(record: Record) -> Iterator[tuple[str, bool]]:
    """A queue, and whether it is paused from here on."""
    if is_answered(record, "pause_queue", "resume_queue"):
        yield arguments_of(record)["queue"].decode(), record["name"] == "pause_queue"


def suspended_in(record: Record) -> str:
    """The run that is suspended, or ""."""
    if not is_answered(record, "park_run") or record["reply"][0] != b"parked":
        return ""
    row = arguments_of(record)
    return row["run_id"].decode() if row["suspends"] else ""


def handed_back_in(record: Record) -> tuple[str, list[str]] | None:
    """The child, and the jobs that it loses; none: all."""
    if not is_answered(record, "hand_back"):
        return None
    row = arguments_of(record)
    return row["child_id"].decode(), [job.decode() for job in row["jobs"]]


def invoked_in(record: Record) -> Iterator[str]:
    """Runs that a parked run starts."""
    if is_answered(record, "park_run") and record["reply"][0] != b"fenced":
        for operation in arguments_of(record)["operations"]:
            for child in operation["children"]:
                yield child["run_id"].decode()


def writes_in(record: Record) -> Iterator[Write]:
    """What was written by claims; nothing for other scripts, and for refusals."""
    if record.what != "script" or isinstance(record["reply"], Exception) or record["name"] not in WRITERS:
        return
    for write in WRITERS[record["name"]](record, arguments_of(record), record["reply"]):
        if write.status != "fenced":
            yield write


def commit_steps(record: Record, row: Row, reply: Any) -> Iterator[Write]:
    for commit, status in zip(row["commits"], reply[1:], strict=True):
        memos = [(memo["step_key"], memo["memo"]) for memo in commit["memos"]]
        yield make_write(record, row, commit, status, memos)


def commit_offered(record: Record, row: Row, reply: Any) -> Iterator[Write]:
    memos = [(row["step_key"], row["memo"])]
    yield make_write(record, row, row, reply[0], memos, key=row["step_key"], ends_claim="committed")


def park_run(record: Record, row: Row, reply: Any) -> Iterator[Write]:
    memos = [(operation["step_key"], operation["packed"]) for operation in row["operations"]]
    ends_claim = "parked" if reply[0] == b"parked" and row["suspends"] else ""
    yield make_write(record, row, row, reply[0], memos, ends_claim=ends_claim)


def retry_run(record: Record, row: Row, reply: Any) -> Iterator[Write]:
    ends_claim = "retried" if reply[0] == b"ok" else ""
    yield make_write(record, row, row, reply[0], (), ends_claim=ends_claim)


def finish_runs(record: Record, row: Row, reply: Any) -> Iterator[Write]:
    for end, status in zip(row["ends"], reply[1:], strict=True):
        ends_claim = "finished" if status == b"ok" else ""
        yield make_write(record, row, end, status, (), ends_claim=ends_claim)


def refuse_events(record: Record, row: Row, reply: Any) -> Iterator[Write]:
    ends_claim = "finished" if reply[0] == b"ok" and row["ends"] else ""
    yield make_write(record, row, row, reply[0], (), ends_claim=ends_claim)


WRITERS = {
    "refuse_events": refuse_events,
    "commit_steps": commit_steps,
    "commit_offered": commit_offered,
    "park_run": park_run,
    "retry_run": retry_run,
    "finish_runs": finish_runs,
}


def make_write(
    record: Record,
    row: Row,
    claim: Row,
    status: bytes,
    memos: Sequence[tuple[bytes, bytes]],
    *,
    key: bytes = b"",
    ends_claim: str = "",
) -> Write:
    """`claim` is the row with the run and the fence."""
    return Write(
        record.place, record["name"], claim["run_id"].decode(), key.decode(), row["child_id"].decode(), int(claim["fence"]),
        status.decode(), tuple((step_key.decode(), read_memo(memo)) for step_key, memo in memos), ends_claim,
    )  # fmt: skip


def read_memo(packed: bytes) -> dict[str, Any]:
    memo = msgpack.unpackb(packed, raw=False, strict_map_key=False)
    if isinstance(memo, list):  # the small form of a step that is done
        index, order, data, started, took, worker = memo
        return {
            "kind": "step",
            "state": "done",
            "index": index,
            "order": order,
            "data": data,
            "started": started,
            "ended": started + took,
            "worker": worker,
        }
    assert isinstance(memo, dict)
    return memo
