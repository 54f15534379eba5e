"""Arguments of the command line: usage with exit code 2, a plain sentence with 1, or what was asked; never a traceback."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow.app import TaskFlow
from taskflow.cli import COMMANDS, main
from taskflow.context import Context
from taskflow.step import Step
from taskflow.testing import SyncHarness
from tests.commands.shell import Outcome, Shell
from tests.fuzz.profile import examples, texts

NOBODY = "redis://127.0.0.1:1/0"
SERVING = (
    "worker",
    "beat",
    "dev",
    "web",
    "mcp",
)  # would go on for ever: their arguments are parsed, and no more


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of each command that does something."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        elif command is not None:
            yield (*path, name)


def command_of(words: tuple[str, ...]) -> click.Command:
    command: click.Command = main
    for word in words:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found
    return command


LEAVES = sorted(leaves(main))
EVENT = "01Q3DCBD0042RTK73KFTEN78P3"
RUN = f"{EVENT}-p07w54"
# What each command can do something with; the fuzzing adds to it.
WORKING = {
    ("send",): ["shop/paid", "--app", "shop"],
    ("signal",): ["approve", "--app", "shop"],
    ("functions",): [],
    ("events", "list"): [],
    ("events", "show"): [EVENT],
    ("invoke",): ["shop/fulfil"],
    ("runs", "list"): [],
    ("runs", "show"): [RUN],
    ("runs", "cancel"): [RUN, "--yes"],
    ("runs", "rerun"): [RUN],
    ("runs", "wait"): [RUN, "--timeout", "10ms"],
    ("replay",): ["shop/fulfil", "--since", "1d", "--yes"],
    ("routes", "list"): ["-A", "examples.tasks"],
    ("routes", "test"): ["resize", "-A", "examples.tasks"],
    ("queues", "list"): [],
    ("queues", "pause"): ["default", "--app", "shop"],
    ("queues", "resume"): ["default", "--app", "shop"],
    ("pause",): ["shop/fulfil"],
    ("resume",): ["shop/fulfil"],
    ("dead-letters",): [],
    ("doctor",): [],
    ("api",): ["overview"],
    ("events", "schema"): [],
    ("bulk", "list"): [],
    ("bulk", "show"): [EVENT],
    ("bulk", "stop"): [EVENT],
    ("webhooks", "list"): [],
    ("webhooks", "replay"): [EVENT],
    ("webhooks", "test"): ["github", "-"],
    ("keys", "create"): ["storefront"],
    ("keys", "list"): [],
    ("keys", "revoke"): ["storefront"],
    ("encryption", "status"): [],
    ("blobs", "check"): [],
    ("probe",): ["--port", "1"],
}
likely = st.sampled_from(
    ["1", "0", "-1", "10", "1h", "2 days", "1d", "0s", "2030-01-01T00:00:00Z", "0001-01-01T00:00:00+23:00", "shop/paid",
     "shop/fulfil", "shop", "/", "{}", '{"a": 1}', '{"a": 1e999}', "[" * 5_000, "[]", "null", "completed", "failed,queued",
     "nonsense", RUN, "event.data.x > 1", "1 +", "no.such.module", "json", "json:dumps", "os:path", NOBODY, "redis://[::1",
     "1" * 5_000, "--", "-", "٣"]
)  # fmt: skip
words = st.one_of(likely, texts.filter(lambda text: "\0" not in text))


def arguments_of(command: click.Command) -> st.SearchStrategy[list[str]]:
    """Mostly what the command knows, in any number, with values of any kind."""
    options = [name for each in command.params for name in each.opts if name.startswith("-")]
    takes_value = [
        name
        for each in command.params
        if isinstance(each, click.Option) and not each.is_flag
        for name in each.opts
    ]
    flags = [name for name in options if name not in takes_value]
    kinds: list[st.SearchStrategy[list[str]]] = [words.map(lambda word: [word])]
    if takes_value:
        kinds.append(st.tuples(st.sampled_from(takes_value), words).map(list))
    if flags:
        kinds.append(st.sampled_from(flags).map(lambda flag: [flag]))
    return st.lists(st.one_of(kinds), max_size=5).map(lambda parts: [word for part in parts for word in part])


def test_every_command_is_fuzzed() -> None:
    assert {path[0] for path in LEAVES} == set(COMMANDS)
    assert set(WORKING) == {path for path in LEAVES if path[0] not in SERVING}


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    """With a store in which a function is registered."""
    app = TaskFlow("shop", broker=NOBODY, store=NOBODY)

    @app.function(trigger="shop/paid")
    async def fulfil(ctx: Context[Step]) -> None: ...

    with SyncHarness(app, servers="embedded"):
        config = app.config
        yield Shell(
            {
                "TASKFLOW_BROKER": config.broker,
                "TASKFLOW_STORE": config.store,
                "TASKFLOW_NAMESPACE": config.namespace,
                "TASKFLOW_SEND_TIMEOUT": "1s",
            }
        )


SHELL = Shell({"TASKFLOW_BROKER": NOBODY, "TASKFLOW_STORE": NOBODY, "TASKFLOW_SEND_TIMEOUT": "20ms"})
CALLED = pytest.mark.parametrize("path", [path for path in LEAVES if path[0] not in SERVING], ids=" ".join)


@CALLED
@examples(30)
@given(st.data())
def test_any_arguments_end_in_words(path: tuple[str, ...], shell: Shell, data: st.DataObject) -> None:
    odd = data.draw(arguments_of(command_of(path)))
    place = data.draw(st.integers(0, len(WORKING[path])))
    arguments = [*WORKING[path][:place], *odd, *WORKING[path][place:]]
    check(shell.run(*path, *arguments, stdin="y\n"))


@CALLED
@examples(10)
@given(st.data())
def test_any_arguments_end_in_words_without_servers(path: tuple[str, ...], data: st.DataObject) -> None:
    arguments = data.draw(arguments_of(command_of(path)))
    check(SHELL.run(*path, *WORKING[path], *arguments, stdin="y\n"))


def check(outcome: Outcome) -> None:
    """`Shell.run` has failed already on an exception that is none of click's."""
    assert outcome.code in (0, 1, 2)
    if outcome.code == 2:
        assert outcome.stderr.startswith(("Usage: ", "taskflow: nothing answers probes"))
    if outcome.code == 1:
        assert (outcome.stderr + outcome.stdout).strip()
    assert "Traceback" not in outcome.stderr + outcome.stdout


@pytest.mark.parametrize("path", [path for path in LEAVES if path[0] in SERVING], ids=" ".join)
@examples(60)
@given(st.data())
def test_arguments_of_what_serves_are_parsed_or_refused(path: tuple[str, ...], data: st.DataObject) -> None:
    command = command_of(path)
    arguments = data.draw(arguments_of(command))
    try:
        command.make_context(path[-1], list(arguments), resilient_parsing=False)
    except click.ClickException as error:
        assert error.format_message()
    except click.exceptions.Exit as error:
        assert error.exit_code == 0


@examples(60)
@given(st.lists(words, max_size=4))
def test_any_words_at_all(arguments: list[str]) -> None:
    outcome = SHELL.run(*arguments)
    assert outcome.code in (0, 1, 2)
