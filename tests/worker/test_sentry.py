"""S13.4: a run that fails since processes died under it is reported to Sentry by the process that finds out."""

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from sentry_sdk.envelope import Envelope

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


class SentryServer:
    """Takes envelopes as Sentry does, and keeps the events in them."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        keeper = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                if (event := Envelope.deserialize(body).get_event()) is not None:
                    keeper.events.append(event)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.dsn = f"http://key@127.0.0.1:{self.server.server_port}/1"

    @contextmanager
    def serving(self) -> Iterator[None]:
        thread = threading.Thread(target=self.server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            self.server.shutdown()
            thread.join()
            self.server.server_close()


def test_a_run_whose_processes_died_is_reported_with_how_they_ended(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    sentry = SentryServer()
    with ValkeyServer() as server, sentry.serving():
        env = {"TASKFLOW_BROKER": server.url, "TASKFLOW_STORE": server.url, "DSN": sentry.dsn}
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
