"""Restate: its server, one node as it starts by default, and hypercorn with two processes that serve the handlers."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers.environment import Environment
from benchmarks.peers.peer import Amounts, Deployment, Peer, Site, port_in
from benchmarks.peers.work import DURABLE
from tests.servers import free_port

ENVIRONMENT = Environment(
    name="restate",
    packages=("restate-sdk[client]==1.3.0", "hypercorn==0.18.0"),
    npm_packages=("@restatedev/restate-server@1.7.12",),
)
# npm brings the binary for this machine; the package's own command only looks for it.
BINARIES = "@restatedev/restate-server-*/bin/restate-server"


@contextmanager
def start(site: Site) -> Iterator[Deployment]:
    ingress, admin, services = port_in(site.env, "BENCH_INGRESS"), free_port(), free_port()
    env = {
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
        "RESTATE_BIND_ADDRESS": f"127.0.0.1:{free_port()}",
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_DISABLE_TELEMETRY": "true",
        "RESTATE_LOG_FILTER": "warn,restate_admin=info,restate_ingress_http=info",
    }
    server_command: list[str | Path] = [
        server_binary(),
        "--base-dir",
        site.folder / "restate",
        "--node-name",
        "bench",
    ]
    hypercorn: list[str | Path] = [
        ENVIRONMENT.script("hypercorn"),
        "benchmarks.peers.apps.restate_app:app",
        "--workers",
        "2",
    ]
    bind = ["--bind", f"127.0.0.1:{services}"]
    with (
        site.process(
            server_command, is_ready=lambda log: answers(f"http://127.0.0.1:{admin}/health"), env=env
        ) as server,
        site.process([*hypercorn, *bind], is_ready=lambda log: log.count("Running on") >= 2) as workers,
    ):
        register(admin, services)
        yield Deployment(workers=[workers], servers=[server])


def server_binary() -> str:
    found = sorted(ENVIRONMENT.npm_file("").glob(BINARIES))
    if not found:
        raise RuntimeError("npm installed no restate-server for this kind of machine")
    return str(found[0])


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def register(admin_port: int, services_port: int) -> None:
    """Tell the server where the handlers are."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{admin_port}/deployments",
        data=json.dumps({"uri": f"http://127.0.0.1:{services_port}"}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10):
        pass


PEER = Peer(
    name="restate",
    title="Restate",
    environment=ENVIRONMENT,
    distributions=("restate-sdk", "hypercorn"),
    app="restate_app",
    flags=(
        "`restate-server`, one node, all as by default: 24 partitions, each write synced to disk",
        "`hypercorn app:app --workers 2`",
    ),
    works=DURABLE,
    amounts=Amounts(drained=1_000, live=1_000, loaded_runs=300, waits=500),
    notes=(
        ("", "Its server syncs each write to disk; Valkey is synced once a second here."),
        ("drained_per_s", "Sent with an idempotency key, so that the result is kept for a day."),
        ("group_ms", "A hundred calls of another handler, joined in the handler."),
        (
            "resumed_per_s",
            "A workflow's durable promise, resolved by a call of another handler of the same workflow.",
        ),
        ("server_pss_mb", "The server; RocksDB may take up to 2 GiB as it is configured by default."),
    ),
    start=start,
)
