"""Each operation is called here, over HTTP, by `taskflow api` both ways, and as a tool: with like answers, as OpenAPI says."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, cast

import httpx
import jsonschema
import pytest
from mcp import Client

from taskflow.connections import Connections
from taskflow.testing import Harness
from taskflow.web.api.openapi import describe
from taskflow.web.catalogue.operation import Desk, Operation
from taskflow.web.catalogue.post import Post
from taskflow.web.catalogue.table import OPERATIONS
from taskflow.web.client import request_for
from taskflow.web.site import SiteOptions, make_site
from taskflow.web.tools import make_server, tools_for
from tests.commands.shell import Shell
from tests.web.server import served

NUMBERS = itertools.count()
DOCUMENT = describe(OPERATIONS.values(), prefix="/api/v1", version="1")
MAIL = {"app": "shop", "queue": "mail"}
POST = {"app": "shop", "function": "post"}
# Members that differ from call to call, since something is made, or time passes.
CHANGING = {"id", "uid", "who", "run_id", "rerun_of", "started", "why", "next", "key", "begins", "name"}


@pytest.fixture
async def url(link: Connections) -> AsyncIterator[str]:
    async with served(make_site(link, SiteOptions(is_dev=True))) as url:
        yield url


async def fields_for(name: str, harness: Harness, desk: Desk) -> dict[str, Any]:
    """The fields of a call of the operation. What the call uses up is made anew."""
    match name:
        case "runs.get" | "runs.steps":
            return {"run_id": (await harness.send("shop/order", {"sku": "A7"})).id}
        case "runs.rerun":
            return {"run_id": (await harness.send("shop/broken")).id}
        case "runs.cancel":
            return {"run_id": (await harness.send("shop/order", {"waits": True})).id, "reason": "a test"}
        case "runs.list":
            await harness.send("shop/broken")
            return {"status": ["failed"], "limit": 1}
        case "events.list":
            await harness.send("shop/order")
            return {"name": "shop/order", "limit": 1}
        case "events.get":
            return {"event_id": (await harness.send("shop/order")).id.partition("-")[0]}
        case "bulk.get" | "bulk.stop":
            made = await OPERATIONS["bulk.create"].call(desk, {"action": "cancel", "app": "shop"})
            return {"bulk_id": made["id"]}
        case "keys.create":
            return {"name": f"key-{next(NUMBERS)}", "rate": "5/s"}
        case "keys.revoke":
            name = f"key-{next(NUMBERS)}"
            await OPERATIONS["keys.create"].call(desk, {"name": name})
            return {"name": name}
        case "signals.send":
            await harness.send("shop/order", {"waits": True})
            return {"app": "shop", "name": "approve", "data": {"by": "ann"}}
    if name == "bulk.list":
        return {"limit": 1}
    constant: dict[str, dict[str, Any]] = {
        "bulk.count": {"action": "cancel", "function": "shop/post"},
        "bulk.create": {"action": "cancel", "function": "shop/post", "expect": 0},
        "queues.pause": MAIL, "queues.resume": MAIL, "functions.get": POST, "functions.pause": POST, "functions.resume": POST,
        "functions.invoke": {**POST, "data": {"n": 1}}, "events.send": {"name": "shop/order", "data": {"sku": "A7"}},
    }  # fmt: skip
    return constant.get(name, {})


def normal(value: Any) -> Any:
    """An answer without what changes."""
    if isinstance(value, list):
        return [normal(each) for each in value]
    if isinstance(value, dict):
        return {
            name: normal(each)
            for name, each in value.items()
            if name not in CHANGING and not name.endswith("_ms")
        }
    return value


def check_schema(operation: Operation, answer: Any) -> None:
    described = DOCUMENT["paths"][operation.path][operation.method.lower()]
    schema = described["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(
        answer, {**schema, "components": DOCUMENT["components"]}, cls=jsonschema.Draft202012Validator
    )


@pytest.mark.parametrize("name", OPERATIONS)
async def test_an_operation_answers_the_same_in_each_way(
    name: str, harness: Harness, link: Connections, shell: Shell, url: str
) -> None:
    operation, desk = OPERATIONS[name], Desk(link, Post(link))

    async def here(given: Mapping[str, Any]) -> Any:
        return json.loads(json.dumps(await operation.call(desk, given)))

    async def over_http(given: Mapping[str, Any]) -> Any:
        made = request_for(operation, given, base=f"{url}/api/v1")
        async with httpx.AsyncClient() as client:
            sent = await client.request(
                made.get_method(),
                made.full_url,
                content=cast(bytes | None, made.data),
                headers=dict(made.headers),
            )
        assert sent.status_code == 200, sent.text
        return sent.json()

    async def on_the_command_line(given: Mapping[str, Any]) -> Any:
        outcome = await shell.arun("api", name, "--json", json.dumps(given))
        assert outcome.code == 0, outcome.stderr
        return outcome.json

    async def on_the_command_line_over_http(given: Mapping[str, Any]) -> Any:
        outcome = await shell.arun("api", name, "--json", json.dumps(given), "--url", url)
        assert outcome.code == 0, outcome.stderr
        return outcome.json

    async def as_a_tool(given: Mapping[str, Any]) -> Any:
        async with Client(make_server(desk, allows_writes=True, version="1")) as client:
            answer = await client.call_tool(name.replace(".", "_"), dict(given))
        assert not answer.is_error, answer.content
        return answer.structured_content

    ways: list[Callable[[Mapping[str, Any]], Awaitable[Any]]] = [
        here, over_http, on_the_command_line, on_the_command_line_over_http,
    ]  # fmt: skip
    if name.replace(".", "_") in tools_for(allows_writes=True):
        ways.append(as_a_tool)
    answers = []
    for way in ways:
        if name.endswith(".resume"):
            await OPERATIONS[name.replace("resume", "pause")].call(
                desk, await fields_for(name, harness, desk)
            )
        answer = await way(await fields_for(name, harness, desk))
        check_schema(operation, answer)
        answers.append(answer)
        await harness.settled()
    if name == "audit.list":
        return  # it grows by itself
    for answer in answers[1:]:
        assert normal(answer) == normal(answers[0])
