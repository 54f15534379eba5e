"""Masters that change, slots that move, servers that serve nothing for a while: a moment without store. Rule S9.5."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from taskflow.app import TaskFlow
from taskflow.errors import BrokerUnavailable, ConfigError, StoreUnavailable
from taskflow.redis.address import parse_server_url
from taskflow.redis.blocking import RespClient, ServerLost
from taskflow.redis.client import StoreClient
from taskflow.redis.subscriber import Subscriber
from taskflow.redis.topology import HOME_KEY
from taskflow.store import session as session_module
from taskflow.store.keys import Keys
from taskflow.store.session import StoreSession
from taskflow.store.store import Store
from tests.groups import MASTER_NAME, ClusterGroup, SentinelGroup
from tests.servers import RedisServer, RespServer, ValkeyServer, free_port
from tests.waiting import until

RECOVERED_S = 15.0
SLOT = 13_907  # of the hash tag {0}


def address_of(url: str) -> Any:
    return parse_server_url(url, what="store")


async def in_thread(work: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, work)


class Writer:
    """Coroutines that append to lists by scripts, one after the other, for as long as it is told to."""

    def __init__(self, client: StoreClient) -> None:
        self.client = client
        self.taken: list[int] = []
        self.tasks = [asyncio.create_task(self.write(number)) for number in range(5)]
        self.is_over = False

    async def write(self, number: int) -> None:
        """A set, so that what is sent again counts once."""
        script = "redis.call('SADD', KEYS[1] .. 'set', ARGV[1]) redis.call('PUBLISH', 'writes', ARGV[1]) return ARGV[1]"
        count = 0
        while not self.is_over:
            value = number + 5 * count
            assert int(await self.client.call("EVAL", script, 1, HOME_KEY, value)) == value
            self.taken.append(value)
            count += 1
            await asyncio.sleep(0.001)

    async def goes_on(self, *, deadline_s: float = RECOVERED_S) -> None:
        known = len(self.taken)
        await until(lambda: len(self.taken) >= known + 50, description="more writes", deadline_s=deadline_s)

    async def stop(self) -> set[bytes]:
        """What the server has in the end."""
        self.is_over = True
        async with asyncio.timeout(RECOVERED_S):
            await asyncio.gather(*self.tasks)
            return set(await self.client.call("SMEMBERS", f"{HOME_KEY}set"))


@asynccontextmanager
async def writing(url: str) -> AsyncIterator[tuple[Writer, list[str]]]:
    """A client that writes, and what a subscriber hears of it."""
    client, subscriber, heard = StoreClient(address_of(url)), Subscriber(url), list[str]()
    await client.connect()
    await client.call("DEL", f"{HOME_KEY}set")
    await subscriber.connect()
    await subscriber.listen("writes", heard.append)
    writer = Writer(client)
    try:
        yield writer, heard
    finally:
        for task in writer.tasks:
            task.cancel()
        await asyncio.gather(*writer.tasks, return_exceptions=True)
        await subscriber.close()
        await client.close()


def as_members(values: list[int]) -> set[bytes]:
    return {str(value).encode() for value in values}


async def hears_again(heard: list[str]) -> None:
    heard.clear()
    await until(lambda: heard, description="a message to the subscriber", deadline_s=RECOVERED_S)


# --- one server ---


async def test_a_server_that_has_become_a_replica_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """Whether it was demoted or the name points elsewhere; it says so once, and nobody gets an error."""
    caplog.set_level(logging.INFO, "taskflow.store")
    with ValkeyServer() as other, ValkeyServer() as server, redis.Redis.from_url(server.url) as admin:
        client = StoreClient(address_of(server.url))
        await client.connect()
        await client.call("SET", "key", 1)
        admin.execute_command("REPLICAOF", "127.0.0.1", other.port)
        late = asyncio.gather(*[client.call("SET", "key", 2) for _ in range(20)])
        await until(lambda: client.trouble, description="the refusal")
        connections = admin.info("stats")["total_connections_received"]
        await asyncio.sleep(0.5)
        assert not late.done()
        assert str(client.trouble).startswith("READONLY")
        assert admin.info("stats")["total_connections_received"] - connections < 10, "it asks now and then"
        admin.execute_command("REPLICAOF", "NO", "ONE")
        assert await asyncio.wait_for(late, 5) == [b"OK"] * 20
        await client.close()
    texts = [record.getMessage() for record in caplog.records]
    assert [text.partition(": ")[0].replace(str(client.address), "X") for text in texts] == [
        "the store at X serves nothing now",
        "the store at X is back",
    ]


async def test_a_server_without_enough_replicas_is_waited_for() -> None:
    with (
        ValkeyServer(args=["--min-replicas-to-write", "1"]) as server,
        redis.Redis.from_url(server.url) as admin,
    ):
        client = StoreClient(address_of(server.url))
        await client.connect()
        late = client.call("SET", "key", 1)
        await until(lambda: "NOREPLICAS" in str(client.trouble), description="the refusal")
        with pytest.raises(StoreUnavailable, match="can't be reached: NOREPLICAS Not enough good replicas"):
            await Store.open(server.url, timeout_s=0.3)
        admin.config_set("min-replicas-to-write", 0)
        assert await asyncio.wait_for(late, 5) == b"OK"
        await client.close()


async def test_a_server_that_cannot_write_to_its_disk_is_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    with (
        ValkeyServer(args=["--save", "1 1", "--dir", str(folder)]) as server,
        redis.Redis.from_url(server.url) as admin,
    ):
        client = StoreClient(address_of(server.url))
        await client.connect()
        folder.rmdir()
        await client.call("SET", "key", 1)
        await until(
            lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err", description="a failed save"
        )
        late = client.call("SET", "key", 2)
        await until(lambda: "MISCONF" in str(client.trouble), description="the refusal")
        admin.config_set("stop-writes-on-bgsave-error", "no")
        assert await asyncio.wait_for(late, 5) == b"OK"
        await client.close()


async def test_send_tries_again_while_a_server_refuses_writes() -> None:
    """Until `send_timeout`, as in a failover; then it says why."""
    with (
        ValkeyServer(args=["--min-replicas-to-write", "1"]) as server,
        redis.Redis.from_url(server.url) as admin,
    ):
        hasty = TaskFlow("shop", broker=server.url, send_timeout="200ms")
        with pytest.raises(BrokerUnavailable, match="within 200 ms: .*NOREPLICAS"):
            await hasty.asend("shop/paid")
        await hasty.aclose()
        app = TaskFlow("shop", broker=server.url, send_timeout="10s")
        refused = admin.info("errorstats")["errorstat_NOREPLICAS"]["count"]
        sent = asyncio.create_task(app.asend("shop/paid"))
        await until(
            lambda: admin.info("errorstats")["errorstat_NOREPLICAS"]["count"] > refused + 2,
            description="some tries",
        )
        admin.config_set("min-replicas-to-write", 0)
        assert len(await sent) == 1
        await app.aclose()


async def test_a_call_with_a_deadline_says_what_the_server_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "CALL_TIMEOUT_S", 0.5)
    with ValkeyServer() as other, ValkeyServer() as server, redis.Redis.from_url(server.url) as admin:
        session = StoreSession(server.url, "tf")
        await session.run_fields("run", "status")
        admin.execute_command("REPLICAOF", "127.0.0.1", other.port)
        with pytest.raises(StoreUnavailable, match="no answer within 0.5 s: READONLY"):
            async with session.deadline() as store:
                await store.client.call("SET", "key", 1)
        await session.close()


async def test_a_server_that_lets_in_and_refuses_is_not_asked_without_pause() -> None:
    """Here the user may not write the key that a new connection tries."""
    with ValkeyServer() as other, ValkeyServer() as server, redis.Redis.from_url(server.url) as admin:
        admin.acl_setuser("app", enabled=True, passwords=["+pw"], keys=["app:*"], categories=["+@all"])
        client = StoreClient(address_of(server.url.replace("//", "//app:pw@")))
        await client.connect()
        admin.execute_command("REPLICAOF", "127.0.0.1", other.port)
        late = client.call("SET", "app:key", 1)
        await until(lambda: client.refusals > 1, description="some refusals")
        connections = admin.info("stats")["total_connections_received"]
        await asyncio.sleep(0.5)
        assert admin.info("stats")["total_connections_received"] - connections < 10
        admin.execute_command("REPLICAOF", "NO", "ONE")
        assert await asyncio.wait_for(late, 5) == b"OK"
        await client.close()


def test_who_asks_no_sentinel_does_not_load_what_asks() -> None:
    code = (
        "import sys, taskflow, taskflow.redis.subscriber, taskflow.redis.topology as t\n"
        "from taskflow.redis.address import parse_server_url\n"
        "t.topology_of(parse_server_url('redis://h', what='store')).locate(1.0)\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'redis'])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_the_slot_is_that_of_every_key() -> None:
    from redis.crc import key_slot

    for namespace in ("tf", "shop"):
        assert key_slot(Keys(namespace).run("x").encode()) == key_slot(HOME_KEY.encode()) == SLOT


# --- sentinels ---


@pytest.fixture(scope="module")
def sentinels() -> Iterator[SentinelGroup]:
    with SentinelGroup() as group:
        yield group


@pytest.mark.redis
async def test_the_store_is_the_master_that_the_sentinels_name(sentinels: SentinelGroup) -> None:
    url = sentinels.url.replace("/0?", "/3?")
    store = await Store.open(url)
    assert await store.duties.lead("beat", now_ms=1_000, term_ms=1_000) == 1
    master = sentinels.client(sentinels.master())
    facts: Any = master.info("keyspace")
    assert facts["db3"]["keys"] > 0
    await store.close()
    sentinels.ask(sentinels.master(), "FLUSHALL")


@pytest.mark.redis
async def test_a_client_and_a_subscriber_follow_the_heir_of_a_master_that_died(
    sentinels: SentinelGroup,
) -> None:
    async with writing(sentinels.url) as (writer, heard):
        await writer.goes_on()
        killed = await in_thread(sentinels.kill_master)
        began_s = asyncio.get_running_loop().time()
        await writer.goes_on()
        assert asyncio.get_running_loop().time() - began_s < RECOVERED_S
        await hears_again(heard)
        lost = as_members(writer.taken) - await writer.stop()
        assert len(lost) <= len(writer.tasks), (
            "what was confirmed and not replicated yet, as that is asynchronous"
        )
    await in_thread(killed.restart)


@pytest.mark.redis
async def test_a_client_and_a_subscriber_follow_a_master_that_was_replaced_by_hand(
    sentinels: SentinelGroup,
) -> None:
    """The former one goes on taking writes for ten seconds: only the sentinels tell."""
    async with writing(sentinels.url) as (writer, heard):
        await writer.goes_on()
        before = as_members(writer.taken)
        former = await in_thread(sentinels.fail_over)
        await until(
            lambda: writer.client.server.port not in (0, former.port),
            description="the heir",
            deadline_s=RECOVERED_S,
        )
        count = len(writer.taken)
        await writer.goes_on()
        await hears_again(heard)
        stored = await writer.stop()
        assert stored >= before
        assert stored >= as_members(writer.taken[count + len(writer.tasks) :])


@pytest.mark.redis
async def test_sentinels_that_are_gone_or_do_not_know_the_name(sentinels: SentinelGroup) -> None:
    url = sentinels.url
    sentinels.sentinels[0].kill()
    try:
        store = await Store.open(url)
        await store.close()
        with pytest.raises(StoreUnavailable, match="this sentinel knows no master 'other'"):
            await Store.open(url.replace(f"/{MASTER_NAME}/", "/other/"), timeout_s=1)
        with pytest.raises(StoreUnavailable, match="(?i)authentication required") as caught:
            await Store.open(url.partition("?")[0], timeout_s=1)
        assert "s3rver" not in str(caught.value)
    finally:
        sentinels.sentinels[0].restart()


@pytest.mark.redis
async def test_nothing_is_lost_with_a_master_that_is_paused_before_it_is_replaced(
    sentinels: SentinelGroup,
) -> None:
    async with writing(sentinels.url) as (writer, heard):
        await writer.goes_on()
        former = await in_thread(lambda: sentinels.fail_over(pause_ms=10_000))
        await writer.goes_on()
        await hears_again(heard)
        assert await writer.stop() >= as_members(writer.taken)
    sentinels.ask(former, "CLIENT", "UNPAUSE")


@pytest.mark.redis
def test_a_blocking_client_follows_a_master_that_was_replaced_by_hand(sentinels: SentinelGroup) -> None:
    client = RespClient(sentinels.url)
    client.connect()
    assert client.call("SET", "key", "x") == b"OK"
    former = sentinels.fail_over()
    heir = sentinels.wait_for_heir(former)
    told = reconnects(
        client, until_s=RECOVERED_S, is_there=lambda: sentinels.client(heir).get("key2") == b"y"
    )
    assert told == {"it has another master now"}
    client.close()


# --- a cluster ---


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(RedisServer, id="redis", marks=pytest.mark.redis),
        pytest.param(ValkeyServer, id="valkey"),
    ],
)
def cluster(request: pytest.FixtureRequest) -> Iterator[ClusterGroup]:
    kind: type[RespServer] = request.param
    with ClusterGroup(kind) as group:
        yield group


async def test_the_store_is_the_owner_of_its_slot(cluster: ClusterGroup) -> None:
    store = await Store.open(cluster.url)
    assert await store.duties.lead("beat", now_ms=1_000, term_ms=1_000) == 1
    assert cluster.ask(cluster.owner(SLOT), "CLUSTER", "COUNTKEYSINSLOT", SLOT) > 0
    await store.close()


async def test_a_client_and_a_subscriber_follow_the_owner_of_the_slot(cluster: ClusterGroup) -> None:
    """By CLUSTER FAILOVER, and by kill -9."""
    async with writing(cluster.url) as (writer, heard):
        await writer.goes_on()
        await hears_again(heard)
        await in_thread(lambda: cluster.fail_over(SLOT))
        await writer.goes_on()
        await hears_again(heard)
        stored = await writer.stop()
        assert stored >= as_members(writer.taken), "nothing is lost when it is asked to go"


async def test_scripts_wait_as_a_whole_while_their_slot_moves(cluster: ClusterGroup) -> None:
    """MIGRATE moves key by key. A script that ran meanwhile, here or there, would see half of the keys."""
    async with writing(cluster.url) as (writer, heard):
        await writer.goes_on()
        source, target = await in_thread(lambda: cluster.begin_move(SLOT))
        await until(lambda: "ASK " in str(writer.client.trouble), description="the refusal")
        before = len(writer.taken)
        assert await in_thread(lambda: cluster.move_keys(SLOT, source, target)) > 0
        await asyncio.sleep(0.3)
        assert len(writer.taken) == before
        await in_thread(lambda: cluster.end_move(SLOT, source, target))
        await writer.goes_on()
        await hears_again(heard)
        assert cluster.owner(SLOT) is target
        stored = await writer.stop()
        assert stored >= as_members(writer.taken)


async def test_a_slot_that_moves_at_once_is_followed(cluster: ClusterGroup) -> None:
    if cluster.kind is RedisServer:
        return  # 7.0 can't
    async with writing(cluster.url) as (writer, heard):
        await writer.goes_on()
        await in_thread(lambda: cluster.move_at_once(SLOT))
        await writer.goes_on()
        await hears_again(heard)
        assert await writer.stop() >= as_members(writer.taken)


async def test_the_owner_of_the_slot_dies(cluster: ClusterGroup) -> None:
    async with writing(cluster.url) as (writer, heard):
        await writer.goes_on()
        killed = cluster.kill_owner(SLOT)
        began_s = asyncio.get_running_loop().time()
        await writer.goes_on()
        assert asyncio.get_running_loop().time() - began_s < RECOVERED_S
        await hears_again(heard)
        killed.restart()
        await writer.stop()


def test_a_blocking_client_follows_the_owner_of_the_slot(cluster: ClusterGroup) -> None:
    client = RespClient(cluster.url)
    client.connect()
    assert client.call("SET", f"{HOME_KEY}key2", "x") == b"OK"
    source, target = cluster.begin_move(SLOT)
    cluster.move_keys(SLOT, source, target)
    cluster.end_move(SLOT, source, target)
    told = reconnects(
        client,
        until_s=RECOVERED_S,
        is_there=lambda: cluster.ask(target, "GET", f"{HOME_KEY}key2") == "y",
        key=f"{HOME_KEY}key2",
    )
    assert [text.partition(" ")[0] for text in told] == ["MOVED"]
    client.close()


def test_keys_without_a_hash_tag_are_refused_in_a_cluster(cluster: ClusterGroup) -> None:
    with pytest.raises(ConfigError, match="'shop:', so a cluster would spread them.*key_prefix={tf}:"):
        RespClient(cluster.url, home_key="shop:")


def reconnects(
    client: RespClient, *, until_s: float, is_there: Callable[[], bool], key: str = "key2"
) -> set[str]:
    """Write until it is there, and connect again after each loss; why the connection was lost."""
    told: set[str] = set()
    give_up_s = time.monotonic() + until_s
    while not is_there():
        assert time.monotonic() < give_up_s, told
        try:
            if not client.is_connected:
                client.connect()
            client.call("SET", key, "y")
        except ServerLost as error:
            told.add(str(error).partition("ConnectionError: ")[2])
    return told


# --- TLS ---


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, signed by itself; its key lies beside it as key.pem."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "1", "-nodes",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder / "cert.pem"


@pytest.mark.redis
async def test_nodes_and_owners_are_verified_over_tls(certificate: Path) -> None:
    """By redis-py, which asks, and by our connections."""
    port = free_port()
    args = (
        "--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--databases", "1", "--tls-cluster", "yes",
        "--tls-port", str(port), "--tls-auth-clients", "no", "--tls-cert-file", str(certificate),
        "--tls-ca-cert-file", str(certificate), "--tls-key-file", str(certificate.with_name("key.pem")),
    )  # fmt: skip
    url = f"rediss+cluster://127.0.0.1:{port}/0"
    with RedisServer(args=args) as server, redis.Redis(port=server.port) as admin:
        admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        await until(
            lambda: "cluster_state:ok" in str(admin.execute_command("CLUSTER", "INFO")),
            description="a cluster",
        )
        store = await Store.open(f"{url}?ssl_ca_certs={certificate}")
        assert store.client.server.port == port
        assert store.client.server.tls is not None
        await store.close()
        with pytest.raises(StoreUnavailable, match="(?i)certificate verify failed"):
            await Store.open(url, timeout_s=1)
