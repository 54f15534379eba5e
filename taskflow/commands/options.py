"""Options that the commands share (-A, --store, --broker, --namespace, --limit, --json), and the servers that they lead to."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import click
import orjson

from taskflow.app import TaskFlow
from taskflow.codecs.codecs import Codecs
from taskflow.config import Config, check_slug, read_store_url, read_url
from taskflow.connections import Connections
from taskflow.errors import ConfigError
from taskflow.loading import load_app
from taskflow.redis.address import redact
from taskflow.runs.control import RunControl
from taskflow.runs.reasons import Moment
from taskflow.store.session import CALL_TIMEOUT_S
from taskflow.store.store import Store
from taskflow.values.clock import Clock, SystemClock
from taskflow.values.dev_server import DevInfo, running_dev
from taskflow.values.record import record

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

READER_ID = "taskflow-cli"  # the app id of settings that belong to no app; nothing is published under it


@record(kw_only=True)
class Target:
    """The store and broker that a command works on. `app` is the app of -A."""

    config: Config
    app: TaskFlow | None
    dev: DevInfo | None  # the dev server whose URLs are used

    @property
    def codecs(self) -> Codecs:
        """Those of the app of -A; without it what is encrypted stays so."""
        return Codecs((), self.config.blob_place) if self.app is None else self.app.codecs

    def connections(self, app_id: str = "", *, clock: Clock | None = None) -> Connections:
        """Connections to these servers in the name of `app_id`, by default that of -A, or no app. Raises ConfigError."""
        app_id = check_slug(app_id, what="app_id") if app_id else self.app.id if self.app else ""
        return Connections(dataclasses.replace(self.config, app_id=app_id), clock=clock, codecs=self.codecs)


def limit_option(most: int, help_text: str = "Show at most N.") -> Callable[[F], F]:
    """Add --limit N to a command, from 1 to `most`, by default 20, as the argument `limit`."""
    return click.option(
        "--limit", default=20, show_default=True, type=click.IntRange(1, most), metavar="N", help=help_text
    )


def connection_options(function: F) -> F:
    """Add -A, --store, --broker and --namespace to a command, as arguments `app`, `store`, `broker` and `namespace`."""
    options = (
        click.option("-A", "app", metavar="MODULE[:APP]", help="Use the app's settings."),
        click.option("--store", metavar="URL", help="Redis or Valkey.  [env: TASKFLOW_STORE]"),
        click.option("--broker", metavar="URL", help="Any broker of kombu.  [env: TASKFLOW_BROKER]"),
        click.option("--namespace", metavar="NAME", help="Prefix of the keys.  [env: TASKFLOW_NAMESPACE]"),
    )
    for option in reversed(options):
        function = option(function)
    return function


def json_option(function: F) -> F:
    """Add --json to a command, as argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(function)


def find_target(app: str | None, store: str | None, broker: str | None, namespace: str | None) -> Target:
    """Find the servers: those of the app's code, else of the options, else of TASKFLOW_*, else the dev server that runs here.

    Raises ConfigError.
    """
    check_options(store, broker, namespace)
    given = {"TASKFLOW_STORE": store, "TASKFLOW_BROKER": broker, "TASKFLOW_NAMESPACE": namespace}
    dev = None if store or broker else dev_in_use()
    if dev is not None:
        given |= {"TASKFLOW_STORE": dev.store, "TASKFLOW_BROKER": dev.broker}
        given["TASKFLOW_NAMESPACE"] = namespace or os.environ.get("TASKFLOW_NAMESPACE") or dev.namespace
    with environment({name: value for name, value in given.items() if value}):
        loaded = load_app(app) if app else None
        config = loaded.config if loaded else Config.resolve(READER_ID)
    if loaded is not None:
        check_not_overruled(loaded, store=store, broker=broker, namespace=namespace)
    return Target(config=config, app=loaded, dev=dev)


def check_options(store: str | None, broker: str | None, namespace: str | None) -> None:
    """Check the options under their own names: later they would be taken for environment variables. Raises ConfigError."""
    if store:
        read_store_url(store, "--store")
    if broker:
        read_url(broker, "--broker")
    if namespace:
        check_slug(namespace, what="--namespace")


