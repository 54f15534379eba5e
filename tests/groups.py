"""Servers that belong together: a master with replicas and sentinels, and a cluster.

    with SentinelGroup() as group:     # one master, two replicas, three sentinels
        group.url; group.kill_master(); group.fail_over(); group.master()
    with ClusterGroup() as group:      # three masters, three replicas
        group.url; group.owner(slot); group.fail_over(); group.begin_move(...)

All want a password, as such servers do. Their time-outs are small, as a user's are who wants to go on within seconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.processes import wait_until
from tests.servers import RedisServer, RespServer, Server, free_port

PASSWORD = "s3rver"
SENTINEL_PASSWORD = "s3ntinel"
MASTER_NAME = "main"
DOWN_AFTER_MS = 1_000
NODE_TIMEOUT_MS = 1_500
SLOTS = 16_384
READY_S = 30.0


class SentinelServer(RedisServer):
    """A sentinel that watches one master; it finds the replicas and the other sentinels by itself."""

    def __init__(self, master: Server) -> None:
        super().__init__()
        self.master = master

    def command(self) -> Sequence[str]:
        config = self.folder / "sentinel.conf"
        if not config.exists():  # else a restart, and the sentinel has written there what it knows
            config.write_text(
                f"port {self.port}\nbind 127.0.0.1\nrequirepass {SENTINEL_PASSWORD}\nsentinel sentinel-pass {SENTINEL_PASSWORD}\n"
                f"sentinel monitor {MASTER_NAME} 127.0.0.1 {self.master.port} 2\n"
                f"sentinel auth-pass {MASTER_NAME} {PASSWORD}\n"
                f"sentinel down-after-milliseconds {MASTER_NAME} {DOWN_AFTER_MS}\n"
                f"sentinel failover-timeout {MASTER_NAME} 5000\nsentinel parallel-syncs {MASTER_NAME} 2\n"
            )
        return [self.binary(), str(config), "--sentinel"]


class Group:
    """Starts and stops its servers; a client for each."""

    def __init__(self) -> None:
        self.servers: list[RespServer] = []
        self._clients: dict[int, redis.Redis] = {}

    @property
    def url(self) -> str:
        raise NotImplementedError

    def start(self) -> Self:
        raise NotImplementedError

    def client(self, server: Server) -> redis.Redis:
        if server.port not in self._clients:
            password = SENTINEL_PASSWORD if isinstance(server, SentinelServer) else PASSWORD
            self._clients[server.port] = redis.Redis(
                "127.0.0.1",
                server.port,
                password=password,
                protocol=2,
                socket_timeout=5,
                retry=Retry(NoBackoff(), 0),
            )
        return self._clients[server.port]

    def ask(self, server: Server, *command: Any) -> Any:
        """The raw reply, with bytes as text."""
        return as_text(self.client(server).execute_command(*command))  # type: ignore[no-untyped-call]

    def info(self, server: Server) -> dict[str, Any]:
        facts: Any = self.client(server).info("replication")
        return dict(facts)

    def at(self, port: int) -> RespServer:
        return next(server for server in self.servers if server.port == port)

    def stop(self) -> None:
        for client in self._clients.values():
            client.close()
        for server in self.servers:
            server.stop()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class SentinelGroup(Group):
    """One master, two replicas, three sentinels, of Debian's Redis."""

    def __init__(self) -> None:
        super().__init__()
        self.sentinels: list[SentinelServer] = []

    @property
    def url(self) -> str:
        nodes = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://:{PASSWORD}@{nodes}/{MASTER_NAME}/0?sentinel_password={SENTINEL_PASSWORD}"

    def start(self) -> Self:
        login = ("--requirepass", PASSWORD, "--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0")
        master = RedisServer(args=login).start()
        self.servers.append(master)
        for _ in range(2):
            replica_of = ("--replicaof", f"127.0.0.1 {master.port}")
            self.servers.append(RedisServer(args=(*login, *replica_of)).start())
        for _ in range(3):
            self.sentinels.append(SentinelServer(master).start())
        self.wait_until_whole()
        return self

    def stop(self) -> None:
        super().stop()
        for sentinel in self.sentinels:
            sentinel.stop()

    def master(self) -> RespServer:
        """The master as the first sentinel knows it."""
        _, port = self.ask(self.sentinels[0], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME)
        return self.at(int(port))

    def wait_until_whole(self) -> None:
        """Until every sentinel knows the others and two live replicas, and the replicas are in step."""

        def is_whole() -> bool:
            for sentinel in self.sentinels:
                if len(self.ask(sentinel, "SENTINEL", "SENTINELS", MASTER_NAME)) < 2:
                    return False
                replicas = self.ask(sentinel, "SENTINEL", "REPLICAS", MASTER_NAME)
                facts = [dict(zip(each[::2], each[1::2], strict=True)) for each in replicas]
                if [each["flags"] for each in facts] != ["slave", "slave"]:
                    return False
                if any(each["master-link-status"] != "ok" for each in facts):
                    return False
            return True

        wait_until(is_whole, what="a master with two replicas and three sentinels", deadline_s=READY_S)

    def kill_master(self) -> RespServer:
        """SIGKILL; returns the server that was the master. `restart` makes it a replica of its heir."""
        master = self.master()
        master.kill()
        return master

    def wait_for_heir(self, former: RespServer) -> RespServer:
        """Until another server is the master, by its own word and that of the first sentinel."""
        wait_until(
            lambda: self.master() is not former and self.info(self.master())["role"] == "master",
            what="another master",
            deadline_s=READY_S,
        )
        return self.master()

    def fail_over(self, *, pause_ms: int = 0) -> RespServer:
        """As an administrator does it, one who has the master take no writes meanwhile perhaps; returns the former master."""
        master = self.master()
        if pause_ms:
            self.ask(master, "CLIENT", "PAUSE", pause_ms, "WRITE")

        def is_begun() -> bool:
            try:
                self.ask(self.sentinels[0], "SENTINEL", "FAILOVER", MASTER_NAME)
            except redis.ResponseError as error:  # the one before is not over, or no replica is in step
                assert str(error).startswith(("INPROG", "NOGOODSLAVE")), error
                return False
            return True

        wait_until(is_begun, what="a failover by hand", deadline_s=READY_S)
        return master


