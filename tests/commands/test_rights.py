"""Real processes under exactly the rights that `taskflow doctor --acl` prints: all of it works, and with one less it does not."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from amqp.exceptions import AccessRefused

from taskflow import BrokerUnavailable, TaskFlow, TopicRef
from taskflow.broker.connection import new_connection
from taskflow.broker.topology import Topology
from taskflow.commands.rights import ROLES, commands_of, rabbitmq_rights, store_rights, streams_rights
from taskflow.errors import EventNotFound, TaskFlowError
from taskflow.run import Run
from taskflow.store.store import PACKAGE
from tests.commands.shell import Shell
from tests.processes import TaskflowProcess, wait_until
from tests.servers import RabbitMQServer, RedisServer, RespServer, ValkeyServer

APP = """
from taskflow import Cancel, Concurrency, Context, Event, Step, TaskFlow, TopicRef, TriggerCron

app = TaskFlow("shop")


@app.function(
    trigger="order.created", cancel=[Cancel("order.dropped", match="data.id")], concurrency=[Concurrency(5, key="event.data.id")]
)
async def fulfil(ctx: Context, step: Step) -> str:
    await step.run("reserve", lambda: "ok")
    await ctx.publish(TopicRef("orders", "news"), 1)
    await step.publish("news", TopicRef("orders", "news"), 2)
    await step.sleep("soon", 1)
    await step.send_event("tell", Event("order.told", {"id": ctx.event.data["id"]}))
    paid = await step.wait_for_event("paid", "order.paid", timeout="60s", match="data.id")
    return f"paid {paid.data['id']}" if paid else "not paid"


@app.function(trigger="order.told")
def told(ctx: Context) -> None:
    pass


@app.function(trigger=TriggerCron("* * * * * *"))
async def tick(ctx: Context) -> None:
    pass


@app.function
async def approve(ctx: Context, step: Step) -> str:
    return str(await step.wait_for_signal("yes", "approved", timeout="60s"))


@app.function(retries=0)
async def fail(ctx: Context) -> None:
    raise ValueError("no")
"""


def url_of(server_url: str, user: str) -> str:
    return server_url.replace("://", f"://{user}:secret@")


def shell_for(server: RespServer) -> Shell:
    return Shell({"TASKFLOW_STORE": server.url, "TASKFLOW_BROKER": server.url})


def grant(server: RespServer) -> None:
    """Make the users as the command says, word for word."""
    with redis.Redis.from_url(server.url) as admin:
        for line in shell_for(server).run("doctor", "--acl", "--json").json:
            admin.execute_command(*shlex.split(line["command"].replace(">PASSWORD", ">secret")))
        admin.acl_log_reset()


@contextmanager
def without(server: RespServer, role: str, command: str) -> Iterator[None]:
    """The user has all its rights but one command; it has them again afterwards."""
    (line,) = shell_for(server).run("doctor", "--acl", role, "--json").json
    words = shlex.split(line["command"].replace(">PASSWORD", ">secret"))
    cut = [
        word.replace(f"+{command} ", "").replace(f" +{command})", ")")
        for word in words
        if word != f"+{command}"
    ]
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command(*cut)
        try:
            yield
        finally:
            admin.execute_command(*words)
            admin.acl_log_reset()


def denied(server: RespServer) -> list[str]:
    """What was denied to whom."""
    with redis.Redis.from_url(server.url) as admin:
        return [f"{entry['username']} {entry['reason']} {entry['object']}" for entry in admin.acl_log()]


@pytest.fixture(scope="module", params=["valkey", pytest.param("redis", marks=pytest.mark.redis)])
def server(request: pytest.FixtureRequest) -> Iterator[RespServer]:
    kind = {"valkey": ValkeyServer, "redis": RedisServer}[request.param]
    if kind is RedisServer and not RedisServer.is_installed():
        pytest.skip("no redis-server")
    with kind() as running:
        grant(running)
        yield running


@pytest.fixture(scope="module")
def deployment(server: RespServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RespServer]:
    """A worker and a beat, each with its own user."""
    folder: Path = tmp_path_factory.mktemp("shop")
    (folder / "shop.py").write_text(APP)
    worker, beat = (
        {
            "TASKFLOW_BROKER": url_of(server.url, f"tf-{role}"),
            "TASKFLOW_STORE": url_of(server.url, f"tf-{role}"),
        }
        for role in ("worker", "beat")
    )
    with (
        TaskflowProcess("worker", "-A", "shop:app", "--processes", "1", cwd=folder, env=worker) as process,
        TaskflowProcess("beat", cwd=folder, env=beat),
    ):
        process.wait_for_line("is ready")
        yield server


@contextmanager
def app_of(server: RespServer, role: str) -> Iterator[TaskFlow]:
    """The app as a process of this role has it. What it may not touch it would not even find."""
    url = url_of(server.url, f"tf-{role}")
    nowhere = "redis://localhost:1/0"
    app = TaskFlow(
        "shop",
        broker=nowhere if role == "dashboard" else url,
        store=nowhere if role == "producer" else url,
        send_timeout="2s",
    )
    try:
        yield app
    finally:
        app.close()


async def first_id(app: TaskFlow) -> int:
    """The id of the first message on the channel of the app's runs."""
    async with aclosing(app.subscribe("orders", since="1h")) as messages:
        return (await anext(messages)).id


