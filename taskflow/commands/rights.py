"""The least that each kind of process may do on the servers: rules for a Redis or Valkey (ACL) and for RabbitMQ.

    producer   sends events, and never reads: the broker alone
    web        sends, invokes, reads, cancels, signals, pauses: whatever the app object and the command line can do
    worker     executes functions
    beat       keeps the time
    dashboard  only reads; it never touches the broker

Under sentinels each process has a second login, with which it asks them for the master.

A script may only do what its caller may, so the commands of a role are those of its scripts, taken from their text, and those that
it gives itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache

from taskflow.broker.streams.bindings import StreamKeys
from taskflow.broker.topology import Topology
from taskflow.broker.urls import broker_url
from taskflow.config import Config
from taskflow.redis.address import NEXT_URL, ServerAddress, parse_server_url, redact
from taskflow.redis.scripts import load_scripts
from taskflow.store.keys import Keys
from taskflow.store.store import PACKAGE as STORE
from taskflow.values.record import record

ROLES = ("producer", "web", "worker", "beat", "dashboard")

STREAMS = "taskflow.broker.streams"
COMMAND = re.compile(r"(?:redis\.p?call|on_pages|on_keys)\('([A-Z]+)'(?:, '([A-Z]+)')?|\{'(XCLAIM)'")
WITH_SUBCOMMAND = ("XGROUP", "XINFO")

CONNECT = ("client|id", "eval", "evalsha", "ping", "script|load", "select")
READ = (
    "exists", "get", "hget", "hgetall", "hkeys", "hmget", "info", "scard", "smembers", "subscribe", "time", "unsubscribe", "xrange",
    "xlen", "xrevrange", "zcard", "zcount", "zrange", "zrangebyscore", "zrank", "zrevrangebyscore",
)  # fmt: skip
DECLARE_AND_SEND = ("get", "hgetall", "hsetnx", "sadd", "smembers", "xadd", "xdel", "xgroup|create")
CONSUME = ("client|unblock", "del", "set", "xack", "xdel", "xpending", "xreadgroup")

CONTROL = (
    "cancel_runs", "check_version", "clear_outbox", "create_bulk", "create_key", "keep_request", "keep_webhook", "note_key_use",
    "pause_function", "pause_queue", "publish_message", "rerun_run", "resume_function", "resume_queue", "revoke_key", "send_signal",
    "settle_webhook", "spend_key_rate", "start_run", "stop_bulk", "watch_run",
)  # fmt: skip
DUTIES = (
    "abdicate", "advance_bulk", "check_version", "clear_outbox", "find_lost", "fire_cron", "fire_timers", "forget_worker", "lead",
    "rerun_run", "trim_history",
)  # fmt: skip
ONLY_DUTIES = frozenset(DUTIES) - {"check_version", "clear_outbox", "forget_worker", "rerun_run"}


@record
class Rights:
    """What a user may do on one Redis or Valkey. `keys` and `channels` are patterns as ACL rules write them."""

    commands: frozenset[str]
    keys: tuple[str, ...]
    channels: tuple[str, ...] = ()

    @property
    def rules(self) -> list[str]:
        return [*self.keys, *self.channels, *(f"+{command}" for command in sorted(self.commands))]


@cache
def commands_of(package: str, names: tuple[str, ...] = ()) -> frozenset[str]:
    """The commands that these scripts of the package give; all of them when none is named."""
    found: set[str] = set()
    scripts = load_scripts(package)
    for script in (scripts[name] for name in names or scripts):
        for command, subcommand, claim in COMMAND.findall(script.source):
            word = (command or claim).lower()
            found.add(f"{word}|{subcommand.lower()}" if command in WITH_SUBCOMMAND else word)
    return frozenset(found)


def store_rights(role: str, namespace: str) -> Rights | None:
    """What the role may do on the store; None if it never touches it."""
    prefix = Keys(namespace).prefix
    connect = {*CONNECT, *READ}
    everything = (f"~{prefix}*",)
    channels = (f"&{prefix}*",)
    if role == "web":
        # xadd: of the audit list. sadd: which reruns need blobs.
        return Rights(
            frozenset(connect | commands_of(STORE, CONTROL) | {"sadd", "xadd"}), everything, channels
        )
    if role == "worker":
        scripts = tuple(name for name in load_scripts(STORE) if name not in ONLY_DUTIES)
        return Rights(
            frozenset(connect | commands_of(STORE, scripts) | {"hsetnx", "sadd", "zadd"}),
            everything,
            channels,
        )
    if role == "beat":
        return Rights(
            frozenset(connect | commands_of(STORE, DUTIES) | {"blpop", "del", "zadd", "zrem"}),
            everything,
            channels,
        )
    if role == "dashboard":
        # The key that every script declares holds nothing; version and secret are set by who comes first.
        keys = (f"%R~{prefix}*", f"~{prefix}", f"~{prefix}version", f"~{prefix}secret")
        return Rights(
            frozenset(connect | commands_of(STORE, ("check_version",))), keys, (f"&{prefix}done:*",)
        )
    return None


def streams_rights(role: str, topology: Topology, key_prefix: str) -> Rights | None:
    """What the role may do where the broker is a Redis or Valkey; None if it never touches it."""
    keys = StreamKeys(key_prefix)
    send = {*CONNECT, *DECLARE_AND_SEND, *commands_of(STREAMS, ("change",))}
    names = tuple(f"~{key}" for key in (keys.version, keys.exchanges, keys.queues, keys.bindings))
    events, work = (
        f"%W~{keys.stream(name)}.*" for name in (topology.events_exchange, topology.work_exchange)
    )
    if role == "producer":
        return Rights(frozenset(send), (*names, events))
    if role in ("web", "beat"):
        return Rights(frozenset(send), (*names, events, work))
    if role == "worker":
        return Rights(frozenset({*send, *CONSUME, *commands_of(STREAMS)}), (f"~{key_prefix}*",))
    return None


def rabbitmq_rights(role: str, topology: Topology) -> tuple[str, str, str] | None:
    """Regexes of what the role may configure, write and read; None if it never touches the broker."""
    events, work = re.escape(topology.events_exchange), re.escape(topology.work_exchange)
    # Binding a queue reads its exchange and writes the queue; publishing writes the exchange; consuming reads the queue.
    if role == "producer":
        return f"^{events}(\\..*)?$", f"^{events}(\\..*)?$", f"^{events}$"
    both = f"({events}|{work})"
    if role in ("web", "beat"):
        return f"^{both}(\\..*)?$", f"^{both}(\\..*)?$", f"^{both}$"
    if role == "worker":
        return f"^{both}(\\..*)?$", f"^{both}(\\..*)?$", f"^{both}(\\..*)?$"
    return None


def acl_rules(parts: Iterable[Rights]) -> list[str]:
    """The rules of ACL SETUSER behind the name and the password. Each part holds for itself, so none widens another."""
    first, *others = parts
    return [*first.rules, *(f"({' '.join(part.rules)})" for part in others)]


def user_of(role: str, namespace: str) -> str:
    return f"{namespace}-{role}"


def acl_line(role: str, namespace: str, parts: Sequence[Rights]) -> str:
    """A line for redis-cli or valkey-cli."""
    words = [f'"{word}"' if " " in word or "{" in word else word for word in acl_rules(parts)]
    return " ".join(["ACL SETUSER", user_of(role, namespace), "reset on >PASSWORD", *words])


def rabbitmq_line(role: str, namespace: str, regexes: tuple[str, str, str]) -> str:
    quoted = " ".join(f"'{regex}'" for regex in regexes)
    return f"rabbitmqctl set_permissions -p VHOST {user_of(role, namespace)} {quoted}"


@record
class Line:
    """A command that gives a role its rights on a server."""

    role: str
    server: str
    command: str


def lines_for(role: str, config: Config) -> list[Line]:
    """What gives the role its rights on the servers of these settings. One of another kind gets no line."""
    namespace, topology = config.namespace, Topology(config.namespace)
    url, store = NEXT_URL.split(config.broker)[0], parse_server_url(config.store, what="store")
    on_store = with_connecting(store_rights(role, namespace), store, Keys(namespace).prefix)
    lines = []
    if not broker_url(url).startswith("taskflow+"):
        if on_store:
            lines.append(Line(role, redact(config.store), acl_line(role, namespace, on_store)))
        regexes = rabbitmq_rights(role, topology)
        if regexes and url.startswith("amqp"):
            lines.append(Line(role, redact(url), rabbitmq_line(role, namespace, regexes)))
        return lines
    broker = parse_server_url(url, what="broker")
    prefix = broker.options.get("key_prefix", topology.key_prefix)
    on_broker = with_connecting(streams_rights(role, topology, prefix), broker, prefix)
    if place_of(broker) == place_of(store):
        return [Line(role, redact(config.store), acl_line(role, namespace, [*on_store, *on_broker]))]
    for server, parts in ((config.store, on_store), (url, on_broker)):
        if parts:
            lines.append(Line(role, redact(server), acl_line(role, namespace, parts)))
    return lines


def with_connecting(rights: Rights | None, address: ServerAddress, home_key: str) -> list[Rights]:
    """The rights with those of finding the right server: who has the slot in a cluster, and whether a server takes writes."""
    if rights is None:
        return []
    if address.kind == "cluster":
        rights = replace(rights, commands=rights.commands | {"cluster|slots"})
    # The probe deletes a key that is never set. Those who may not delete anything get that right for this key alone.
    probe = Rights(frozenset({"del"}), (f"~{home_key}",))
    return [rights] if "del" in rights.commands else [rights, probe]


def place_of(address: ServerAddress) -> tuple[object, ...]:
    return (address.host, address.port, address.path, address.nodes)


def sentinel_lines(config: Config) -> list[Line]:
    """What gives all roles the right to ask the sentinels of these settings, under one login, for the master."""
    urls = {config.store, *(url for url in NEXT_URL.split(config.broker) if "+sentinel" in url)}
    addresses = [(url, parse_server_url(url, what="server")) for url in sorted(urls)]
    command = acl_line(
        "sentinel", config.namespace, [Rights(frozenset({"sentinel|get-master-addr-by-name"}), ())]
    )
    return [
        Line("sentinel", redact(url), command) for url, address in addresses if address.kind == "sentinel"
    ]
