"""How soon a worker executes: from the start of its process to the first line of a task that waits already; Dramatiq in turns.

Each start is of a worker with two processes on a store that knows the app, as after a deploy. And the CPU time of imports.
"""

from __future__ import annotations

import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import cpu_s
from benchmarks.peers import dramatiq, taskflow
from benchmarks.peers.marks import Kind
from benchmarks.peers.peer import Client, Peer, Site, stop, tree
from benchmarks.report import Benchmark, Figures, Row, Scale, Unavailable, at_least, at_most
from tests.processes import clean_environment
from tests.servers import spawn

ROUNDS = 10
DEADLINE_S = 60.0
POLL_S = 0.003
IMPORTS = {
    "import_ms": "import taskflow",
    "import_app_ms": "from taskflow import TaskFlow",
    "import_cli_ms": "import taskflow.cli",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Starter:
    """A peer whose worker is started again and again on one store."""

    peer: Peer
    site: Site
    client: Client
    command: Sequence[str | Path]

    def start_once(self, number: int) -> Mapping[str, float]:
        """Send a task, then start the worker; the clock runs until the task's first line."""
        self.client.call("noop", number)
        with (self.site.folder / "log").open("wb") as log:
            started_ns = time.monotonic_ns()
            process = spawn(
                [str(part) for part in self.command],
                env=clean_environment(self.site.env),
                cwd=self.site.folder,
                log=log.fileno(),
            )
        try:
            used_s = 0.0
            give_up_s = time.monotonic() + DEADLINE_S
            while self.site.marks.missing(Kind.NOOP, range(number, number + 1)):
                if process.poll() is not None or time.monotonic() > give_up_s:
                    raise RuntimeError(f"{self.peer.title}: the task was not executed: {self.log_tail()}")
                time.sleep(POLL_S)
            with suppress(FileNotFoundError):  # a process of the tree that has just ended
                used_s = cpu_s(tree(process.pid))
        finally:
            process.send_signal(signal.SIGTERM)
            stop(process)
        (first_line_ns,) = self.site.marks.of(Kind.NOOP, range(number, number + 1))
        return {"ms": (first_line_ns - started_ns) / 1e6, "cpu_ms": used_s * 1000}

    def log_tail(self) -> str:
        return (self.site.folder / "log").read_text(errors="replace")[-1500:]


def measure(scale: Scale) -> Figures:
    return measure_starts(("taskflow", "dramatiq"), scale) | measure_imports(scale.pick(20, 3))


def measure_starts(names: Sequence[str], scale: Scale) -> dict[str, float]:
    """Medians of the rounds, in which the peers take turns; one that can't be installed here has no figures."""
    rounds: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    with ExitStack() as stack:
        starters = {}
        for name in names:
            with suppress(Unavailable):
                starters[name] = stack.enter_context(STARTERS[name]())
        for number in range(1 + scale.pick(ROUNDS, 1)):
            for name, starter in starters.items():
                measured = starter.start_once(number)
                if number:  # the first one writes the bytecode, and registers the app
                    rounds[name].append(measured)
    figures = {
        f"{name}_{key}": statistics.median(each[key] for each in measured)
        for name, measured in rounds.items()
        for key in ("ms", "cpu_ms")
    }
    if len(rounds) == 2:
        ours, its = rounds.values()
        ratios = [theirs["ms"] / mine["ms"] for mine, theirs in zip(ours, its, strict=True)]
        figures["to_dramatiq"] = statistics.median(ratios)
    return figures


@contextmanager
def taskflow_starter() -> Iterator[Starter]:
    with starter_of(taskflow.PEER, [*taskflow.TASKFLOW, *taskflow.WORKER]) as starter:
        yield starter


@contextmanager
def dramatiq_starter() -> Iterator[Starter]:
    dramatiq.ENVIRONMENT.install()
    with starter_of(dramatiq.PEER, [dramatiq.ENVIRONMENT.script("dramatiq"), *dramatiq.WORKER]) as starter:
        yield starter


STARTERS = {"taskflow": taskflow_starter, "dramatiq": dramatiq_starter}


@contextmanager
def starter_of(peer: Peer, command: Sequence[str | Path]) -> Iterator[Starter]:
    with Site() as site, site.valkey() as valkey:
        site.env |= {"TASKFLOW_BROKER": valkey.url, "TASKFLOW_STORE": valkey.url}
        site.env |= cached_bytecode(site.folder)
        with site.client(peer) as client:
            yield Starter(peer=peer, site=site, client=client, command=command)


def cached_bytecode(folder: Path) -> dict[str, str]:
    """What is imported is compiled once, as it is where a package is installed, whatever this environment says."""
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}


def measure_imports(repetitions: int) -> dict[str, float]:
    """CPU time of each import over that of an interpreter that does nothing, in turns; medians."""
    with tempfile.TemporaryDirectory(prefix="taskflow-bytecode-") as folder:
        env = clean_environment(cached_bytecode(Path(folder)))
        for code in IMPORTS.values():
            cpu_of(code, env)
        took_ms: dict[str, list[float]] = defaultdict(list)
        for _ in range(repetitions):
            bare_ms = cpu_of("pass", env)
            for key, code in IMPORTS.items():
                took_ms[key].append(cpu_of(code, env) - bare_ms)
    return {key: statistics.median(values) for key, values in took_ms.items()}


def cpu_of(code: str, env: Mapping[str, str]) -> float:
    """CPU time in ms of an interpreter that executes the code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-P", "-c", code], env=dict(env), check=True, cwd=os.sep)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


BENCHMARK = Benchmark(
    name="start",
    rows=(
        Row("taskflow_ms", "taskflow: start of the worker to the first line of a waiting run", "ms"),
        Row("dramatiq_ms", "Dramatiq: the same", "ms"),
        Row("to_dramatiq", "Dramatiq's time to ours, median of the rounds", "x", at_least(1)),
        Row("taskflow_cpu_ms", "taskflow: CPU of the worker until then", "ms"),
        Row("dramatiq_cpu_ms", "Dramatiq: the same", "ms"),
        Row("import_ms", "CPU of `import taskflow` over a bare interpreter", "ms", at_most(60)),
        Row("import_app_ms", "CPU of `from taskflow import TaskFlow`", "ms", at_most(60)),
        Row("import_cli_ms", "CPU of the command line, before a command", "ms"),
    ),
    measure=measure,
)
