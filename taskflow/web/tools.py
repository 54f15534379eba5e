"""The operations as tools for language models (MCP), over stdin and stdout; `mcp` serves them over HTTP. Rule S14.1.

A tool has the name of its operation with "_" for ".". Without leave to write there are only tools that read, and never those for
which a key would need the scope admin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import mcp_types as types
import orjson
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from taskflow.values.ids import new_ulid
from taskflow.web.catalogue.audit import call_and_note
from taskflow.web.catalogue.operation import Desk, Operation, Scope
from taskflow.web.catalogue.problems import Problem
from taskflow.web.catalogue.schema import schema_of
from taskflow.web.catalogue.table import OPERATIONS

HOW = "A deployment of taskflow: durable functions, their runs, events and queues. `why` of a run says why it does not execute."


def tools_for(*, allows_writes: bool) -> Mapping[str, Operation]:
    """The operations by the names of their tools."""
    return {
        each.name.replace(".", "_"): each
        for each in OPERATIONS.values()
        if each.scope is not Scope.ADMIN and (allows_writes or not each.is_write)
    }


def tool_of(name: str, operation: Operation) -> types.Tool:
    named: dict[str, Any] = {}
    schema_of(operation.request, named)
    hints = types.ToolAnnotations(
        read_only_hint=not operation.is_write,
        destructive_hint=operation.name in ("runs.cancel", "functions.pause", "bulk.create"),
    )
    schema = named[operation.request.__name__]
    return types.Tool(name=name, description=operation.description, input_schema=schema, annotations=hints)


def make_server(desk: Desk, *, allows_writes: bool, version: str, who: str = "mcp") -> Server[Any]:
    """The server with its tools, at a desk; `who` calls them."""
    operations = tools_for(allows_writes=allows_writes)

    async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[tool_of(name, each) for name, each in operations.items()])

    async def call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        operation = operations.get(params.name)
        if operation is None:
            hint = (
                (
                    "; tools that write need `taskflow mcp --allow-writes`, or over HTTP a key with the scope operate"
                )
                if not allows_writes
                else ""
            )
            return told({"detail": f"there is no tool {params.name!r:.80}{hint}"}, is_error=True)
        try:
            fresh = replace(desk, uid=new_ulid(desk.link.clock.now_ms()))
            return told(await call_and_note(operation, fresh, params.arguments or {}, who=who))
        except Problem as problem:
            return told(problem.to_json(), is_error=True)

    return Server(
        "taskflow", version=version, instructions=HOW, on_list_tools=list_tools, on_call_tool=call_tool
    )


def told(answer: dict[str, Any], *, is_error: bool = False) -> types.CallToolResult:
    # Once more as text, for clients that read no structure.
    text = types.TextContent(type="text", text=orjson.dumps(answer).decode())
    return types.CallToolResult(content=[text], structured_content=answer, is_error=is_error)


async def serve_stdio(desk: Desk, *, allows_writes: bool, version: str) -> None:
    """Serve over stdin and stdout until stdin ends."""
    server = make_server(desk, allows_writes=allows_writes, version=version)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())
