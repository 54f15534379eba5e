"""The client that pipelines by itself, and what it does when the connection breaks. Rules S9.4, S9.5."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from taskflow.errors import StoreUnavailable, StoreVersionMismatch
from taskflow.redis import client as client_module
from taskflow.redis import subscriber as subscriber_module
from taskflow.redis.address import parse_server_url
from taskflow.redis.client import StoreClient
from taskflow.redis.connection import CONNECT_TIMEOUT_S, CommandError
from taskflow.redis.subscriber import Subscriber
from taskflow.store.store import Store
from tests.redis.line import Line
from tests.servers import ValkeyServer, free_port
from tests.waiting import until


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as running:
        yield running


@pytest.fixture(autouse=True)
async def empty(server: ValkeyServer) -> None:
    client = StoreClient(parse_server_url(server.url, what="store"))
    await client.connect()
    await client.call("FLUSHALL")
    await client.close()


@pytest.fixture
async def line(server: ValkeyServer) -> AsyncIterator[Line]:
    between = Line(server)
    yield between
    await between.stop()


@pytest.fixture
async def client(line: Line) -> AsyncIterator[StoreClient]:
    """A client behind the line."""
    connected = StoreClient(parse_server_url(await line.start(), what="store"))
    await connected.connect()
    yield connected
    await connected.close()


# --- pipelining ---


async def test_commands_of_one_turn_of_the_loop_leave_in_one_write(client: StoreClient, line: Line) -> None:
    """Whichever coroutines they come from; the replies come in the order of the calls."""

    async def increment() -> int:
        return int(await client.call("INCR", "n"))

    line.chunks.clear()
    assert await asyncio.gather(*[increment() for _ in range(100)]) == list(range(1, 101))
    assert len(line.chunks) == 1
    assert line.chunks[0].count(b"INCR") == 100


async def test_a_coroutine_that_awaits_each_command_pays_a_write_for_each(
    client: StoreClient, line: Line
) -> None:
    """And is not held up by what others send meanwhile."""
    line.chunks.clear()
    for n in range(5):
        assert await client.call("INCR", "n") == n + 1
    assert len(line.chunks) == 5


async def test_a_callers_error_is_its_own(client: StoreClient) -> None:
    """The commands around a refused one are answered as ever."""
    await client.call("SET", "text", "x")
    before, refused, after = (
        client.call("GET", "text"),
        client.call("INCR", "text"),
        client.call("GET", "text"),
    )
    assert await before == b"x"
    with pytest.raises(CommandError, match="not an integer"):
        await refused
    assert await after == b"x"


@pytest.mark.parametrize("wrong", ["caf\udce9", object()], ids=["a lone surrogate", "no text"])
async def test_what_can_not_be_packed_harms_nobody_else(client: StoreClient, wrong: Any) -> None:
    """Neither what goes out with it in one command, nor the replies to what comes after it."""
    script = "local replies = {false} for i = 1, #ARGV do replies[i + 1] = ARGV[i] end return replies"
    before = client.call("ECHO", "before")
    with pytest.raises((UnicodeEncodeError, TypeError)):
        client.call("ECHO", wrong)
    good, bad, best = (client.call_together(("EVAL", script, 0), item) for item in ("good", wrong, "best"))
    after = client.call("ECHO", "after")
    with pytest.raises((UnicodeEncodeError, TypeError)):
        await bad
    assert [await before, await after] == [b"before", b"after"]
    assert [reply for reply, _ in (await good, await best)] == [b"good", b"best"]
    assert await asyncio.gather(*[client.call("ECHO", n) for n in range(20)]) == [
        str(n).encode() for n in range(20)
    ]


async def test_a_caller_that_gives_up_does_not_shift_the_replies_of_others(client: StoreClient) -> None:
    first, second, third = (client.call("ECHO", text) for text in "abc")
    second.cancel()
    assert await first == b"a"
    assert await third == b"c"


@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
async def test_arguments_and_replies_of_any_size_and_content(client: StoreClient, size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    await client.call("SET", "key", body[:size])
    assert await client.call("GET", "key") == body[:size]
    assert await client.call("ECHO", 12) == b"12"
    assert await client.call("ECHO", "größe") == "größe".encode()


# --- a lost connection ---


async def test_what_had_no_reply_is_sent_again_in_order_after_a_cut(client: StoreClient, line: Line) -> None:
    """S9.5: callers see a slow reply, not an error."""
    line.holds_replies = True
    first = [client.call("APPEND", "log", f"{n},") for n in range(5)]
    await until(lambda: line.chunks and b"4," in line.chunks[-1], description="the commands to be sent")
    line.cut()
    line.holds_replies = False
    second = [client.call("APPEND", "log", f"{n},") for n in range(5, 10)]
    replies = await asyncio.gather(*first, *second)
    assert len(replies) == 10
    log = (await client.call("GET", "log")).decode()
    # Nobody knows whether the first ones were carried out: they are done once or twice, always in order.
    assert log in ("0,1,2,3,4,5,6,7,8,9,", "0,1,2,3,4,0,1,2,3,4,5,6,7,8,9,")
    assert line.connections == 2


async def test_a_client_survives_many_cuts_under_load(client: StoreClient, line: Line) -> None:
    """S9.5: every command is answered, with its own reply."""

    async def ask(number: int) -> None:
        for turn in range(20):
            assert await client.call("ECHO", f"{number}.{turn}") == f"{number}.{turn}".encode()

    async def cut() -> None:
        for _ in range(10):
            await asyncio.sleep(0.01)
            line.cut()

    await asyncio.gather(cut(), *[ask(number) for number in range(50)])


@pytest.mark.parametrize(
    "answers", [[], [b"+PONG\r\n"], [b"+PONG\r\n", b"+OK\r\n"]], ids=["none", "first", "all"]
)
async def test_connections_that_break_in_their_greeting_are_made_anew_at_once(
    line: Line, answers: list[bytes]
) -> None:
    """S9.5: wherever the break falls, and without a wait for the answers that will not come."""
    client = StoreClient(
        parse_server_url(await line.start(), what="store"), on_connected=lambda: [("CLIENT", "SETNAME", "x")]
    )
    await client.connect()
    line.breaks = [answers] * 3
    line.cut()
    assert await asyncio.wait_for(client.call("ECHO", "hello"), CONNECT_TIMEOUT_S / 2) == b"hello"
    assert line.connections == 5
    await client.close()


async def test_a_reconnection_is_logged_once_and_told(
    client: StoreClient, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    """S9.5"""
    caplog.set_level(logging.INFO, "taskflow.store")
    told: list[str] = []
    client.on_reconnect = lambda: told.append("back")
    await client.call("PING")
    line.cut()
    await client.call("PING")
    await until(lambda: told, description="on_reconnect")
    texts = [record.getMessage() for record in caplog.records]
    assert [text.partition(" at ")[0] for text in texts] == ["lost the connection to the store", "the store"]
    assert told == ["back"]


async def test_a_client_waits_for_a_server_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """S9.5: one line when it goes, one when it is back, however often it tries in between."""
    caplog.set_level(logging.INFO, "taskflow.store")
    with ValkeyServer(aof=True, appendfsync="always") as server:
        client = StoreClient(parse_server_url(server.url, what="store"))
        await client.connect()
        await client.call("SET", "key", "before")
        server.kill()
        late = asyncio.gather(client.call("GET", "key"), client.call("SET", "key", "after"))
        await asyncio.sleep(0.3)  # several tries in vain
        assert not late.done()
        await asyncio.get_running_loop().run_in_executor(None, server.restart)
        before, done = await asyncio.wait_for(late, 10)
        assert (before, done) == (b"before", b"OK")
        await client.close()
    assert len(caplog.records) == 2


async def test_a_connection_that_gives_no_reply_is_given_up(
    server: ValkeyServer, line: Line, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """S9.5: a cut cable closes no connection; the commands go out again on a new one."""
    monkeypatch.setattr(client_module, "STALL_TIMEOUT_S", 0.1)
    client = StoreClient(parse_server_url(await line.start(), what="store"))
    await client.connect()
    line.holds_replies = True
    reply = client.call("ECHO", "hello")
    await until(lambda: "gave no reply" in caplog.text, description="the stall to be seen")
    line.holds_replies = False
    assert await asyncio.wait_for(reply, 5) == b"hello"
    assert line.connections >= 2
    await client.close()


async def test_a_paused_server_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """S9.5: SIGSTOP, as a machine that swaps or a container that is frozen."""
    monkeypatch.setattr(client_module, "STALL_TIMEOUT_S", 0.1)
    monkeypatch.setattr(client_module, "CONNECT_TIMEOUT_S", 0.2)
    with ValkeyServer() as server:
        client = StoreClient(parse_server_url(server.url, what="store"))
        await client.connect()
        server.pause()
        reply = client.call("ECHO", "hello")
        await until(lambda: "gave no reply" in caplog.text, description="the stall to be seen")
        server.resume()
        assert await asyncio.wait_for(reply, 10) == b"hello"
        await client.close()


async def test_an_idle_connection_is_not_taken_for_a_stalled_one(
    client: StoreClient, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence is a sign of death only when replies are due."""
    monkeypatch.setattr(client_module, "STALL_TIMEOUT_S", 0.05)
    assert await client.call("PING") == b"PONG"
    await asyncio.sleep(0.15)
    assert await client.call("PING") == b"PONG"
    assert line.connections == 1


