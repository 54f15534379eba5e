"""`taskflow dev`: embedded store, worker and beat in one, with reload on change.

    DevServer ── EmbeddedValkey          .taskflow/valkey
              ├─ taskflow worker -B      a supervisor and its children; SIGHUP replaces them
              └─ probe                   imports the app before each (re)start, then ends

The probe stands between a change and the worker: if the new code can't be imported, its error is shown and the old code goes
on. If the probe reports other queues or URLs, which a running worker can't change, the whole worker is restarted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from taskflow.dev.directory import claimed_folder, write_info, write_private
from taskflow.dev.probe import AppFacts
from taskflow.dev.reload import changes, folder_to_watch, no_changes
from taskflow.dev.spawn import kill_session, spawn
from taskflow.dev.valkey import EmbeddedValkey
from taskflow.dev.web import WebProcess
from taskflow.observability.run_log import LIFE_LEVEL_VARIABLE
from taskflow.redis.address import redact
from taskflow.terminal.screen import Screen
from taskflow.values.dev_server import DevInfo, export_line
from taskflow.values.record import record

DRAIN_S = 5.0  # how long executing steps may take to end at a reload or at Ctrl-C
POLL_S = 0.05
PREFERRED_PORT = 6399  # the same port each time, so that an exported URL stays valid
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@record(kw_only=True)
class DevOptions:
    """The options of the command line."""

    target: str  # module[:app]
    port: int = 0  # of the embedded store; 0: any free one
    reload: bool = True
    processes: int = 1
    concurrency: int = 100
    durable: bool = False
    web_port: int = 8288  # 0: no web process
    opens: bool = False  # a browser, with the dashboard


class Stopping(threading.Event):
    """An event that the first signal to end sets; `count` is the number of such signals."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def on_signal(self, number: int, frame: object) -> None:
        self.count += 1
        self.set()


