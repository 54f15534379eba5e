"""S13.1, S13.3: the probes and metrics of `taskflow web`, with a real process and a real store."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.health import ask, wait_for
from tests.observability.prometheus import scrape
from tests.processes import TaskflowProcess, wait_until
from tests.servers import ValkeyServer, free_port


def test_it_is_ready_while_the_store_answers_and_counts_its_answers(tmp_path: Path) -> None:
    port, health = free_port(), free_port()
    url = f"http://127.0.0.1:{port}/tf"
    with ValkeyServer(aof=True) as server:
        env = {"TASKFLOW_BROKER": server.url, "TASKFLOW_STORE": server.url}
        arguments = ("web", "--port", str(port), "--health-port", str(health), "--dev", "--app", "shop")
        with TaskflowProcess(*arguments, "--prefix", "/tf", cwd=tmp_path, env=env):
            wait_for(health, "/readyz", 200)
            assert ask(health, "/startupz")[0] == ask(health, "/livez")[0] == 200
            assert httpx.post(f"{url}/e/x", json={"name": "a"}).status_code == 200
            assert httpx.get(f"{url}/api/v1/overview").status_code == 200
            assert httpx.get(f"{url}/nowhere").status_code == 404
            found = scrape(health)
            requests = "taskflow_web_requests_total"
            assert found.value(requests, part="events", method="POST", status="200") == 1
            assert found.value(requests, part="api", method="GET", status="200") == 1
            assert found.value(requests, part="pages", method="GET", status="404") == 1
            assert found.value("taskflow_web_request_seconds_count", part="api") == 1
            assert found.value("taskflow_ready") == 1

            server.kill()
            wait_for(health, "/readyz", 503)
            assert ask(health, "/livez")[0] == 200
            server.restart()
            wait_until(
                lambda: ask(health, "/readyz")[0] == 200, what="the web to be ready again", deadline_s=30
            )