async def test_a_blocking_command_may_take_its_time(
    server: ValkeyServer, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "STALL_TIMEOUT_S", 0.05)
    client = StoreClient(parse_server_url(await line.start(), what="store"), longest_wait_s=1.0)
    await client.connect()
    assert await client.call("BLPOP", "nothing", 0.3) is None
    assert line.connections == 1
    await client.close()


# --- closing ---


async def test_closing_answers_what_is_under_way(client: StoreClient, line: Line) -> None:
    line.holds_replies = True
    waiting = client.call("PING")
    await until(lambda: client.in_flight, description="the command to be sent")
    unsent = client.call("PING")
    await client.close()
    for future in (waiting, unsent, client.call("PING")):
        with pytest.raises(StoreUnavailable, match="closed"):
            await future


async def test_closing_ends_the_attempts_to_reconnect(caplog: pytest.LogCaptureFixture) -> None:
    with ValkeyServer() as server:
        client = StoreClient(parse_server_url(server.url, what="store"))
        await client.connect()
    await until(lambda: client.reconnecting is not None, description="the loss to be seen")
    await client.close()
    assert client.reconnecting is not None
    assert client.reconnecting.done()
    await client.close()


# --- connecting ---


async def test_a_store_that_is_not_there_is_named() -> None:
    """S9.5, S2.5: where, why, and what to do."""
    port = free_port()
    client = StoreClient(parse_server_url(f"redis://:secret@127.0.0.1:{port}/3", what="store"))
    with pytest.raises(
        StoreUnavailable, match=rf"127\.0\.0\.1:{port}/3 can't be reached.*TASKFLOW_STORE"
    ) as caught:
        await client.connect(timeout_s=0.5)
    assert "secret" not in str(caught.value)
    await client.close()