def runs_of(app: TaskFlow, event_id: str) -> list[Run[Any]]:
    """What the event started; nothing while no worker has routed it."""
    try:
        return app.event(event_id).runs()
    except EventNotFound:
        return []


def test_all_roles_do_their_work_and_nothing_is_denied(deployment: RespServer) -> None:
    server = deployment
    with (
        app_of(server, "producer") as producer,
        app_of(server, "web") as web,
        app_of(server, "dashboard") as dashboard,
    ):
        (event_id,) = producer.send("order.created", {"id": "7"})
        (run,) = wait_until(
            lambda: runs_of(dashboard, event_id), what="the run of the event, as the dashboard sees it"
        )
        wait_until(
            lambda: any(each.function == "shop/told" for each in dashboard.runs("shop/told")),
            what="what the run sent",
        )
        wait_until(lambda: str(dashboard.run(run.id).view().status) == "waiting", what="the wait")
        producer.send("order.paid", {"id": "7"})
        assert dashboard.run(run.id).result(timeout=15) == "paid 7"

        (dropped,) = producer.send("order.created", {"id": "8"})
        (other,) = wait_until(lambda: runs_of(dashboard, dropped), what="a second run")
        web.send("order.dropped", {"id": "8"})
        wait_until(
            lambda: str(dashboard.run(other.id).status()) == "cancelled", what="the cancel by an event"
        )

        # The run has published before.
        assert web.publish(TopicRef("orders", "news"), 3) > asyncio.run(first_id(web)) + 1

        approval = web.invoke("shop/approve")
        wait_until(lambda: web.send_signal("approved", {"by": "ann"}), what="the wait for the signal")
        assert "ann" in approval.result(timeout=15)
        third = web.invoke("shop/approve")
        assert third.cancel()
        assert web.cancel_runs("shop/approve") == 0

        failed = web.invoke("shop/fail")
        wait_until(lambda: str(failed.status()) == "failed", what="the failure")
        wait_until(lambda: dashboard.runs("shop/tick"), what="a tick of the cron")
    for command in (
        ["pause", "shop/told"],
        ["resume", "shop/told"],
        ["rerun", failed.id],
        ["functions"],
        ["runs", "list"],
    ):
        as_web = Shell(dict.fromkeys(("TASKFLOW_STORE", "TASKFLOW_BROKER"), url_of(server.url, "tf-web")))
        arguments = ["runs", *command] if command[0] == "rerun" else command
        outcome = as_web.run(*arguments)
        assert outcome.code == 0, outcome.stderr
    as_reader = Shell({"TASKFLOW_STORE": url_of(server.url, "tf-dashboard")})
    for arguments in (
        ["runs", "list"],
        ["runs", "show", run.id],
        ["events", "list"],
        ["functions"],
        ["dead-letters"],
    ):
        outcome = as_reader.run(*arguments)
        assert outcome.code == 0, outcome.stderr
    assert not denied(server)


@pytest.mark.parametrize("command", ["xadd", "get", "client|id"])
def test_with_one_command_less_a_producer_cannot_send(server: RespServer, command: str) -> None:
    with without(server, "producer", command), app_of(server, "producer") as app:
        with pytest.raises(BrokerUnavailable):
            app.send("order.created", {"id": "1"})
        assert any(command in each for each in denied(server))


@pytest.mark.parametrize("command", ["hset", "evalsha", "zadd"])
def test_with_one_command_less_a_web_process_cannot_invoke(deployment: RespServer, command: str) -> None:
    with without(deployment, "web", command), app_of(deployment, "web") as app:
        with pytest.raises(TaskFlowError):
            app.invoke("shop/fail")
        assert any(f"tf-web command {command}" in each for each in denied(deployment))


@pytest.mark.parametrize(
    ("role", "command"),
    [
        ("dashboard", ("HSET", "tf:{0}:run:1", "status", "completed")),
        ("dashboard", ("DEL", "tf:{0}:counts")),
        ("dashboard", ("XRANGE", "tf:{b}:q:taskflow.events.shop", "-", "+")),
        ("producer", ("XRANGE", "tf:{b}:q:taskflow.events.shop", "-", "+")),
        ("producer", ("HGETALL", "tf:{0}:run:1")),
        ("producer", ("XADD", "tf:{b}:q:taskflow.work.shop.default", "*", "m", "x")),
        ("web", ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "tf:{b}:q:taskflow.events.shop", ">")),
        ("web", ("BLPOP", "tf:{0}:nudge", "1")),
        ("beat", ("HGETALL", "another:{0}:run:1")),
        ("worker", ("GET", "session:of:somebody")),
        ("worker", ("PUBLISH", "another:{0}:done:1", "completed")),
        *(
            (role, words)
            for role in ROLES
            for words in (("FLUSHALL",), ("KEYS", "*"), ("CONFIG", "GET", "dir"), ("MONITOR",))
        ),
    ],
)
def test_what_a_role_does_not_need_it_may_not_do(
    server: RespServer, role: str, command: tuple[str, ...]
) -> None:
    with (
        redis.Redis.from_url(url_of(server.url, f"tf-{role}")) as client,
        pytest.raises(redis.ResponseError, match="(?i)no permissions|can't access"),
    ):
        client.execute_command(*command)


