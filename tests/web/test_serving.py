"""`taskflow web` as a process. Rule S14.2."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.commands.shell import Shell
from tests.processes import clean_environment, wait_until


def start(shell: Shell, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    """A `taskflow web` that serves, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "taskflow", "web", "--port", "0", *arguments],
        env=clean_environment(dict(shell.env)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://\S+", line)
    assert found, line + process.stdout.read()
    return process, found[0]


def test_it_serves_until_it_is_told_to_stop(shell: Shell) -> None:
    process, url = start(shell, "--dev", "--prefix", "/tf", "--app", "shop")
    with process:
        assert url.endswith("/tf")
        assert httpx.get(f"{url}/health").json() == {"status": 200, "message": "OK"}
        assert httpx.get(f"{url}/api/v1/overview").json()["workers"] == 0
        assert httpx.post(f"{url}/e/x", json={"name": "a"}).json()["unheard"] == ["a"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) in (0, -signal.SIGTERM)
        assert process.stdout is not None
        assert "Traceback" not in process.stdout.read()


def test_without_dev_it_asks_for_keys(shell: Shell) -> None:
    key = shell.run("keys", "create", "grafana", "--scope", "read").stdout.strip()
    process, url = start(shell)
    with process:
        assert httpx.get(f"{url}/api/v1/overview").status_code == 401
        outcome = shell.run("api", "overview", "--url", url, "--key", key)
        assert (outcome.code, outcome.json["workers"]) == (0, 0)
        refused = shell.run("api", "keys.list", "--url", url, "--key", key)
        assert (refused.code, "scope admin" in refused.stderr) == (1, True)
        process.terminate()


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (("--dev", "--host", "0.0.0.0"), 2, "listens on this machine only"),
        (("--host", "0.0.0.0"), 1, "there is no key yet"),
        (("--prefix", "a b"), 2, "--prefix must be a path"),
        (("--host", "nowhere.invalid"), 1, "can't listen on nowhere.invalid"),
    ],
)
def test_what_would_be_open_or_can_not_be_served_is_refused(
    shell: Shell, arguments: tuple[str, ...], code: int, part: str
) -> None:
    outcome = shell.run("web", "--port", "0", *arguments)
    assert (outcome.code, part in outcome.stderr) == (code, True), outcome.stderr


def test_it_opens_the_dashboard_in_a_browser(shell: Shell, tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    # Written whole, then named, so that what is there can be read.
    browser.write_text(f'#!/bin/sh\necho "$1" >{opened}.new && mv {opened}.new {opened}\n')
    browser.chmod(0o755)
    process, url = start(Shell({**shell.env, "BROWSER": f"{browser} %s"}), "--dev", "--open")
    with process:
        wait_until(lambda: opened.exists() or None, what="the browser was asked for a page")
        process.terminate()
    assert opened.read_text().strip() == url


def test_a_port_that_is_taken_is_an_error(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        outcome = shell.run("web", "--port", str(taken.getsockname()[1]))
    assert outcome.code == 1
    assert "can't listen on 127.0.0.1" in outcome.stderr


def test_the_command_line_says_what_answers_at_an_address(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    outcome = shell.run("api", "overview", "--url", f"http://127.0.0.1:{port}")
    assert (outcome.code, "no taskflow web answers" in outcome.stderr) == (1, True)
    assert shell.run("api", "overview", "--url", "ftp://x").code == 1