def dev_in_use() -> DevInfo | None:
    """The dev server that runs in this folder, unless an exported URL names another one.

    Users are told of that, since they would look in the dev server for their events in vain.
    """
    dev = running_dev()
    if dev is None:
        return None
    for name, own in (("TASKFLOW_BROKER", dev.broker), ("TASKFLOW_STORE", dev.store)):
        given = os.environ.get(name)
        if given and given != own:
            click.echo(
                f"taskflow: {name} is exported as {redact(given)}, so the taskflow dev of this folder is not used; "
                f"unset {name} to use it",
                err=True,
            )
            return None
    return dev


def check_not_overruled(app: TaskFlow, **given: str | None) -> None:
    """Raise ConfigError for an option that the app's code overrules: it must not be ignored silently."""
    for name, value in given.items():
        if value is not None and getattr(app.config, name) != value:
            raise ConfigError(
                f"--{name} has no effect: the code of app {app.id!r} sets its own {name}. Leave the option out, or leave out -A."
            )


def check_broker_is_known(app: str | None, store: str | None, broker: str | None, why: str) -> None:
    """Refuse --store alone, which would leave the broker to a default; `why` it is needed. Raises UsageError."""
    if store and not (app or broker or os.environ.get("TASKFLOW_BROKER")):
        raise click.UsageError(f"{why} over the broker: give --broker too")


def full_function_id(target: Target, function: str) -> str:
    """The full id "app/function"; the app may be left out if -A names it. Raises UsageError."""
    if "/" in function:
        return function
    if target.app is None:
        raise click.UsageError(f"which app is {function!r} of? Write app/{function}, or give -A MODULE[:APP]")
    return f"{target.app.id}/{function}"


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the time of the block, in which the app's code is imported and reads them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run the async part of a command."""
    return asyncio.run(work)


@asynccontextmanager
async def open_store(target: Target) -> AsyncIterator[tuple[Store, Moment]]:
    """Open the target's store; gives the store, and the time by its clock. Raises StoreUnavailable."""
    store = await Store.open(target.config.store, namespace=target.config.namespace, codecs=target.codecs)
    try:
        clock = SystemClock()
        async with asyncio.timeout(CALL_TIMEOUT_S):
            await store.correct(clock)
        yield store, Moment(clock.now_ms())
    finally:
        await store.close()


@asynccontextmanager
async def open_control(target: Target) -> AsyncIterator[RunControl]:
    """Open a RunControl on the target's store, which goes by the store's clock. Raises StoreUnavailable."""
    clock = SystemClock()
    connections = target.connections(clock=clock)
    try:
        async with connections.session().deadline() as store:
            await store.correct(clock)
        yield connections.control(target.app.functions if target.app else None)
    finally:
        await connections.aclose()


def look(target: Target, read: Callable[[Store, Moment], Awaitable[T]]) -> tuple[T, Moment]:
    """Read from the target's store; return the result of `read`, and the moment of reading. Raises StoreUnavailable."""

    async def look_there() -> tuple[T, Moment]:
        async with open_store(target) as (store, moment):
            return await read(store, moment), moment

    return run(look_there())


def print_json(value: object) -> None:
    """Print a JSON document on stdout: indented on a terminal, else in one line."""
    indent = orjson.OPT_INDENT_2 if sys.stdout.isatty() else 0
    click.echo(orjson.dumps(value, option=indent))


def parse_json_object(
    ctx: click.Context, parameter: click.Parameter, value: str | None
) -> dict[str, Any] | None:
    """A click callback that parses an option's JSON object; "-" reads it from stdin."""
    if value is None:
        return None
    source = sys.stdin.read() if value == "-" else value
    try:
        parsed = orjson.loads(source)
    except orjson.JSONDecodeError as error:
        raise click.BadParameter(
            f'expected a JSON object like \'{{"sku": "A7"}}\', got {source[:60]!r} ({error})'
        ) from None
    if not isinstance(parsed, dict):
        raise click.BadParameter(f'expected a JSON object like \'{{"sku": "A7"}}\', got {source[:60]!r}')
    return parsed
