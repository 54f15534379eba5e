"""`python -m benchmarks.peers [NAMES] [--repeat 3] [--quick] [--json FILE] [--docs FOLDER]`: taskflow beside its peers."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path

import click

from benchmarks.machine import facts
from benchmarks.peers.document import table, write
from benchmarks.peers.figures import PeerTold, Told
from benchmarks.peers.peer import Peer
from benchmarks.peers.work import measure
from benchmarks.report import Scale, Unavailable
from tests.processes import REPOSITORY

NAMES = ("taskflow", "celery", "dramatiq", "huey", "taskiq", "taskiq_plain", "arq", "dbos", "restate")
RESULTS = REPOSITORY / "benchmarks" / "results"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option(
    "--repeat", default=3, show_default=True, type=click.IntRange(min=1), help="Repetitions of each peer."
)
@click.option("--quick", is_flag=True, help="Small amounts, to see that it works: the figures mean little.")
@click.option(
    "--json",
    "path",
    type=click.Path(path_type=Path),
    help="File for the JSON.  [default: benchmarks/results/peers-TIME.json]",
)
@click.option(
    "--docs",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the page and its plot.  [default: docs/, when all peers are measured and not --quick]",
)
@click.option(
    "--render",
    type=click.Path(path_type=Path, exists=True),
    help="Measure nothing: write the page again from this JSON.",
)
def main(
    names: tuple[str, ...],
    repeat: int,
    quick: bool,
    path: Path | None,
    docs: Path | None,
    render: Path | None,
) -> None:
    """Measure taskflow and its peers on this machine: all of them, or NAMES.

    A peer that can't be installed is left out, and the page says why.
    """
    if render is not None:
        click.echo(write(json.loads(render.read_text()), docs or REPOSITORY / "docs"))
        return
    # Both by way of an exception, so that what was started is stopped; a shell's background job ignores SIGINT otherwise.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    path = path or RESULTS / time.strftime("peers-%Y%m%d-%H%M%S.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    told = measure_all(names or NAMES, repeat, Scale(quick), path)
    click.echo("\n".join(table(told)))
    click.echo(f"\n{path}")
    if docs is not None or not (quick or names):
        click.echo(write(told, docs or REPOSITORY / "docs"))
    if any(peer["failed"] for peer in told["peers"].values()):
        sys.exit(1)


def measure_all(names: tuple[str, ...], repeat: int, scale: Scale, path: Path) -> Told:
    """Turn by turn, so that a busy minute of the machine hits one repetition of each; the JSON is kept after each."""
    peers = {name: find(name) for name in names}
    told = Told(
        measured=time.strftime("%Y-%m-%d"),
        is_quick=scale.is_quick,
        repeat=repeat,
        took_s=0.0,
        machine={name: str(value) for name, value in facts().items()},
        peers={name: prepare(peer) for name, peer in peers.items()},
    )
    started_s = time.monotonic()
    for turn in range(repeat):
        for name, peer in peers.items():
            if not told["peers"][name]["problem"]:
                measure_once(peer, told["peers"][name], scale, f"{name} {turn + 1}/{repeat}")
            told["took_s"] = time.monotonic() - started_s
            path.write_text(json.dumps(told, indent=2) + "\n")
    return told


def find(name: str) -> Peer:
    found = import_module(f"benchmarks.peers.{name}").PEER
    assert isinstance(found, Peer)
    return found


def prepare(peer: Peer) -> PeerTold:
    """Install it, and say what it is."""
    problem, versions = "", {}
    sys.stderr.write(f"{peer.name}: preparing its environment\n")
    try:
        peer.environment.install()
        versions = dict(peer.environment.versions(peer.distributions))
    except Unavailable as reason:
        problem = str(reason)
    return PeerTold(
        title=peer.title,
        versions=versions,
        flags=peer.flags,
        amounts=dataclasses.asdict(peer.amounts),
        works=sorted(peer.works),
        notes=peer.notes,
        problem=problem,
        failed={},
        figures={},
    )


def measure_once(peer: Peer, told: PeerTold, scale: Scale, title: str) -> None:
    started_s = time.monotonic()
    try:
        measured = measure(peer, scale)
    except Exception as error:  # the other peers are measured all the same
        traceback.print_exc()
        told["failed"]["start"] = str(error) or type(error).__name__
        return
    for key, value in measured.figures.items():
        told["figures"].setdefault(key, []).append(value)
    told["failed"] |= measured.problems
    sys.stderr.write(f"{title}: {time.monotonic() - started_s:.1f} s\n")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.peers")