class ClusterGroup(Group):
    """Three masters with a replica each; a third of the slots lies with each."""

    def __init__(self, kind: type[RespServer] = RedisServer) -> None:
        super().__init__()
        self.kind = kind

    @property
    def url(self) -> str:
        nodes = ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:3])
        return f"redis+cluster://:{PASSWORD}@{nodes}/0"

    def start(self) -> Self:
        for _ in range(6):
            args = (
                *("--requirepass", PASSWORD, "--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0"),
                *("--cluster-enabled", "yes", "--cluster-port", str(free_port())),
                *("--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--databases", "1"),
            )
            self.servers.append(self.kind(args=args).start())
        masters, replicas = self.servers[:3], self.servers[3:]
        for number, server in enumerate(self.servers):
            self.ask(server, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for number, master in enumerate(masters):
            first, last = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
            self.ask(master, "CLUSTER", "ADDSLOTSRANGE", first, last)
        bus = {server: server.args[list(server.args).index("--cluster-port") + 1] for server in self.servers}
        for server in self.servers[1:]:
            self.ask(server, "CLUSTER", "MEET", "127.0.0.1", self.servers[0].port, bus[self.servers[0]])
        self.wait_until_ok(self.servers, nodes=6)
        for master, replica in zip(masters, replicas, strict=True):
            self.ask(replica, "CLUSTER", "REPLICATE", self.id_of(master))
        wait_until(
            lambda: all(self.info(replica).get("master_link_status") == "up" for replica in replicas),
            what="replicas in step",
            deadline_s=READY_S,
        )
        wait_until(
            lambda: all(len(self.replicas_of(master)) == 1 for master in masters),
            what="masters that know their replicas",
            deadline_s=READY_S,
        )
        self.wait_until_ok(self.servers, nodes=6)
        return self

    def admin(self) -> redis.Redis:
        """A client that follows the owners of slots."""
        client: Any = redis.RedisCluster("127.0.0.1", self.servers[0].port, password=PASSWORD, protocol=2)
        return cast(redis.Redis, client)

    def wait_until_ok(self, servers: Iterable[Server], *, nodes: int) -> None:
        def is_ok(server: Server) -> bool:
            with contextlib.suppress(redis.RedisError):
                facts = dict(
                    line.split(":", 1)
                    for line in self.ask(server, "CLUSTER", "INFO").splitlines()
                    if ":" in line
                )
                return facts["cluster_state"] == "ok" and int(facts["cluster_known_nodes"]) == nodes
            return False

        wait_until(
            lambda: all(map(is_ok, servers)), what="a cluster whose nodes know each other", deadline_s=READY_S
        )

    def id_of(self, server: Server) -> str:
        return str(self.ask(server, "CLUSTER", "MYID"))

    def replicas_of(self, master: Server) -> list[str]:
        return list(self.ask(master, "CLUSTER", "REPLICAS", self.id_of(master)))

    def owner(self, slot: int, asked: Server | None = None) -> RespServer:
        """The master of a slot, as a live node sees it."""
        for first, last, (_, port, *_), *_ in self.ask(asked or self.live(), "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return self.at(port)
        raise AssertionError(f"nobody owns slot {slot}")

    def live(self) -> RespServer:
        return next(server for server in self.servers if server.is_running)

    def fail_over(self, slot: int) -> RespServer:
        """A replica of the slot's owner takes its place by CLUSTER FAILOVER; returns the former owner."""
        owner = self.owner(slot)
        port = int(self.replicas_of(owner)[0].split()[1].split("@")[0].rpartition(":")[2])
        self.ask(self.at(port), "CLUSTER", "FAILOVER")
        wait_until(
            lambda: self.owner(slot) is not owner, what="another owner of the slot", deadline_s=READY_S
        )
        return owner

    def kill_owner(self, slot: int) -> RespServer:
        """SIGKILL; returns the server that was the owner."""
        owner = self.owner(slot)
        owner.kill()
        return owner

    def wait_for_heir(self, former: Server, slot: int) -> RespServer:
        """Until all nodes see another owner of the slot."""
        live = [server for server in self.servers if server.is_running]
        wait_until(
            lambda: all(self.owner(slot, server) is not former for server in live),
            what="another owner of the slot",
            deadline_s=READY_S,
        )
        return self.owner(slot)

    def other_master(self, slot: int) -> RespServer:
        owners = [self.owner(other) for other in (0, SLOTS // 2, SLOTS - 1)]
        return next(owner for owner in owners if owner is not self.owner(slot))

    def move_at_once(self, slot: int) -> None:
        """As Valkey 9 can; returns when all nodes see the new owner."""
        source, target = self.owner(slot), self.other_master(slot)
        self.ask(source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", self.id_of(target))
        self.wait_for_heir(source, slot)

    def begin_move(self, slot: int) -> tuple[RespServer, RespServer]:
        """Say that the slot is on its way to another master; returns source and target."""
        source, target = self.owner(slot), self.other_master(slot)
        self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(target))
        return source, target

    def move_keys(self, slot: int, source: Server, target: Server, *, at_most: int = 1 << 30) -> int:
        """MIGRATE keys of the slot; returns how many."""
        moved = 0
        while moved < at_most:
            keys = self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, min(100, at_most - moved))
            if not keys:
                break
            self.ask(
                source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "AUTH", PASSWORD, "KEYS", *keys
            )
            moved += len(keys)
        return moved

    def end_move(self, slot: int, source: Server, target: Server) -> None:
        for server in (target, source, *self.servers[:3]):
            with contextlib.suppress(redis.ResponseError):  # a replica takes no SETSLOT
                self.ask(server, "CLUSTER", "SETSLOT", slot, "NODE", self.id_of(target))
        self.wait_for_heir(source, slot)


def as_text(reply: Any) -> Any:
    """The reply with text in place of bytes. A key may hold any bytes: those stay."""
    if isinstance(reply, bytes):
        try:
            return reply.decode()
        except UnicodeDecodeError:
            return reply
    return [as_text(each) for each in reply] if isinstance(reply, list) else reply
