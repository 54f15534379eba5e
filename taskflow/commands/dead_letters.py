"""`taskflow dead-letters`: lists broker messages that could not be read, and events that a function did not take."""

from __future__ import annotations

from collections.abc import Sequence

import click

from taskflow.commands.options import (
    connection_options,
    find_target,
    json_option,
    limit_option,
    look,
    print_json,
)
from taskflow.runs.reasons import Moment
from taskflow.terminal.screen import Screen, plain
from taskflow.values.text import short
from taskflow.values.times import date_and_time, relative
from taskflow.web.catalogue.overview import DeadLetterJson, letter_json

BODY_CHARS = 200


@click.command("dead-letters")
@limit_option(10_000)
@connection_options
@json_option
def command(
    limit: int, app: str | None, store: str | None, broker: str | None, namespace: str | None, as_json: bool
) -> None:
    """List messages that could not be read, and events that did not fit their model (S11.2), newest first, with the reason."""
    target = find_target(app, store, broker, namespace)
    rows, moment = look(target, lambda opened, _: opened.history.dead_letters(limit=limit))
    letters = [letter_json(row) for row in rows]
    if as_json:
        print_json(letters)
    else:
        show(letters, moment)


def show(letters: Sequence[DeadLetterJson], moment: Moment) -> None:
    screen = Screen.of_stdout()
    if not letters:
        screen.print_line(plain("no dead letters: every message could be read", "dim"))
    for letter in letters:
        at_ms, body = letter["at_ms"], letter["body"]
        screen.print_line(
            [
                ("✗ ", "bad"),
                (date_and_time(at_ms, moment.zone), "bold"),
                (f"  {relative(at_ms, now_ms=moment.now_ms)}", "dim"),
            ]
        )
        screen.print_line([("  ", ""), (letter["reason"], "")])
        shown = (
            short(body, BODY_CHARS)
            if body is not None
            else f"(no text) {short(letter['body_base64'] or '', BODY_CHARS)}"
        )
        screen.print_line([("  ", ""), (shown, "dim")])
