"""`taskflow doctor`: is the deployment as it has to be? And `--acl`: the least rights of its processes."""

from __future__ import annotations

import sys

import click

from taskflow.commands.checkup import Finding, examine
from taskflow.commands.options import Target, connection_options, find_target, json_option, print_json, run
from taskflow.commands.rights import ROLES, Line, lines_for, sentinel_lines
from taskflow.terminal.screen import Screen

MARKS = {"ok": ("✓ ", "good"), "warning": ("! ", "warn"), "error": ("✗ ", "bad")}


@click.command("doctor")
@click.option("--acl", is_flag=True, help="Print the rules that give each kind of process its least rights.")
@click.argument("role", required=False, type=click.Choice(ROLES))
@connection_options
@json_option
def command(
    acl: bool, role: str | None, app: str | None, store: str | None, broker: str | None, namespace: str | None, as_json: bool
) -> None:  # fmt: skip
    """Look at store, broker, clock, workers, beat and functions. Exit code 1 when something is wrong.

    With --acl: print the rights that a producer, a web process, a worker, a beat and a dashboard need, or only the one you name.
    """
    if role and not acl:
        raise click.UsageError("a ROLE goes with --acl")
    target = find_target(app, store, broker, namespace)
    if acl:
        print_rights(target, (role,) if role else ROLES, as_json=as_json)
        return
    findings = run(examine(target))
    is_well = all(finding.level != "error" for finding in findings)
    if as_json:
        print_json({"ok": is_well, "findings": [finding_json(finding) for finding in findings]})
    else:
        show(findings)
    if not is_well:
        sys.exit(1)


def finding_json(finding: Finding) -> dict[str, str]:
    return {"subject": finding.subject, "level": finding.level, "text": finding.text}


def show(findings: list[Finding]) -> None:
    screen = Screen.of_stdout()
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        screen.print_line(
            [MARKS[finding.level], (finding.subject.ljust(width + 2), "bold"), (finding.text, "")]
        )


def print_rights(target: Target, roles: tuple[str, ...], *, as_json: bool) -> None:
    lines = [line for role in roles for line in lines_for(role, target.config)]
    lines += sentinel_lines(target.config)
    if as_json:
        print_json([line_json(line) for line in lines])
        return
    for line in lines:
        # Whole, however long: it is to be pasted.
        click.echo(f"# {line.role}, on {line.server}\n{line.command}\n")


def line_json(line: Line) -> dict[str, str]:
    return {"role": line.role, "server": line.server, "command": line.command}
