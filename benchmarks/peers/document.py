"""docs/benchmarks.md and its plot, written from one measurement as data."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers.figures import FIGURES, Figure, PeerTold, Told, best, measured_peers, medians
from benchmarks.peers.plot import svg
from benchmarks.report import number

NAME, PLOT = "benchmarks.md", "benchmarks.svg"
AMOUNTS = {
    "drained": "tasks drained",
    "live": "tasks executed while they are sent",
    "loaded_runs": "runs of ten steps under load",
    "timers": "timers",
    "waits": "waiting runs",
}
AMOUNTS_BY_WORK = {
    "drained": "drain",
    "live": "live",
    "loaded_runs": "load",
    "timers": "timers",
    "waits": "waits",
}

METHOD = """\
Every peer gets the same work in the same session of the same machine, in turns: one repetition of each, then the next of each.
A repetition starts everything anew: an empty store, the peer's processes, and a client process that sends.

- **What is timed.** A task writes a mark of 24 bytes into a file in memory at the moment that counts (about 1 us, for all
  alike). All times come from these marks, so nothing hangs on what a peer tells of itself. The clock is CLOCK_MONOTONIC.
- **The store** of taskflow, Celery, Dramatiq, huey, taskiq and arq is the same embedded Valkey: TCP on loopback, AOF with
  `appendfsync everysec`. DBOS and Restate bring stores of their own, which sync every commit.
- **Drained**: the workers are stopped by SIGSTOP while the tasks are sent, and the clock runs from SIGCONT to the last task's
  line; CPU from SIGCONT until 0.2 s after it. **Sent**: the same sends, while nobody else works.
- **Sent and executed meanwhile**: the same sends, to workers that run: from the first call that sends to the first line
  of the last task.
- **Sent to started**: one task each 5 to 25 ms, from the call that sends to the task's first line.
- **Steps**: ten steps in a row that do nothing, from the handler's first line to the line after the last step; under load, all
  runs lie ready as above. Only for peers with durable steps: a plain queue has nothing that corresponds.
- **Joined**: a hundred parallel steps of one run, and a hundred tasks of their own; from the call that sends to the line after
  the join.
- **Timers**: set before, all due at the same millisecond.
- **Resumed**: each run waits for an event of its own; the events are sent one by one as fast as one thread can.
- **Memory** is PSS, what processes share counted once, after a hundred tasks. A deployment is all that runs but the store or
  server: workers, their parents, taskflow's beat, taskiq's scheduler.
- **Amounts** differ where a slower peer would take minutes; they are given with each peer."""


def write(told: Told, folder: Path) -> Path:
    """Write both files into the folder; give the path of the text."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PLOT).write_text(svg(told))
    path = folder / NAME
    path.write_text(render(told))
    return path


def render(told: Told) -> str:
    """The page as Markdown."""
    parts = [
        "# Benchmarks\n\n<!-- Written by `make bench-peers`. What is changed here by hand is lost at its next run. -->\n",
        introduction(told),
        f"![taskflow and its peers]({PLOT})\n",
        "## Figures\n\n" + "\n".join(table(told)) + "\n",
        "## Where taskflow is not the best\n\n" + "\n".join(losses(told)) + "\n",
        "## What to know about each\n\n" + "\n".join(caveats(told)) + "\n",
        "## How it is measured\n\n" + METHOD + "\n",
        "## The machine\n\n" + "\n".join(machine(told)) + "\n",
        "## Run it again\n\n" + RUN_AGAIN,
    ]
    return "\n".join(parts)


RUN_AGAIN = """\
    make bench-peers                                       # all, three times each; writes this page and its plot
    python -m benchmarks.peers taskflow celery --repeat 5  # some of them; prints a table and keeps the JSON
    python -m benchmarks.peers --quick                     # small amounts, to see that it works: the figures mean little
    python -m benchmarks.peers --render FILE               # writes this page again from a JSON

The command makes an environment for each peer in `.venv-peers/`, with the versions above. `make bench` measures taskflow alone, in
more ways, and against its own targets.
"""


