"""The rights that `taskflow doctor --acl` prints are enough, and needed, also where sentinels or a cluster name the server."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import pytest

from taskflow import Context, StoreUnavailable, TaskFlow
from tests.commands.shell import Shell
from tests.groups import PASSWORD, SENTINEL_PASSWORD, ClusterGroup, SentinelGroup
from tests.servers import Server, ValkeyServer

pytestmark = pytest.mark.redis


def commands_of(url: str) -> dict[str, list[str]]:
    """The words of the command for each role."""
    lines = Shell({"TASKFLOW_STORE": url, "TASKFLOW_BROKER": url}).run("doctor", "--acl", "--json").json
    return {line["role"]: shlex.split(line["command"].replace(">PASSWORD", ">secret")) for line in lines}


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterGroup]:
    with ClusterGroup(ValkeyServer) as group:
        yield group


@pytest.fixture(scope="module")
def sentinels() -> Iterator[SentinelGroup]:
    with SentinelGroup() as group:
        yield group


def denied(group: ClusterGroup | SentinelGroup, servers: Iterable[Server]) -> list[str]:
    """What was denied to whom."""
    entries = [
        dict(zip(entry[::2], entry[1::2], strict=True))
        for server in servers
        for entry in group.ask(server, "ACL", "LOG")
    ]
    # redis-py says what it is to newer servers. Redis 7.0 has no such command, so nobody can be given the right.
    return [
        f"{entry['username']} {entry['reason']} {entry['object']}"
        for entry in entries
        if entry["object"] != "client|setinfo"
    ]


def check_that_web_works(url: str) -> None:
    """It writes into the store, reads from it, and sends."""
    with closing(TaskFlow("shop", store=url, broker=url, send_timeout="5s")) as app:

        @app.function(trigger="order.created")
        async def fulfil(ctx: Context[Any]) -> None:
            pass

        app.send("order.created", {"id": 7})
        run = fulfil.invoke({"id": 7})
        assert str(run.status()) == "queued"
        assert run.cancel()


def test_in_a_cluster(cluster: ClusterGroup) -> None:
    words = commands_of(cluster.url)["web"]
    for server in cluster.servers:
        cluster.ask(server, *words)
    url = cluster.url.replace(f":{PASSWORD}@", "tf-web:secret@")
    check_that_web_works(url)
    assert denied(cluster, cluster.servers) == []
    for server in cluster.servers:
        cluster.ask(server, *[word.replace("+cluster|slots", "+ping") for word in words])
    with (
        closing(TaskFlow("shop", store=url, broker=url, send_timeout="300ms")) as app,
        pytest.raises(StoreUnavailable, match="(?i)permissions"),
    ):
        app.run("a-run").status()


def test_under_sentinels(sentinels: SentinelGroup) -> None:
    commands = commands_of(sentinels.url)
    for server in sentinels.servers:
        sentinels.ask(server, *commands["web"])
    for sentinel in sentinels.sentinels:
        sentinels.ask(sentinel, *commands["sentinel"])
    url = sentinels.url.replace(f":{PASSWORD}@", "tf-web:secret@")
    url = url.replace(
        f"sentinel_password={SENTINEL_PASSWORD}", "sentinel_username=tf-sentinel&sentinel_password=secret"
    )
    check_that_web_works(url)
    assert denied(sentinels, [*sentinels.servers, *sentinels.sentinels]) == []
