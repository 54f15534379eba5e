"""`taskflow blobs`: compares the object store with the runs whose values lie in it."""

from __future__ import annotations

import click

from taskflow.cli import Failure
from taskflow.codecs.blobs import Blobs
from taskflow.codecs.codecs import BlobPlace
from taskflow.commands.options import (
    Target,
    connection_options,
    find_target,
    json_option,
    open_store,
    print_json,
    run,
)
from taskflow.errors import ConfigError
from taskflow.runs.blob_check import BlobReport, check_blobs
from taskflow.terminal.screen import Screen, plain
from taskflow.values.sizes import format_size

SHOWN = 10


@click.group("blobs")
def command() -> None:
    """Compare the object store with the runs whose values lie in it."""


@command.command("check")
@click.option("--remove", is_flag=True, help="Remove the blobs that no run needs.")
@click.option(
    "--limit", default=1_000, show_default=True, type=click.IntRange(0, 1_000_000), metavar="N",
    help="Look at the newest N runs for blobs that are missing.",
)  # fmt: skip
@connection_options
@json_option
def check_command(
    remove: bool, limit: int, app: str | None, store: str | None, broker: str | None, namespace: str | None, as_json: bool
) -> None:  # fmt: skip
    """Find blobs that no run needs, and runs whose blobs are missing. Exit code 1 when blobs are missing.

    Beat removes the blobs of a run some minutes after the run, so a few that no run needs are no fault.
    """
    target = find_target(app, store, broker, namespace)
    report, removed = run(check(target, remove=remove, limit=limit))
    if as_json:
        print_json({**report.to_json(), "removed": removed})
    else:
        show(report, removed)
    if report.missing:
        raise Failure(f"{len(report.missing):,} blobs are missing: reruns from the start make them anew")


async def check(target: Target, *, remove: bool, limit: int) -> tuple[BlobReport, int]:
    place = place_of(target)
    blobs = Blobs(place.url, place.namespace)
    async with open_store(target) as (opened, _):
        report = await check_blobs(opened, blobs, await opened.registry.known_functions(), limit=limit)
        if not remove:
            return report, 0
        removed = await blobs.remove_all([orphan.path for orphan in report.orphans])
        for owner in {orphan.owner for orphan in report.orphans}:
            await opened.blob_owners.forget(owner)
        return report, removed


def place_of(target: Target) -> BlobPlace:
    place = target.config.blob_place
    if place is None:
        raise ConfigError(
            "there is no place for blobs: give -A, or set TASKFLOW_BLOBS to a URL like s3://bucket/prefix"
        )
    return place


def show(report: BlobReport, removed: int) -> None:
    screen = Screen.of_stdout()
    screen.print_line(plain(f"{report.blobs:,} blobs, {format_size(report.bytes)}"))
    if report.orphans:
        size = format_size(sum(orphan.size for orphan in report.orphans))
        done = f"; {removed:,} removed" if removed else "; --remove removes them"
        screen.print_line(
            plain(f"{len(report.orphans):,} of them, {size}, are needed by no run{done}", "warn")
        )
        for orphan in report.orphans[:SHOWN]:
            screen.print_line(plain(f"  {orphan.path}", "dim"))
    for run_id, path in report.missing[:SHOWN]:
        screen.print_line(plain(f"run {run_id} needs {path}, which is not there", "bad"))
