"""What stands in deploy/ names metrics, labels and options that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from taskflow.cli import main
from taskflow.observability.families import FAMILIES, Family

DEPLOY = Path(__file__).parents[2] / "deploy"
PAGES = sorted(DEPLOY.iterdir())
USE = re.compile(r"\b(taskflow_[a-z_]+)(?:\{([^}]*)\})?")
BY = re.compile(r"by \(([^)]*)\)")
OUTSIDE = {"le", "instance", "job"}
"""Labels that Prometheus adds, or that a histogram has."""


def family_of(name: str) -> Family:
    for suffix in ("", "_bucket", "_sum", "_count"):
        base = name.removesuffix(suffix)
        if (
            name.endswith(suffix)
            and base in FAMILIES
            and bool(suffix) == (FAMILIES[base].kind == "histogram")
        ):
            return FAMILIES[base]
    raise AssertionError(f"there is no metric {name}")


def expressions(page: Path) -> list[str]:
    text = page.read_text()
    if page.suffix == ".json":
        return [target["expr"] for panel in json.loads(text)["panels"] for target in panel["targets"]]
    # An expression goes on in further lines after a bar.
    found = re.findall(r"(?:expr|query): (?!\|)(.*)$|expr: \|\n((?:          .*\n)+)", text, re.MULTILINE)
    return [one or more for one, more in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_metrics_and_labels_exist(page: Path) -> None:
    for expression in expressions(page):
        families = [family_of(name) for name, _ in USE.findall(expression)]
        assert families, expression
        labels = {label for family in families for label in family.labels} | OUTSIDE
        for _, matchers in USE.findall(expression):
            assert set(re.findall(r"(\w+)=", matchers)) <= labels, expression
        for names in BY.findall(expression):
            assert {name.strip() for name in names.split(",")} <= labels, expression


def test_what_is_told_of_an_alert_names_labels_that_it_has() -> None:
    text = (DEPLOY / "prometheus-rules.yaml").read_text()
    for rule in text.split("- alert: ")[1:]:
        told = set(re.findall(r"\$labels\.(\w+)", rule))
        by = {name.strip() for names in BY.findall(rule) for name in names.split(",")}
        labels = by or OUTSIDE
        assert told <= labels, rule


def test_every_metric_of_a_queue_is_on_the_board() -> None:
    board = (DEPLOY / "grafana-board.json").read_text()
    shown = {family_of(name).name for name, _ in USE.findall(board)}
    assert {name for name in FAMILIES if name.startswith(("taskflow_runs", "taskflow_queue"))} - shown <= {
        "taskflow_runs_held",
        "taskflow_queue_paused",
        "taskflow_queue_workers",
    }


@pytest.mark.parametrize("page", [page for page in PAGES if "taskflow, " in page.read_text()], ids=str)
def test_commands_have_the_options_that_are_shown(page: Path) -> None:
    for arguments in re.findall(r"args: \[taskflow, ([^\]]*)\]", page.read_text()):
        name, *words = [word.strip().strip('"') for word in arguments.split(",")]
        command = main.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        command.make_context(name, words, resilient_parsing=False)
