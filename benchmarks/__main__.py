"""`python -m benchmarks [NAMES] [--repeat 3] [--json FILE] [--quick]`: measure, print a table, keep the JSON."""

from __future__ import annotations

import json
import signal
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path

import click

from benchmarks.machine import facts
from benchmarks.report import Benchmark, Outcome, Scale, Unavailable, as_json, table

NAMES = (
    "drain",
    "tasks",
    "stages",
    "produce",
    "web",
    "realtime",
    "steps",
    "parallel",
    "wide",
    "start",
    "live",
    "latency",
    "timers",
    "sleepers",
    "waits",
    "footprint",
    "flow",
    "history",
    "expressions",
    "codecs",
)
RESULTS = Path(__file__).parent / "results"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option(
    "--repeat",
    default=3,
    show_default=True,
    type=click.IntRange(min=1),
    help="Repetitions of each benchmark.",
)
@click.option(
    "--json",
    "path",
    type=click.Path(path_type=Path),
    help="File for the JSON.  [default: benchmarks/results/TIME.json]",
)
@click.option(
    "--quick", is_flag=True, help="Small amounts, to see that a benchmark works: the figures mean little."
)
def main(names: tuple[str, ...], repeat: int, path: Path | None, quick: bool) -> None:
    """Measure taskflow on this machine: all benchmarks, or those of NAMES.

    Medians are shown, with the least and the greatest. A figure that misses its target is no failure of the command;
    a benchmark that breaks is.
    """
    # Both by way of an exception, so that what was started is stopped; a shell's background job ignores SIGINT otherwise.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    machine = facts()
    for name, value in machine.items():
        click.echo(f"{name:12} {value}")
    outcomes = [Outcome(find(name)) for name in names or NAMES]
    # Turn by turn, so that a busy minute of the machine hits one repetition of each, not all of one.
    path = path or RESULTS / time.strftime("%Y%m%d-%H%M%S.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    for number in range(repeat):
        for outcome in outcomes:
            repeat_once(outcome, Scale(quick), f"{outcome.benchmark.name} {number + 1}/{repeat}")
            # After each, for whoever interrupts a long measurement.
            path.write_text(json.dumps(as_json(outcomes, {**machine, "is_quick": quick}), indent=2) + "\n")
    click.echo(f"\n{table(outcomes)}\n\n{path}")
    if any(outcome.problem.startswith("failed") for outcome in outcomes):
        sys.exit(1)


def find(name: str) -> Benchmark:
    found = import_module(f"benchmarks.{name}").BENCHMARK
    assert isinstance(found, Benchmark)
    return found


def repeat_once(outcome: Outcome, scale: Scale, title: str) -> None:
    if outcome.problem:
        return
    started_s = time.monotonic()
    try:
        outcome.repetitions.append(outcome.benchmark.measure(scale))
    except Unavailable as reason:
        outcome.problem = str(reason)
    except Exception as error:  # the others are measured all the same
        traceback.print_exc()
        outcome.problem = f"failed: {error}"
    sys.stderr.write(f"{title}: {time.monotonic() - started_s:.1f} s\n")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
