"""`python -m chaos --minutes 5 --seed 7 --broker rabbitmq`: strike for a while, heal, check, print a table."""

from __future__ import annotations

import itertools
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import click

from chaos.checker import FUNCTIONS_OF, check
from chaos.evidence import Evidence, read_all_runs, read_events, read_leaks
from chaos.fleet import BrokerKind, Fleet
from chaos.functions import APP_ID
from chaos.logs import check_logs, count_errors, keep_logs
from chaos.plan import Strike, describe, make_plan
from chaos.producers import Producer
from chaos.strikes import Striker
from chaos.summary import table
from taskflow.values.ids import run_id_for
from tests.processes import wait_until
from tests.robustness.deployment import FINAL
from tests.servers import RABBITMQ_HINT, REDIS_HINT, RabbitMQServer, RedisServer

PRODUCERS = 3
SEND_TIMEOUT_S = 2.0
SLACK_S = 2.0  # that a busy machine may add to the time limit of a send
TURN_S = 0.05
HEALING_S = 120.0  # until all runs have ended: 15 s for a lost host (S9.3), and what has piled up
SHOWN = 40  # problems


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--minutes", default=5.0, show_default=True, type=click.FloatRange(min=0.05))
@click.option("--seed", type=int, help="Of the plan.  [default: random]")
@click.option(
    "--broker",
    default="valkey",
    show_default=True,
    type=click.Choice(["valkey", "redis", "rabbitmq"]),
    help="valkey: the store's own server.",
)
@click.option(
    "--rate", default=20.0, show_default=True, type=click.FloatRange(min=1), help="Events a second."
)
@click.option("--plan", "is_plan_only", is_flag=True, help="Print the plan and do nothing.")
@click.option("--logs", type=click.Path(path_type=Path), help="Keep the logs and the journal in this folder.")
def main(
    minutes: float, seed: int | None, broker: str, rate: float, is_plan_only: bool, logs: Path | None
) -> None:
    """Kill, pause, cut and stall workers, beats, store and broker at random under load; then check that nothing is amiss.

    Exits with 1 if something is. The same seed, length and broker give the same plan.
    """
    # Both by way of an exception, so that what was started is stopped; a shell's background job ignores SIGINT otherwise.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    refuse_missing(broker)
    seed = random.randrange(1_000_000) if seed is None else seed
    plan = make_plan(seed, length_s=minutes * 60, has_own_broker=broker != "valkey")
    click.echo(
        f"--minutes {minutes:g} --seed {seed} --broker {broker}: {len(plan)} strikes\n{describe(plan)}"
    )
    if is_plan_only:
        return
    with (
        tempfile.TemporaryDirectory(prefix="taskflow-chaos-") as folder,
        Fleet(Path(folder), broker=cast(BrokerKind, broker)) as fleet,
    ):
        try:
            problems = Chaos(fleet, seed=seed, rate=rate).run(plan, length_s=minutes * 60)
        finally:
            if logs is not None:
                keep_logs(fleet.logs(), logs)
                shutil.copy(fleet.journal.path, logs / "journal")
    if problems:
        click.echo(f"\n{len(problems)} problems:\n" + "\n".join(problems[:SHOWN]))
        sys.exit(1)


def refuse_missing(broker: str) -> None:
    if broker == "rabbitmq" and not RabbitMQServer.is_installed():
        raise click.UsageError(RABBITMQ_HINT)
    if broker == "redis" and not RedisServer.is_installed():
        raise click.UsageError(REDIS_HINT)


class Chaos:
    """Load, strikes, healing and the check."""

    def __init__(self, fleet: Fleet, *, seed: int, rate: float) -> None:
        self.fleet = fleet
        numbers = itertools.count(1)
        self.producers = [
            Producer(
                fleet.new_app(send_timeout_s=SEND_TIMEOUT_S), seed=seed + number, every_s=PRODUCERS / rate,
                numbers=numbers, is_async=number == 0,
            )
            for number in range(PRODUCERS)
        ]  # fmt: skip

    def run(self, plan: Sequence[Strike], *, length_s: float) -> list[str]:
        """Print the table; the problems that were found."""
        with ExitStack() as stack:
            for producer in self.producers:
                stack.enter_context(producer)
            striker = Striker(self.fleet, plan)
            self.strike(striker, length_s)
            striker.heal()
            healed_s = time.monotonic()
            problems = self.settle()
            healing_s = time.monotonic() - healed_s
            problems += self.fleet.drain()
        evidence = self.collect(striker)
        problems += [*slow_sends(evidence), *check(evidence), *check_logs(self.fleet.logs())]
        errors = count_errors(self.fleet.logs())
        click.echo(
            "\n"
            + table(
                evidence, left_out=striker.left_out, healed_s=healing_s, problems=len(problems), errors=errors
            )
        )
        return problems

    def strike(self, striker: Striker, length_s: float) -> None:
        began_s = time.monotonic()
        while (now_s := time.monotonic() - began_s) < length_s:
            striker.run_due(now_s)
            self.fleet.revive()
            time.sleep(TURN_S)

    def settle(self) -> list[str]:
        """Wait until everything that was sent has come to its end; what has not."""
        problems = [told for each in self.producers for told in each.finish(deadline_s=HEALING_S)]
        expected: set[str] = {
            run_id_for(sent.uid, f"{APP_ID}/{function}")
            for producer in self.producers
            for sent in producer.sent
            if sent.uid
            for function in FUNCTIONS_OF[sent.name]
        }
        for what, is_so in (
            ("the end of all runs", lambda: self.is_over(expected)),
            ("clean indexes", lambda: not self.leaks()),
            ("the end of the orphans", lambda: not self.fleet.orphans()),
        ):
            try:
                wait_until(is_so, what=what, deadline_s=HEALING_S)
            except AssertionError as error:
                problems.append(str(error))
        return problems

    def is_over(self, expected: set[str]) -> bool:
        """Whether these runs, and all others that there are, are final."""
        self.fleet.revive()
        time.sleep(TURN_S)
        statuses = self.fleet.statuses()
        return expected <= statuses.keys() and all(status in FINAL for status in statuses.values())

    def leaks(self) -> list[str]:
        return read_leaks(self.fleet.store.url, self.fleet.keys.prefix)

    def collect(self, striker: Striker) -> Evidence:
        fleet = self.fleet
        sent = [each for producer in self.producers for each in producer.sent]
        return Evidence(
            sent=sent,
            runs=read_all_runs(fleet.redis, fleet.keys, fleet.run_ids()),
            lines=fleet.journal.lines(),
            events=read_events(fleet.redis, fleet.keys, [each.uid for each in sent if each.uid]),
            blows=striker.blows,
            deployed_ms=fleet.deployed_ms,
            left=self.leaks(),
        )


def slow_sends(evidence: Evidence) -> list[str]:
    """Rule S1.2: a send never hangs."""
    limit_s = SEND_TIMEOUT_S + SLACK_S
    return [
        f"send of {sent.name} {sent.data} took {sent.took_s:.2f} s, and the limit is {SEND_TIMEOUT_S:g} s"
        for sent in evidence.sent
        if sent.took_s > limit_s
    ]


if __name__ == "__main__":
    main(prog_name="python -m chaos")
