"""The command line. Each command is a module of `taskflow/commands/`, and is imported when it is used.

Exit codes: 0 clean, 1 failed, 2 wrong usage.
"""

from __future__ import annotations

import gc
from importlib import import_module

import click

from taskflow.errors import TaskFlowError
from taskflow.values.keywords import did_you_mean
from taskflow.values.record import record
from taskflow.values.text import printable_lines

DISTRIBUTION = "taskflow-durable"


@record
class Entry:
    """A command: where to import it from, and its line in `taskflow --help`, which imports no command."""

    target: str  # "module:attribute"
    summary: str


SECTIONS: dict[str, dict[str, Entry]] = {
    "Run": {
        "worker": Entry("taskflow.commands.worker:command", "Execute the functions of an app."),
        "beat": Entry("taskflow.commands.beat:command", "Keep the time: crons, sleeps, retries, lost workers."),
        "web": Entry("taskflow.commands.web:command", "Serve the API, and take events over HTTP."),
        "dev": Entry("taskflow.commands.dev:command", "Store, worker and beat in one, with reload on change."),
    },
    "Look and act": {
        "send": Entry("taskflow.commands.send:command", "Send an event."),
        "events": Entry("taskflow.commands.events:command", "List events, and show what each came to."),
        "invoke": Entry("taskflow.commands.invoke:command", "Start one run of a function."),
        "signal": Entry("taskflow.commands.signal:command", "Resume the run that waits for a signal."),
        "functions": Entry("taskflow.commands.functions:command", "List the functions that workers registered."),
        "queues": Entry("taskflow.commands.queues:command", "List, pause and resume queues."),
        "routes": Entry("taskflow.commands.routes:command", "Show to which queues tasks go, and by which rule."),
        "runs": Entry("taskflow.commands.runs:command", "List, show, cancel and rerun runs."),
        "replay": Entry("taskflow.commands.replay:command", "Rerun the failed runs of a function."),
        "bulk": Entry("taskflow.commands.bulk:command", "List, show and stop bulk operations."),
        "pause": Entry("taskflow.commands.pause:command", "Let no run of a function begin or go on."),
        "resume": Entry("taskflow.commands.resume:command", "Let the runs of a paused function go on."),
        "api": Entry("taskflow.commands.api:command", "Call an operation of the web API, here or over HTTP."),
        "mcp": Entry("taskflow.commands.mcp:command", "Serve the operations as tools for language models."),
        "webhooks": Entry("taskflow.commands.webhooks:command", "List and replay what came to webhooks; try one out."),
        "keys": Entry("taskflow.commands.keys:command", "Create, list and revoke the keys of web clients."),
        "encryption": Entry("taskflow.commands.encryption:command", "Say which keys the stored values need."),
        "blobs": Entry("taskflow.commands.blobs:command", "Find large values that no run needs."),
        "dead-letters": Entry("taskflow.commands.dead_letters:command", "List messages that could not be read."),
        "probe": Entry("taskflow.commands.probe:command", "Ask a worker or beat whether it is live or ready."),
        "doctor": Entry("taskflow.commands.doctor:command", "Look for what is wrong; print the least rights (--acl)."),
    },
}  # fmt: skip
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class Failure(click.ClickException):
    """Ends the command with exit code 1, and prints its message on stderr."""

    exit_code = 1

    def show(self, file: object = None) -> None:
        click.echo(f"taskflow: {printable_lines(self.message)}", err=True)


class LazyGroup(click.Group):
    """A click group that imports a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        # Imports leave no garbage, and looking for it takes a twentieth of their time.
        gc.disable()
        try:
            command = getattr(import_module(module), attribute)
        finally:
            gc.enable()
        assert isinstance(command, click.Command), entry.target
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"there is no command {name!r}{did_you_mean(name, COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.summary) for name, entry in section.items()], col_max=16)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except TaskFlowError as error:
            raise Failure(str(error)) from error


def installed_version() -> str:
    # Imported here: that takes 6 ms, and few ask for the version.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "(a checkout that is not installed)"


def show_version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"taskflow {installed_version()}")
        ctx.exit()


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_version,
    help="Show the version.",
)
def main() -> None:
    """Durable functions: steps, sleeps, waits and retries that survive kill -9.

    Settings come from the app (-A) or from TASKFLOW_* variables, such as TASKFLOW_BROKER and TASKFLOW_STORE.
    """
