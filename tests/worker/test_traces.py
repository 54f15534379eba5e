"""S13.2: the spans of a run that several processes execute, one of which dies, are one tree at the collector."""

from __future__ import annotations

import subprocess
import sys
from email.message import Message
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.post_server import post_server
from tests.processes import TaskflowProcess, wait_until
from tests.servers import ValkeyServer

SHOP = """
import os, signal
from pathlib import Path
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from taskflow import OpenTelemetry, TaskFlow

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=os.environ["COLLECTOR"])))
trace.set_tracer_provider(provider)
app = TaskFlow("shop", middleware=[OpenTelemetry()])

def dies_once():
    mark = Path(__file__).parent / "died"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)

@app.function(trigger="shop/order")
async def fulfil(ctx, step):
    await step.run("reserve", len, "abc")
    await step.sleep("a while", "1s")
    await step.run("charge", dies_once)
    return await step.invoke("receipt", function=receipt)

@app.function()
def receipt(ctx, step):
    return step.run("print", len, "abc")

if __name__ == "__main__":
    app.send("shop/order")
"""


class Collector:
    """Takes spans over OTLP/HTTP, as a collector does, and keeps them."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def take(self, headers: Message, body: bytes) -> bytes:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return b""

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


def test_a_run_whose_process_dies_after_a_sleep_is_one_tree_without_doubles(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    collector = Collector()
    with ValkeyServer() as server, post_server(collector.take) as address:
        env = {
            "TASKFLOW_BROKER": server.url,
            "TASKFLOW_STORE": server.url,
            "COLLECTOR": f"http://{address}/v1/traces",
        }
        arguments = ("worker", "-A", "shop", "--processes", "1", "-B")
        with TaskflowProcess(*arguments, cwd=tmp_path, env=env) as worker:
            worker.wait_for_line("is ready")
            subprocess.run([sys.executable, "shop.py"], cwd=tmp_path, env=env, check=True)
            wait_until(lambda: collector.named("run shop/fulfil"), what="the run's span", deadline_s=40)
            assert worker.stop() == 0

    names = {span.span_id: span.name for span in collector.spans}
    assert len(names) == len(collector.spans)
    assert len({span.trace_id for span in collector.spans}) == 1
    tree = {(span.name, names.get(span.parent_span_id, "")) for span in collector.spans}
    assert tree == {
        ("send shop/order", ""),
        ("queue shop/fulfil", "send shop/order"),
        ("run shop/fulfil", "send shop/order"),
        ("activation shop/fulfil", "run shop/fulfil"),
        ("step reserve", "run shop/fulfil"),
        ("step charge", "run shop/fulfil"),
        ("queue shop/receipt", "run shop/fulfil"),
        ("run shop/receipt", "run shop/fulfil"),
        ("activation shop/receipt", "run shop/receipt"),
        ("step print", "run shop/receipt"),
    }
    workers = {
        attribute.value.string_value
        for span in collector.named("activation shop/fulfil")
        for attribute in span.attributes
        if attribute.key == "taskflow.worker"
    }
    assert len(workers) >= 2
