"""A real web server for a test, in its loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn


@asynccontextmanager
async def served(site: Any) -> AsyncIterator[str]:
    """Serve an ASGI app on a free port of this machine; gives its address."""
    server = uvicorn.Server(uvicorn.Config(site, port=0, log_level="warning", lifespan="off"))
    # Not `serve`, which takes over the signals of the process.
    serving = asyncio.ensure_future(server._serve())
    while not server.started:
        assert not serving.done(), "the server has ended"
        await asyncio.sleep(0.001)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