def introduction(told: Told) -> str:
    titles = [peer["title"] for name, peer in measured_peers(told).items() if name != "taskflow"]
    subject = f"shows taskflow beside {', '.join(titles)}" if titles else "shows taskflow alone"
    paragraphs = [
        (
            f"This page {subject}: the same work, each as its own docs recommend for two cores. The figures are medians "
            f"of {told['repeat']}, with the least and the greatest, measured on {told['measured']} in "
            f"{told['took_s'] / 60:.0f} minutes."
        )
    ]
    if told["is_quick"]:
        paragraphs.append("**Measured with `--quick`: the amounts are tiny, and the figures mean little.**")
    paragraphs += [
        f"Left out: {peer['title']}. {one_line(peer['problem'] or peer['failed'].get('start', ''))}"
        for peer in told["peers"].values()
        if not peer["figures"]
    ]
    return "\n\n".join(paragraphs) + "\n"


def one_line(words: str) -> str:
    return " ".join(words.split())[:200]


def table(told: Told) -> Iterator[str]:
    peers = measured_peers(told)
    yield "| | " + " | ".join(peer["title"] for peer in peers.values()) + " |"
    yield "|---|" + "---:|" * len(peers)
    for figure in FIGURES:
        values = medians(told, figure)
        if not values:
            continue
        arrow = "↑" if figure.is_more_better else "↓"
        cells = [
            cell(peer, figure, is_best=values.get(name) == best(values, figure))
            for name, peer in peers.items()
        ]
        yield f"| {figure.says} ({figure.unit}) {arrow} | " + " | ".join(cells) + " |"
    yield ""
    yield "↑ more is better, ↓ less is better; the best of a line is bold. `–`: the peer has no such thing."


def cell(peer: PeerTold, figure: Figure, *, is_best: bool) -> str:
    values = peer["figures"].get(figure.key)
    if not values:
        return "failed" if figure.work in peer["failed"] else "–"
    median = number(statistics.median(values))
    shown = f"**{median}**" if is_best else median
    return (
        f"{shown}<br><sub>{number(min(values))} to {number(max(values))}</sub>" if len(values) > 1 else shown
    )


def losses(told: Told) -> Iterator[str]:
    """A line for each figure that another peer leads."""
    peers, count = told["peers"], 0
    for figure in FIGURES:
        values = medians(told, figure)
        if "taskflow" not in values or values["taskflow"] == best(values, figure):
            continue
        count += 1
        ahead = sorted(
            (name for name in values if is_better(values[name], values["taskflow"], figure)),
            key=lambda name: values[name],
            reverse=figure.is_more_better,
        )
        others = ", ".join(f"{peers[name]['title']} {number(values[name])}" for name in ahead)
        yield f"- {figure.says}: {others}; taskflow {number(values['taskflow'])} {figure.unit}."
    if not count:
        yield "Nowhere among these figures."


def is_better(value: float, than: float, figure: Figure) -> bool:
    return value > than if figure.is_more_better else value < than


def caveats(told: Told) -> Iterator[str]:
    says = {figure.key: figure.says for figure in FIGURES}
    for peer in measured_peers(told).values():
        versions = ", ".join(f"{name} {version}" for name, version in peer["versions"].items())
        yield f"### {peer['title']}\n"
        yield f"{versions}. Run as:\n"
        yield from (f"- {flag}" for flag in peer["flags"])
        amounts = [
            f"{peer['amounts'][key]:,} {words}"
            for key, words in AMOUNTS.items()
            if AMOUNTS_BY_WORK[key] in peer["works"]
        ]
        yield f"\nAmounts: {', '.join(amounts)}.\n"
        yield from (f"- {says[key] + ': ' if key else ''}{words}" for key, words in peer["notes"])
        repeats = sum(peer["figures"].get("repeats", []))
        if repeats:
            yield f"- {repeats:,.0f} tasks were executed more than once."
        yield from (f"- Failed: {work}: {one_line(why)}" for work, why in peer["failed"].items())
        yield ""


def machine(told: Told) -> Iterator[str]:
    yield "| | |"
    yield "|---|---|"
    yield from (f"| {name.replace('_', ' ')} | {value} |" for name, value in told["machine"].items())
    yield ""
    yield (
        "Workers, store and client share these cores, so the CPU time of all of them together bounds what a peer can do. On a "
        "larger machine the order may differ."
    )
