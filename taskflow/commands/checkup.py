"""What `taskflow doctor` looks at: the servers, as a deployment needs them, and whether somebody does the work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, TypeAlias

from taskflow.broker.connection import close_connection, new_connection, open_connection
from taskflow.broker.deadline import Deadline
from taskflow.broker.urls import broker_url
from taskflow.commands.options import Target
from taskflow.config import MIB
from taskflow.errors import TaskFlowError
from taskflow.redis.address import NEXT_URL, redact
from taskflow.redis.blocking import RespClient, ServerLost, ServerRefused
from taskflow.redis.connection import CommandError
from taskflow.runs.functions import Registered, find_registered
from taskflow.runs.reasons import SILENT_MS
from taskflow.store.store import Store
from taskflow.triggers import TriggerCron
from taskflow.values.clock import MAX_SILENT_SKEW_MS, SystemClock, machine_clock
from taskflow.values.record import record

Level: TypeAlias = Literal["ok", "warning", "error"]

CONNECT_TIMEOUT_S = 3.0
LOW_MEMORY = 64 * MIB
FULL, NEARLY_FULL = 0.95, 0.8  # of maxmemory
OLDEST = (7, 0)  # of Redis; every Valkey is newer


@record
class Finding:
    """`subject` is what was looked at, `text` what was found, with what to do where that is wrong."""

    subject: str
    level: Level
    text: str


async def examine(target: Target) -> list[Finding]:
    """All that can be found out. A server that does not answer is a finding, too."""
    findings = list(await examine_store(target))
    if target.config.broker != target.config.store:
        findings += examine_broker(target)
    elif findings[0].level == "ok":
        findings.append(Finding("broker", "ok", "is the store's server"))
    return findings


async def examine_store(target: Target) -> list[Finding]:
    config = target.config
    try:
        store = await Store.open(config.store, namespace=config.namespace)
    except TaskFlowError as error:
        return [Finding("store", "error", str(error))]
    try:
        findings = await store_findings(store, redact(config.store))
        clock = SystemClock()
        await store.correct(clock)
        findings.append(clock_finding(clock.now_ms() - machine_clock().local_now_ms()))
        findings += await examine_deployment(store, target, clock.now_ms())
        return findings
    finally:
        await store.close()


async def store_findings(store: Store, where: str) -> list[Finding]:
    try:
        reply: bytes = await store.client.call("INFO")
    except CommandError as refusal:
        return [Finding("store", "warning", f"answers at {where}, but tells this user nothing: {refusal}")]
    return list(server_findings("store", where, read_info(reply.decode(errors="replace"))))


def read_info(text: str) -> dict[str, str]:
    """The facts of an INFO reply by name."""
    pairs = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
    return {name: value.strip() for name, separator, value in pairs if separator}


def server_findings(subject: str, where: str, facts: Mapping[str, str]) -> Iterator[Finding]:
    """What is to be said of a Redis or Valkey that holds what must not be lost."""
    valkey, redis = facts.get("valkey_version"), facts.get("redis_version", "0")
    version = f"Valkey {valkey}" if valkey else f"Redis {redis}"
    is_old = not valkey and tuple(int(part) for part in redis.split(".")[:2] if part.isdigit()) < OLDEST
    yield Finding(
        subject, "error" if is_old else "ok",
        f"{version} at {where}" + ("; Redis 7.0 or Valkey is needed" if is_old else ""),
    )  # fmt: skip
    yield eviction_finding(subject, facts.get("maxmemory_policy", "noeviction"))
    yield memory_finding(subject, int(facts.get("maxmemory", 0)), int(facts.get("used_memory", 0)))
    yield persistence_finding(subject, facts)


def eviction_finding(subject: str, policy: str) -> Finding:
    subject = f"{subject} eviction"
    if policy == "noeviction":
        return Finding(subject, "ok", policy)
    if policy.startswith("allkeys-"):
        return Finding(
            subject, "error",
            f"{policy}: a server that is full removes live runs. Set maxmemory-policy noeviction.",
        )  # fmt: skip
    return Finding(
        subject, "warning",
        f"{policy}: a server that is full forgets which events came before (S1.3). Set maxmemory-policy noeviction.",
    )  # fmt: skip


def memory_finding(subject: str, limit: int, used: int) -> Finding:
    subject = f"{subject} memory"
    if not limit:
        return Finding(subject, "ok", f"{used / MIB:,.0f} MiB used, no maxmemory")
    text = f"{used / MIB:,.0f} of {limit / MIB:,.0f} MiB used"
    if used >= FULL * limit:
        return Finding(
            subject, "error", f"{text}: writes are refused soon. Raise maxmemory, or shorten the retention."
        )
    if used >= NEARLY_FULL * limit:
        return Finding(subject, "warning", f"{text}. Raise maxmemory, or shorten the retention.")
    if limit < LOW_MEMORY:
        return Finding(subject, "warning", f"{text}: maxmemory is low for a store of runs and their history.")
    return Finding(subject, "ok", text)


def persistence_finding(subject: str, facts: Mapping[str, str]) -> Finding:
    subject = f"{subject} persistence"
    if facts.get("aof_enabled") == "1":
        if facts.get("aof_last_write_status", "ok") != "ok":
            return Finding(subject, "error", "the append-only file can't be written: look at the disk")
        return Finding(subject, "ok", "append-only file")
    if facts.get("rdb_last_bgsave_status", "ok") != "ok":
        return Finding(subject, "error", "the last snapshot failed: look at the disk and the server's log")
    return Finding(
        subject, "warning",
        "no append-only file: a crash of the server loses what came after the last snapshot. Set appendonly yes.",
    )  # fmt: skip


def clock_finding(distance_ms: int) -> Finding:
    if abs(distance_ms) <= MAX_SILENT_SKEW_MS:
        return Finding("clock", "ok", f"{abs(distance_ms)} ms from the store's")
    return Finding(
        "clock", "warning",
        f"this machine's clock is {abs(distance_ms) / 1000:.1f} s {'behind' if distance_ms > 0 else 'ahead of'} the store's, "
        "which counts. Check NTP on both.",
    )  # fmt: skip


async def examine_deployment(store: Store, target: Target, now_ms: int) -> list[Finding]:
    heartbeats = await store.history.heartbeats()
    live = [worker for worker, last_ms in heartbeats.items() if now_ms - last_ms <= SILENT_MS]
    registered = await find_registered(store)
    leader = await store.history.leader(now_ms)
    findings = [
        Finding("workers", "ok", f"{len(live)} live") if live
        else Finding("workers", "error", "none is live: start one with taskflow worker -A MODULE:APP"),
        beat_finding(registered, leader),
    ]  # fmt: skip
    findings += app_findings(registered, target.app.id if target.app else None)
    return findings


def beat_finding(registered: Registered, leader: str | None) -> Finding:
    if leader is not None:
        return Finding("beat", "ok", f"{leader} leads")
    crons = [
        spec.id
        for spec in (each.spec for each in registered.functions)
        if any(isinstance(trigger, TriggerCron) for trigger in spec.triggers)
    ]
    waits = (
        f"; the crons of {', '.join(crons[:3])}{' and others' if crons[3:] else ''} do not tick"
        if crons
        else ""
    )
    return Finding(
        "beat", "error",
        f"none leads: sleeps, retries and timeouts do not come due{waits}. Start one: taskflow beat, or worker -B.",
    )  # fmt: skip


def app_findings(registered: Registered, app_id: str | None) -> Iterator[Finding]:
    for problem in registered.problems:
        yield Finding("functions", "warning", problem)
    found = [each.spec.id for each in registered.functions if app_id in (None, each.spec.app_id)]
    if found:
        yield Finding("functions", "ok", f"{len(found)} registered{f' of {app_id}' if app_id else ''}")
    else:
        yield Finding(
            "functions", "error",
            f"no worker has registered a function{f' of {app_id}' if app_id else ''}: its events start nothing",
        )  # fmt: skip


def examine_broker(target: Target) -> list[Finding]:
    """Connect as a producer does. Of a Redis or Valkey more can be told, if the user may ask."""
    url = NEXT_URL.split(target.config.broker)[0]
    where = redact(url)
    if not broker_url(url).startswith("taskflow+"):
        return [examine_other_broker(target.config.broker, where)]
    client = RespClient(url, timeout_s=CONNECT_TIMEOUT_S)
    try:
        client.connect()
        return list(server_findings("broker", where, read_info(client.call("INFO").decode(errors="replace"))))
    except ServerRefused as refusal:
        return [Finding("broker", "warning", f"answers at {where}, but tells this user nothing: {refusal}")]
    except ServerLost as error:
        return [Finding("broker", "error", str(error))]
    finally:
        client.close()


def examine_other_broker(url: str, where: str) -> Finding:
    connection = new_connection(url)
    try:
        open_connection(connection, Deadline(CONNECT_TIMEOUT_S))
        facts = getattr(connection.connection, "server_properties", None) or {}
        name = " ".join(str(facts.get(key, "")) for key in ("product", "version")).strip()
        return Finding("broker", "ok", f"{name or 'answers'} at {where}")
    except Exception as error:
        return Finding("broker", "error", f"{where} can't be reached: {error}")
    finally:
        close_connection(connection, timeout_s=1.0)
