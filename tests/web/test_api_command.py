"""`taskflow api`: fields as options, as JSON, and what is wrong with them. Rule S14.1."""

from __future__ import annotations

import pytest

from tests.commands.shell import Shell


def test_without_a_name_it_lists_the_operations(shell: Shell) -> None:
    text = shell.run("api").stdout
    assert "runs.list" in text
    assert "--cursor" in text


def test_fields_are_options(shell: Shell) -> None:
    assert shell.run("api", "runs.list", "--limit", "5", "--status=failed,cancelled").json == {
        "runs": [],
        "next": None,
    }
    assert shell.run("api", "runs.list", "--json", '{"limit": 5}', "--since", "1h").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (("runs.lits",), 2, "did you mean 'runs.list'"),
        (("runs.list", "--limt", "5"), 1, "did you mean 'limit'"),
        (("runs.list", "--limit", "x"), 1, "limit must be a whole number"),
        (("runs.list", "5"), 2, "expected --FIELD VALUE"),
        (("runs.list", "--limit"), 2, "--limit needs a value"),
        (("runs.list", "--json", "[]"), 2, "must be a JSON object"),
        (("runs.list", "--json", "{"), 2, "must be a JSON object"),
        (("runs.get",), 1, "run_id is missing"),
        (("runs.get", "--run-id", "x"), 1, "there is no run x"),
        (("functions.pause", "--app", "shop", "--function", "x", "--cancel-running"), 1, "shop/x"),
        (("overview", "--idempotency-key", "x"), 2, "goes with --url"),
    ],
)
def test_what_is_wrong_is_said(shell: Shell, arguments: tuple[str, ...], code: int, part: str) -> None:
    outcome = shell.run("api", *arguments)
    assert (outcome.code, part in outcome.stderr) == (code, True), outcome.stderr


def test_a_write_is_noted_in_the_name_of_the_user(shell: Shell) -> None:
    shell.run("api", "runs.cancel", "--run-id", "x", "--reason", "a test")
    (entry,) = shell.run("api", "audit.list").json["entries"]
    assert entry["who"].endswith(" on the command line")
    assert (entry["what"], entry["why"], entry["outcome"]) == ("runs.cancel", "a test", "run_not_found")
