"""The web process of `taskflow dev`: `taskflow web --dev`, where its port is free and its extra is installed. Rule S14.2."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from taskflow.dev.spawn import kill_session, spawn

NEEDED = ("starlette", "uvicorn", "jinja2")
STOP_S = 3.0


class WebProcess:
    """Serves the API and the event API on a port of this machine. `problem` says why it can't; empty if it can."""

    def __init__(self, port: int, *, opens: bool = False) -> None:
        self.port = port
        self.opens = opens  # whether its first start opens a browser
        self.problem = find_problem(port)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def start(self, app_id: str, *, cwd: Path, env: Mapping[str, str]) -> None:
        """Start it, or start it anew with other servers. Does nothing when it can't be started."""
        self.stop()
        if not self.problem:
            command = [
                sys.executable,
                "-P",
                "-m",
                "taskflow",
                "web",
                "--dev",
                "--port",
                str(self.port),
                "--app",
                app_id,
                *(["--open"] if self.opens else []),
            ]
            self.opens = False
            self.process = spawn(command, cwd=cwd, env=env, stdout=subprocess.DEVNULL)

    def stop(self) -> None:
        """When this returns, no process is left."""
        process, self.process = self.process, None
        if process is None:
            return
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        kill_session(process)
        process.wait()


def find_problem(port: int) -> str:
    if port == 0:
        return "off"
    if any(find_spec(name) is None for name in NEEDED):
        return "not installed: pip install 'taskflow-durable[web]'"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return f"off: port {port} is taken; --web-port N chooses another"
    return ""
