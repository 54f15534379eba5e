"""Finds the server to talk to: the one of the URL, the master that sentinels name, or the owner of a cluster's slot. Rule S9.5.

A client asks before each connection, and so after each loss. It gives its connection up when a reply says that this server can't
serve (`refusals`). All keys of a store or a broker carry one hash tag, so one connection, to the owner of that slot, is enough,
and scripts may use any keys.

redis-py asks the sentinels and nodes. It is imported only for addresses that need it; its speed does not matter, as a failover
takes seconds.

While a slot moves to another node, ASK replies are not followed. MIGRATE moves keys one by one, and a script that ran at the
target, or went on at the source, would find some of them missing. The key that every script declares (`home_key`) is never set, so
a node that gives a slot away refuses each script as a whole, before it does anything. The clients wait until the slot has arrived:
a moment without store, as in a failover.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from taskflow.errors import ConfigError
from taskflow.redis.address import WORDS, Node, ServerAddress, cert_reqs, join_node

if TYPE_CHECKING:
    import redis

HOME_KEY = "tf:{0}:"
ASK_TIMEOUT_S = 0.5  # for one sentinel or node; then the next is asked

CHECK_EVERY_S = 1.0
"""How often the sentinels are asked whether the master is still the same.

After SENTINEL FAILOVER the former master takes writes for another ten seconds, all of which are lost when it becomes a replica.
"""

HASH_TAG = re.compile(r"\{[^}]+\}")

PASSING: tuple[str, ...] = (
    "READONLY",  # a replica: it was the master, or is not yet
    "UNBLOCKED force",  # it has just become a replica
    "LOADING",
    "MASTERDOWN",
    "NOREPLICAS",
    "MISCONF",  # it can't write to its disk
    "BUSY ",  # with somebody's script
    "UNKILLABLE",
)
"""Beginnings of the replies of a server that can't serve now and has done nothing: the command succeeds later, or elsewhere."""

PASSING_IN_CLUSTER = (*PASSING, "MOVED ", "ASK ", "TRYAGAIN", "CLUSTERDOWN")


class Topology:
    """Finds the one server that the URL names. The base of the classes that have to ask for it."""

    refusals = PASSING
    # Whether the server may be replaced without a sign of it, so that `is_current` has to be asked now and then.
    may_change_in_silence = False

    def __init__(self, address: ServerAddress, home_key: str = HOME_KEY) -> None:
        self.address = address
        self.home_key = home_key
        # Whether a new connection has to be probed first: does its server take writes?
        self.in_doubt = False

    def locate(self, timeout_s: float) -> ServerAddress:
        """The server to connect to. Blocks. Raises OSError when it can't be found."""
        return self.address

    async def find(self, timeout_s: float) -> ServerAddress:
        """As `locate`, for coroutines."""
        return self.address

    def is_current(self) -> bool:
        """Whether the server that `locate` found last is still the right one, as far as is known. Blocks."""
        return True

    def heed(self, refusal: str) -> None:
        """Note a refusal: a server said that it can't serve now."""
        self.in_doubt = True

    @property
    def probe(self) -> list[tuple[str, ...]]:
        """Commands without effect that only succeed at a server that takes our writes; none when there is no doubt."""
        return [("DEL", self.home_key)] if self.in_doubt else []

    def close(self) -> None:
        """Close the connections to sentinels and nodes; the next question opens them again."""


class AskingTopology(Topology):
    """A topology that asks sentinels, or the nodes of a cluster. Coroutines ask in a thread."""

    def __init__(self, address: ServerAddress, home_key: str = HOME_KEY) -> None:
        super().__init__(address, home_key)
        # Always, since what sentinels and nodes say may be old.
        self.in_doubt = True
        self.nodes = deque(address.nodes)  # the first is asked next
        self.clients: dict[Node, redis.Redis] = {}
        # A thread that asks in vain may still be asking when the next one begins.
        self.lock = threading.Lock()

    async def find(self, timeout_s: float) -> ServerAddress:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, self.locate, timeout_s)

    def locate(self, timeout_s: float) -> ServerAddress:
        give_up_s = time.monotonic() + timeout_s
        troubles = []
        with self.lock:
            for node in tuple(self.nodes):
                if time.monotonic() >= give_up_s:
                    break
                try:
                    host, port = self.server_as_seen_by(node)
                except OSError as error:
                    troubles.append(f"{join_node(node)}: {error}")
                    # The node is asked last from now on, or each question would wait for it.
                    self.nodes.remove(node)
                    self.nodes.append(node)
                else:
                    return self.address.at(host, port)
        raise ConnectionError("; ".join(troubles) or "no time was left to ask where it is")

    def server_as_seen_by(self, node: Node) -> Node:
        """Ask the node for the server. Raises OSError when it does not know, or gives no answer."""
        raise NotImplementedError

    def ask(self, node: Node, *command: str) -> Any:
        """The reply of a sentinel or node. Raises OSError."""
        from redis import Redis

        if node not in self.clients:
            self.clients[node] = Redis(*node, **self.login())
        try:
            return self.clients[node].execute_command(*command)  # type: ignore[no-untyped-call]
        except Exception as error:  # whatever the library raises: a client that waits must not end by it
            raise ConnectionError(str(error)) from error

    def login(self) -> dict[str, Any]:
        """The arguments with which redis-py logs in."""
        return login_options(self.address, self.address.username, self.address.password)

    def close(self) -> None:
        with self.lock:
            for client in self.clients.values():
                client.close()


