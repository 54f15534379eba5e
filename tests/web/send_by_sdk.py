"""Sends the events in argv[1] (JSON) with Inngest's SDK for Python, by both of its methods, and prints the ids, or the error."""

from __future__ import annotations

import asyncio
import json
import sys

import inngest


async def main() -> None:
    client = inngest.Inngest(app_id="storefront")
    first, *others = [inngest.Event(**event) for event in json.loads(sys.argv[1])]
    try:
        ids = [*client.send_sync(first), *(await client.send(others) if others else [])]
        told: dict[str, object] = {"ids": ids}
    except Exception as error:
        told = {"error": str(error)}
    sys.stdout.write(json.dumps(told))


asyncio.run(main())
