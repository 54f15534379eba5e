"""S13.4: a run that fails since processes died under it is reported to Sentry by the process that finds out."""

from __future__ import annotations

import gzip
import subprocess
import sys
from email.message import Message
from pathlib import Path
from typing import Any

from sentry_sdk.envelope import Envelope

from tests.post_server import post_server
from tests.processes import TaskflowProcess, wait_until
from tests.servers import ValkeyServer

SHOP = """
import os, signal, sys
import sentry_sdk
from taskflow import Sentry, TaskFlow

sentry_sdk.init(dsn=os.environ["DSN"])
app = TaskFlow("shop", max_crashes=1, middleware=[Sentry()])

@app.function(trigger="shop/order")
async def fulfil(ctx, step):
    await step.run("charge", os.kill, os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    print(app.send("shop/order"))
"""


class SentryEvents:
    """Takes envelopes as Sentry does, and keeps the events in them."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def take(self, headers: Message, body: bytes) -> bytes:
        if headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        if (event := Envelope.deserialize(body).get_event()) is not None:
            self.events.append(event)
        return b"{}"


def test_a_run_whose_processes_died_is_reported_with_how_they_ended(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    sentry = SentryEvents()
    with ValkeyServer() as server, post_server(sentry.take) as address:
        env = {"TASKFLOW_BROKER": server.url, "TASKFLOW_STORE": server.url, "DSN": f"http://key@{address}/1"}
        arguments = ("worker", "-A", "shop", "--processes", "1", "-B")
        with TaskflowProcess(*arguments, cwd=tmp_path, env=env) as worker:
            worker.wait_for_line("is ready")
            subprocess.run([sys.executable, "shop.py"], cwd=tmp_path, env=env, check=True)
            wait_until(lambda: sentry.events, what="the report", deadline_s=40)
            assert worker.stop() == 0
    (event,) = sentry.events
    error = event["exception"]["values"][-1]
    assert error["type"] == "WorkerLost" and "SIGKILL" in error["value"]
    assert event["tags"]["taskflow.function_id"] == "shop/fulfil" and event["tags"]["taskflow.run_id"]