class DevServer:
    """The dev server: an embedded store, a worker with a beat, and reload on change.

    `run` serves until a signal says stop, and returns the exit code. Call it in the main thread. Raises ConfigError when the
    server can't start. `base` is the folder to work in.
    """

    def __init__(self, options: DevOptions, *, base: Path, screen: Screen) -> None:
        self.options = options
        self.base = base
        self.screen = screen
        self.stopping = Stopping()
        self.facts: AppFacts | None = None  # about the code that the worker runs
        self.worker: subprocess.Popen[bytes] | None = None
        self.web = WebProcess(options.web_port, opens=options.opens)

    def run(self) -> int:
        options = self.options
        with handled_signals(self.stopping), claimed_folder(self.base) as folder:
            self.folder = folder
            valkey = EmbeddedValkey(
                folder / "valkey", port=options.port, preferred_port=PREFERRED_PORT, durable=options.durable
            )
            with valkey as self.valkey:
                write_private(folder / "url", valkey.url.encode())
                self.announce(None)
                self.show_banner()
                try:
                    return self.serve()
                finally:
                    self.web.stop()
                    self.stop_worker()

    def serve(self) -> int:
        """Start the worker, then reload at each change, until the end."""
        watched = folder_to_watch(self.options.target, self.base)
        source = changes(watched, self.stopping) if self.options.reload else no_changes(self.stopping)
        changed = next(source, set())  # watch first, so that no change is missed while the app is read
        self.load(", ".join(sorted(path.name for path in changed)))
        if self.worker is None and not self.options.reload:
            return 1
        for changed in source:
            if self.stopping.is_set():
                break
            if changed:
                self.load(", ".join(sorted(path.name for path in changed)))
            if not self.valkey.is_running:
                self.say(f"the embedded Valkey has ended; its log:\n{self.valkey.log_end()}", "bad")
                return 1
            if self.worker is not None and self.worker.poll() is not None and not self.worker_ended():
                return 1
        self.say("stopping", "dim")
        return 0

    # The worker

    def load(self, changed: str) -> None:
        """Have the worker run the present code, if that can be imported."""
        facts = self.probe()
        if facts is None:
            return
        if self.worker is not None and facts == self.facts:
            self.say(f"{changed} changed: reloading", "accent")
            self.worker.send_signal(signal.SIGHUP)
            return
        if self.worker is not None:
            self.say(
                f"{changed} changed, and with it the app's queues or URLs: restarting the worker", "accent"
            )
            self.stop_worker()
        if facts != self.facts:
            self.facts = facts
            self.announce(facts)
            self.show_own_urls(facts)
            self.web.start(facts.app_id, cwd=self.base, env=self.environment_of(facts))
        self.start_worker(facts)

    def probe(self) -> AppFacts | None:
        """The facts of the app's present code; None if it can't be imported, and then the error is shown."""
        command = [sys.executable, "-P", "-m", "taskflow.dev.probe", self.options.target]
        process = spawn(command, cwd=self.base, env=self.environment, stdout=subprocess.PIPE)
        assert process.stdout is not None
        with process.stdout as answer, contextlib.suppress(InterruptedError):
            reply = answer.read() if self.ended_in_peace(process) else b""
        if self.stopping.is_set():
            return None
        try:
            told = orjson.loads(reply)
        except orjson.JSONDecodeError:
            told = {
                "error": {
                    "message": f"importing {self.options.target} ended the process (exit code {process.poll()})"
                }
            }
        if "facts" in told:
            return AppFacts(**told["facts"])
        goes_on = "the worker goes on with the old code" if self.worker is not None else "nothing runs"
        how = " until that is mended" if self.options.reload else ""
        self.say(f"{told['error']['message'].rstrip()}\n", "bad")
        self.say(f"{goes_on}{how}", "warn")
        return None

    def ended_in_peace(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait for a process to end; False if we are to stop before that, and then the process is killed."""
        while process.poll() is None:
            if self.stopping.is_set():
                kill_session(process)
                process.wait()
                return False
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_S)
        return True

    def start_worker(self, facts: AppFacts) -> None:
        options = self.options
        command = [
            *(
                sys.executable,
                "-P",
                "-m",
                "taskflow",
                "worker",
                "-A",
                options.target,
                "-B",
                "-Q",
                ",".join(facts.queues),
            ),
            *("--processes", str(options.processes), "--concurrency", str(options.concurrency)),
            *("--drain-timeout", f"{DRAIN_S}s", "--blocked-after", "1s"),
            # Code may stand in a debugger.
            *("--replace-after", "0s"),
        ]
        self.worker = spawn(command, cwd=self.base, env=self.environment)

    def worker_ended(self) -> bool:
        """Report that the worker ended by itself; return whether the next change may start it again."""
        assert self.worker is not None
        code = self.worker.wait()
        kill_session(self.worker)
        self.worker = None
        then = "; it starts again at the next change" if self.options.reload else ""
        self.say(f"the worker has ended with exit code {code}{then}", "bad")
        return self.options.reload

    def stop_worker(self) -> None:
        """Send SIGTERM, and SIGQUIT at once if a second signal came. When this returns, no process of the worker is left."""
        worker, self.worker = self.worker, None
        if worker is None:
            return
        give_up_s = time.monotonic() + DRAIN_S + 3.0
        if worker.poll() is None:
            worker.send_signal(signal.SIGTERM)
        is_hurried = False
        while worker.poll() is None and time.monotonic() < give_up_s:
            if self.stopping.count > 1 and not is_hurried:
                is_hurried = True
                worker.send_signal(signal.SIGQUIT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(POLL_S)
        kill_session(worker)
        worker.wait()

    @property
    def environment(self) -> dict[str, str]:
        servers = {"TASKFLOW_STORE": self.valkey.url, "TASKFLOW_BROKER": self.valkey.url}
        return {**os.environ, **servers, LIFE_LEVEL_VARIABLE: "1"}

    def environment_of(self, facts: AppFacts) -> dict[str, str]:
        """For a process that does not load the app: the servers that the app's code names."""
        servers = {"STORE": facts.store, "BROKER": facts.broker, "NAMESPACE": facts.namespace}
        return {**os.environ, **{f"TASKFLOW_{name}": value for name, value in servers.items()}}

    # Output

    def announce(self, facts: AppFacts | None) -> None:
        """Tell other commands in this folder how to reach this server."""
        url = self.valkey.url
        info = DevInfo(
            pid=os.getpid(), app=self.options.target, app_id=facts.app_id if facts else "",
            store=facts.store if facts else url, broker=facts.broker if facts else url,
            namespace=facts.namespace if facts else os.environ.get("TASKFLOW_NAMESPACE") or "tf",
        )  # fmt: skip
        write_info(self.folder, info)

    def show_banner(self) -> None:
        options = self.options
        processes = "1 process" if options.processes == 1 else f"{options.processes} processes"
        slots = f"{processes} with {options.concurrency} slots, and a beat"
        fsync = "fsync at every commit" if options.durable else "kept over restarts"
        rows = [
            (
                "web",
                self.web.problem
                or f"{self.web.url}  (dashboard, API and events; of Inngest's SDKs: INNGEST_DEV={self.web.url})",
            ),
            ("store", f"{redact(self.valkey.url)}  (.taskflow/valkey, {fsync})"),
            ("worker", slots),
            ("reload", "when a .py file changes" if options.reload else "off"),
            ("look", "taskflow runs list   (in this folder, no options needed)"),
            ("send", f"from other code: {export_line(self.base)}"),
            ("stop", "Ctrl-C"),
        ]
        self.screen.print_line([("taskflow dev", "bold"), ("  ·  ", "dim"), (options.target, "accent")])
        for name, value in rows:
            self.screen.print_line([(f"  {name:<8}", "dim"), (value, "")])
        self.screen.print_line()
        for name in ("TASKFLOW_BROKER", "TASKFLOW_STORE"):
            given = os.environ.get(name)
            if given and given != self.valkey.url:
                self.say(
                    f"{name} is exported here as {redact(given)}: the worker does not use it, but other commands of this shell do; "
                    f"unset {name}, and they find this server",
                    "warn",
                )

    def show_own_urls(self, facts: AppFacts) -> None:
        """Say that the app's code names its own servers, and so does not use the embedded one."""
        url = self.valkey.url
        own = [
            f"{name} {redact(given)}"
            for name, given in (("store", facts.store), ("broker", facts.broker))
            if given != url
        ]
        if own:
            self.say(
                f"the code of {facts.app_id} names its own {' and '.join(own)}, not the embedded Valkey",
                "warn",
            )
        if len(own) == 1:
            self.say(
                f"so store and broker are two servers: runs are kept in {redact(facts.store)}, and events go over "
                f"{redact(facts.broker)}. Name both in the code, or none",
                "warn",
            )

    def say(self, text: str, style: str) -> None:
        first, *others = text.splitlines()
        self.screen.print_line([("▸ ", style), (first, style)])
        for line in others:
            self.screen.print_line([("  ", ""), (line, "")])
        self.screen.stream.flush()


@contextmanager
def handled_signals(stopping: Stopping) -> Iterator[None]:
    """Within the block, signals to end set `stopping` instead of raising an exception anywhere."""
    # An ignored signal stays ignored: under nohup we survive the end of the terminal.
    ours = [
        number
        for number in SIGNALS
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {number: signal.signal(number, stopping.on_signal) for number in ours}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
