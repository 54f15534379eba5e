"""`taskflow mcp`, called by the client of MCP's own package. Rule S14.1."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from taskflow.connections import Connections
from taskflow.testing import Harness
from taskflow.web.catalogue.operation import Desk
from taskflow.web.catalogue.post import Post
from taskflow.web.catalogue.table import OPERATIONS
from taskflow.web.site import SiteOptions, make_site
from taskflow.web.tools import make_server, tools_for
from tests.commands.shell import Shell
from tests.processes import clean_environment
from tests.web.server import served


@pytest.fixture
async def desk(link: Connections) -> AsyncIterator[Desk]:
    yield Desk(link, Post(link))


async def call(client: Client, name: str, **given: Any) -> tuple[bool, Any]:
    answer = await client.call_tool(name, given)
    return answer.is_error, answer.structured_content


async def test_it_reads_and_does_not_write_unless_allowed(harness: Harness, desk: Desk) -> None:
    run_id = (await harness.send("shop/order", {"waits": True})).id
    async with Client(make_server(desk, allows_writes=False, version="1")) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert "runs_list" in tools
        assert not {"runs_cancel", "keys_create", "keys_list", "audit_list"} & tools.keys()
        assert tools["runs_get"].input_schema["required"] == ["run_id"]
        is_error, run = await call(client, "runs_get", run_id=run_id)
        assert (is_error, run["status"]) == (False, "waiting")
        is_error, problem = await call(client, "runs_cancel", run_id=run_id)
        assert (is_error, "--allow-writes" in problem["detail"]) == (True, True)
        is_error, problem = await call(client, "runs_get", run_id="nope")
        assert (is_error, problem["code"]) == (True, "run_not_found")
        assert (await call(client, "runs_get", runid="nope"))[1]["code"] == "invalid_field"


async def test_it_writes_when_allowed_and_that_is_noted(harness: Harness, desk: Desk, shell: Shell) -> None:
    run_id = (await harness.send("shop/order", {"waits": True})).id
    async with Client(make_server(desk, allows_writes=True, version="1")) as client:
        assert await call(client, "runs_cancel", run_id=run_id, reason="a test") == (
            False, {"run_id": run_id, "outcome": "cancelled"},
        )  # fmt: skip
        invoked = [await call(client, "functions_invoke", app="shop", function="post") for _ in range(2)]
        assert invoked[0][1]["run_id"] != invoked[1][1]["run_id"]
    entries = (await shell.arun("api", "audit.list")).json["entries"]
    assert [(each["who"], each["what"]) for each in entries][-1] == ("mcp", "runs.cancel")


def test_every_operation_but_those_for_admins_is_a_tool() -> None:
    assert len(tools_for(allows_writes=True)) > len(tools_for(allows_writes=False)) > 8


async def test_a_program_starts_it_and_speaks_over_its_pipes(shell: Shell) -> None:
    parameters = StdioServerParameters(
        command=sys.executable, args=["-P", "-m", "taskflow", "mcp"], env=clean_environment(dict(shell.env))
    )
    async with Client(parameters) as client:
        is_error, told = await call(client, "overview")
    assert (is_error, told["workers"]) == (False, 0)


@pytest.fixture
async def key_of(desk: Desk) -> AsyncIterator[dict[str, str]]:
    """Keys by their scope; an event key too."""
    made: dict[str, str] = {}
    for scope in ("read", "operate", None):
        given = {"name": f"key-{scope}"} | ({"scope": scope} if scope else {})
        made[scope or "events"] = (await OPERATIONS["keys.create"].call(desk, given))["key"]
    yield made


async def test_over_http_a_key_says_whether_tools_write(
    harness: Harness, link: Connections, shell: Shell, key_of: dict[str, str]
) -> None:
    """By MCP's own client; and nothing is left of a request, so any process answers the next one."""
    run_id = (await harness.send("shop/order", {"waits": True})).id
    async with served(make_site(link, SiteOptions())) as url:

        async def outcome(key: str, name: str, **given: Any) -> tuple[bool, Any, set[str]]:
            async with (
                httpx2.AsyncClient(headers={"authorization": f"Bearer {key}"}) as http,
                Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client,
            ):
                tools = {tool.name for tool in (await client.list_tools()).tools}
                return *(await call(client, name, **given)), tools

        is_error, run, tools = await outcome(key_of["read"], "runs_get", run_id=run_id)
        assert (is_error, run["status"], "runs_cancel" in tools) == (False, "waiting", False)
        assert (await outcome(key_of["read"], "runs_cancel", run_id=run_id))[0]
        is_error, told, tools = await outcome(key_of["operate"], "runs_cancel", run_id=run_id)
        assert (is_error, told["outcome"], "keys_create" in tools) == (False, "cancelled", False)
        async with httpx.AsyncClient() as http:
            for headers, status in (({}, 401), ({"authorization": f"Bearer {key_of['events']}"}, 403)):
                assert (await http.post(f"{url}/mcp", headers=headers, json={})).status_code == status
            assert (await http.get(f"{url}/mcp")).status_code == 405
    entries = (await shell.arun("api", "audit.list")).json["entries"]
    assert ("key key-operate over mcp", "runs.cancel") in [(each["who"], each["what"]) for each in entries]


async def test_over_http_without_keys_this_machine_is_served(harness: Harness, link: Connections) -> None:
    async with served(make_site(link, SiteOptions(is_dev=True))) as url:
        async with Client(f"{url}/mcp") as client:
            assert (await call(client, "overview"))[0] is False
        async with httpx.AsyncClient() as http:
            refused = await http.post(f"{url}/mcp", json={}, headers={"host": "evil.example"})
            assert (refused.status_code, refused.json()["code"]) == (403, "foreign_origin")