async def test_a_server_that_accepts_and_says_nothing_is_given_up_in_time() -> None:
    with ValkeyServer() as server:
        server.pause()
        with pytest.raises(StoreUnavailable, match="no answer in time"):
            await Store.open(server.url, timeout_s=0.2)
        server.resume()


@pytest.mark.parametrize("url_part", ["", ":wrong@"], ids=["no password", "a wrong password"])
async def test_a_store_that_wants_another_password_says_so(url_part: str) -> None:
    with ValkeyServer(args=["--requirepass", "right"]) as server:
        store = Store.open(f"redis://{url_part}127.0.0.1:{server.port}/0", timeout_s=2)
        with pytest.raises(StoreUnavailable, match="NOAUTH|WRONGPASS") as caught:
            await store
        assert "wrong@" not in str(caught.value)
        opened = await Store.open(f"redis://:right@127.0.0.1:{server.port}/0")
        assert await opened.client.call("PING") == b"PONG"
        await opened.close()


async def test_a_database_and_a_unix_socket_are_used(server: ValkeyServer) -> None:
    one = StoreClient(parse_server_url(server.url.replace("/0", "/5"), what="store"))
    two = StoreClient(parse_server_url(server.unix_url.replace("db=0", "db=5"), what="store"))
    await one.connect()
    await two.connect()
    await one.call("SET", "key", "five")
    assert await two.call("GET", "key") == b"five"
    for client in (one, two):
        await client.close()


# --- scripts and versions ---