class SentinelTopology(AskingTopology):
    """Finds the master of the URL's name: asks the sentinels."""

    may_change_in_silence = True
    found: Node | None = None

    def server_as_seen_by(self, node: Node) -> Node:
        # Not `Sentinel.discover_master`: during a failover that names the former master until the end.
        named = self.ask(node, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.address.master)
        if not named:
            raise ConnectionError(f"this sentinel knows no master {self.address.master!r}")
        self.found = (named[0], int(named[1]))
        return self.found

    def is_current(self) -> bool:
        before = self.found
        try:
            self.locate(ASK_TIMEOUT_S)
        except OSError:
            return True
        return before in (None, self.found)

    def login(self) -> dict[str, Any]:
        options = self.address.options
        login = login_options(
            self.address, options.get("sentinel_username"), options.get("sentinel_password")
        )
        is_tls = WORDS[options.get("sentinel_ssl", "true").lower()]
        return (
            login if is_tls else {name: value for name, value in login.items() if not name.startswith("ssl")}
        )


class ClusterTopology(AskingTopology):
    """Finds the owner of the slot in which all keys lie: asks the nodes of the cluster."""

    refusals = PASSING_IN_CLUSTER
    told: Node | None = None  # the owner that a MOVED reply named; it is used once

    def __init__(self, address: ServerAddress, home_key: str = HOME_KEY) -> None:
        super().__init__(address, home_key)
        if not HASH_TAG.search(home_key):
            raise ConfigError(
                f"the keys begin with {home_key!r}, so a cluster would spread them over its servers; "
                "give them a hash tag, as in key_prefix={tf}:"
            )

    def heed(self, refusal: str) -> None:
        """Note the owner that `MOVED 13907 host:port` names. Without a host in it, the nodes are asked, which know that host."""
        words = refusal.split()
        if words[0] == "MOVED" and len(words) > 2:
            host, _, port = words[2].rpartition(":")
            self.told = (host, int(port)) if host and port.isdecimal() else None

    def locate(self, timeout_s: float) -> ServerAddress:
        told, self.told = self.told, None
        return super().locate(timeout_s) if told is None else self.address.at(*told)

    def server_as_seen_by(self, node: Node) -> Node:
        from redis.crc import key_slot

        slot = key_slot(self.home_key.encode())
        # [first, last, [host, port, ...] of the owner, [host, port, ...] of a replica, ...]
        ranges = self.ask(node, "CLUSTER", "SLOTS")
        self.learn(node, ranges)
        for first, last, owner, *_ in ranges:
            if first <= slot <= last:
                return place_of(owner, node)
        raise ConnectionError(f"this node knows no owner of slot {slot}")

    def learn(self, asked: Node, ranges: list[Any]) -> None:
        """Add the cluster's present nodes to those that are asked: the nodes of the URL may be gone one day."""
        found = [place_of(server, asked) for _, _, *servers in ranges for server in servers]
        known = dict.fromkeys([*self.nodes, *found])
        # The node that answered goes last, so that another one is asked next: this one may be cut off from the cluster.
        kept = [node for node in known if node != asked and (node in found or node in self.address.nodes)]
        self.nodes = deque([*kept, asked])
        for node in [node for node in self.clients if node not in self.nodes]:
            self.clients.pop(node).close()


def place_of(server: list[Any], asked: Node) -> Node:
    """Host and port of a server in the reply of node `asked`; a node that does not know its own host leaves it out."""
    host, port = server[0], server[1]
    return (asked[0] if host in (None, "", "?") else host), int(port)


def login_options(address: ServerAddress, username: str | None, password: str | None) -> dict[str, Any]:
    """Arguments for redis-py: login, TLS and time limits, and no retries of its own, which would take seconds."""
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    options: dict[str, Any] = {
        "username": username, "password": password, "protocol": 2, "retry": Retry(NoBackoff(), 0), "decode_responses": True,
        "socket_timeout": ASK_TIMEOUT_S, "socket_connect_timeout": ASK_TIMEOUT_S,
    }  # fmt: skip
    if address.tls is None:
        return options
    names = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password")
    files = {name: address.options[name] for name in names if name in address.options}
    verify = {"ssl_cert_reqs": cert_reqs(address.options), "ssl_check_hostname": address.tls.check_hostname}
    return options | files | verify | {"ssl": True}


def topology_of(address: ServerAddress, *, home_key: str = HOME_KEY) -> Topology:
    """The topology of an address. `home_key` has the hash tag of all keys that are used there, and is never set."""
    kinds = {"sentinel": SentinelTopology, "cluster": ClusterTopology}
    return kinds.get(address.kind, Topology)(address, home_key)