def test_every_command_of_a_script_belongs_to_somebody() -> None:
    """A new script that is in no role's list would work in no deployment that has rights."""
    worker, beat = store_rights("worker", "tf"), store_rights("beat", "tf")
    assert worker and beat
    assert commands_of(PACKAGE) <= worker.commands | beat.commands


def test_rights_are_those_of_the_namespace() -> None:
    rights = store_rights("worker", "staging")
    on_broker = streams_rights("producer", Topology("staging"), Topology("staging").key_prefix)
    assert rights and on_broker
    assert rights.keys == ("~staging:{0}:*",)
    assert all(":staging:{b}:" in f":{key.partition('~')[2]}" for key in on_broker.keys)
    assert "%W~staging:{b}:q:taskflow-staging.events.*" in on_broker.keys


# --- RabbitMQ ---


@pytest.fixture(scope="module")
def rabbit() -> Iterator[RabbitMQServer]:
    """With a user for each role, whose permissions are as the command says."""
    if not RabbitMQServer.is_installed():
        pytest.skip("no RabbitMQ")
    with RabbitMQServer() as running:
        shell = Shell({"TASKFLOW_STORE": "redis://localhost:1/0", "TASKFLOW_BROKER": running.url})
        lines = shell.run("doctor", "--acl", "--json").json
        for line in (each for each in lines if each["command"].startswith("rabbitmqctl")):
            control(running, "add_user", f"tf-{line['role']}", "secret")
            control(running, *shlex.split(line["command"].replace("VHOST", "/"))[1:])
        yield running


def control(rabbit: RabbitMQServer, *arguments: str) -> None:
    command = [
        "/usr/lib/rabbitmq/bin/rabbitmqctl",
        "-n",
        rabbit.environment()["RABBITMQ_NODENAME"],
        *arguments,
    ]
    subprocess.run(command, env=dict(rabbit.environment()), check=True, capture_output=True, timeout=60)


def rabbit_url(rabbit: RabbitMQServer, role: str) -> str:
    return rabbit.url.replace("guest:guest", f"tf-{role}:secret")


@pytest.mark.rabbitmq
def test_all_roles_do_their_work_on_rabbitmq(
    rabbit: RabbitMQServer, server: RespServer, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(APP)
    store = server.url.replace("/0", "/1")
    worker, beat = (
        {"TASKFLOW_BROKER": rabbit_url(rabbit, role), "TASKFLOW_STORE": store} for role in ("worker", "beat")
    )
    producer, web = (
        TaskFlow("shop", broker=rabbit_url(rabbit, role), store=store, send_timeout="5s")
        for role in ("producer", "web")
    )
    # Before any worker: whoever comes first declares what it needs.
    (event_id,) = producer.send("order.created", {"id": "7"})
    with (
        TaskflowProcess("worker", "-A", "shop:app", "--processes", "1", cwd=tmp_path, env=worker) as process,
        TaskflowProcess("beat", cwd=tmp_path, env=beat),
    ):
        process.wait_for_line("is ready")
        (run,) = wait_until(lambda: runs_of(web, event_id), what="the run of the event")
        wait_until(lambda: web.runs("shop/told"), what="what the run sent")
        wait_until(lambda: str(web.run(run.id).view().status) == "waiting", what="the wait")
        producer.send("order.paid", {"id": "7"})
        assert web.run(run.id).result(timeout=15) == "paid 7"
        failed = web.invoke("shop/fail")
        wait_until(lambda: str(failed.status()) == "failed", what="the failure")
        wait_until(lambda: web.runs("shop/tick"), what="a tick of the cron")
        assert "refused" not in process.stderr.lower()
    producer.close()
    web.close()


@pytest.mark.rabbitmq
@pytest.mark.parametrize("name", ["taskflow.work.shop.default", "taskflow.events.shop"])
def test_a_producer_may_not_consume_on_rabbitmq(rabbit: RabbitMQServer, name: str) -> None:
    with new_connection(rabbit_url(rabbit, "producer")) as connection:
        channel: Any = connection.channel()
        with pytest.raises(AccessRefused):
            channel.basic_get(name)


@pytest.mark.rabbitmq
def test_with_one_permission_less_a_producer_cannot_send(rabbit: RabbitMQServer) -> None:
    rights = rabbitmq_rights("producer", Topology())
    assert rights
    control(rabbit, "set_permissions", "-p", "/", "tf-producer", rights[0], "^$", rights[2])
    app = TaskFlow(
        "shop", broker=rabbit_url(rabbit, "producer"), store="redis://localhost:1/0", send_timeout="2s"
    )
    try:
        with pytest.raises(BrokerUnavailable):
            app.send("order.created", {"id": "1"})
    finally:
        app.close()
        control(rabbit, "set_permissions", "-p", "/", "tf-producer", *rights)