async def test_scripts_that_the_server_forgot_are_taught_again(server: ValkeyServer) -> None:
    """SCRIPT FLUSH by an administrator; all commands of the moment are answered, each once."""
    store = await Store.open(server.url)
    await store.client.call("SCRIPT", "FLUSH")
    fences = await asyncio.gather(
        *[store.duties.lead("beat", now_ms=1_000, term_ms=1_000) for _ in range(20)]
    )
    assert set(fences) == {1}
    assert await store.duties.lead("beat", now_ms=1_000, term_ms=1_000) == 1
    await store.close()


async def test_scripts_are_there_after_a_restart_of_the_server() -> None:
    """S9.5: it forgets them, and they are loaded with each connection."""
    with ValkeyServer() as server:
        store = await Store.open(server.url)
        await asyncio.get_running_loop().run_in_executor(None, server.restart)
        assert await asyncio.wait_for(store.duties.lead("beat", now_ms=1_000, term_ms=1_000), 10) == 1
        await store.close()


async def test_data_of_another_version_is_refused(server: ValkeyServer) -> None:
    client = StoreClient(parse_server_url(server.url, what="store"))
    await client.connect()
    await client.call("SET", "tf:{0}:version", "1")
    with pytest.raises(StoreVersionMismatch, match="format 1, but this version reads format 2"):
        await Store.open(server.url)
    store = await Store.open(server.url, namespace="another")
    await store.close()
    await client.close()


# --- subscriptions ---


async def test_a_subscriber_hears_what_comes_after_listen_returned(server: ValkeyServer) -> None:
    subscriber, client = Subscriber(server.url), StoreClient(parse_server_url(server.url, what="store"))
    await subscriber.connect()
    await client.connect()
    one: list[str] = []
    two: list[str] = []
    await subscriber.listen("c", one.append)
    assert await client.call("PUBLISH", "c", "first") == 1
    await until(lambda: one, description="the first message")
    await subscriber.listen("c", two.append)
    await client.call("PUBLISH", "c", "second")
    await until(lambda: len(one) == 2, description="both messages")
    assert (one, two) == (["first", "second"], ["second"])
    subscriber.unlisten("c", one.append)
    subscriber.unlisten("c", two.append)
    await subscriber.listen("other", one.append)
    assert await client.call("PUBLISH", "c", "third") == 0
    await subscriber.close()
    await client.close()


@asynccontextmanager
async def listening(
    url: str, server: ValkeyServer
) -> AsyncIterator[tuple[Subscriber, StoreClient, list[int]]]:
    """A subscriber at `url`, a client to publish with, and a mark for each connection that the subscriber had to make anew."""
    subscriber, client = Subscriber(url), StoreClient(parse_server_url(server.url, what="store"))
    back: list[int] = []
    subscriber.client.on_reconnect = lambda: back.append(1)
    await subscriber.connect()
    await client.connect()
    try:
        yield subscriber, client, back
    finally:
        await subscriber.close()
        await client.close()


async def test_a_subscriber_listens_on_after_a_cut(server: ValkeyServer, line: Line) -> None:
    """S9.5"""
    heard: list[str] = []
    async with listening(await line.start(), server) as (subscriber, client, back):
        for channel in ("a", "b"):
            await subscriber.listen(channel, heard.append)
        line.cut()
        await until(lambda: back, description="the new connection")
        await subscriber.listen("c", heard.append)
        for channel in ("a", "b", "c"):
            await client.call("PUBLISH", channel, channel)
        await until(lambda: len(heard) == 3, description="all messages")
        assert sorted(heard) == ["a", "b", "c"]


async def test_a_subscriber_notices_a_connection_that_died_in_silence(
    server: ValkeyServer, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S9.5: nothing tells it but the ping that gets no answer."""
    monkeypatch.setattr(client_module, "STALL_TIMEOUT_S", 0.05)
    monkeypatch.setattr(subscriber_module, "PING_EVERY_S", 0.02)
    heard: list[str] = []
    async with listening(await line.start(), server) as (subscriber, client, back):
        await subscriber.listen("c", heard.append)
        await asyncio.sleep(0.2)
        assert line.connections == 1, "answers show that it lives"
        line.holds_replies = True
        await until(lambda: line.connections > 1, description="a second connection")
        line.holds_replies = False
        await until(lambda: back, description="the subscription over it")
        await client.call("PUBLISH", "c", "again")
        await until(lambda: heard, description="the message")
        assert heard == ["again"]
