"""`taskflow encryption`: says which keys the stored values need."""

from __future__ import annotations

import click

from taskflow.codecs.codecs import Codecs
from taskflow.commands.options import connection_options, find_target, json_option, look, print_json
from taskflow.runs.key_use import KeyReport, KeyUse, find_key_use
from taskflow.runs.reasons import Moment
from taskflow.store.store import Store
from taskflow.terminal.screen import Screen, plain
from taskflow.values.times import relative


@click.group("encryption")
def command() -> None:
    """Say which keys the stored values need."""


@command.command("status")
@click.option(
    "--limit", default=1_000, show_default=True, type=click.IntRange(1, 1_000_000), metavar="N",
    help="Look at N live runs, and at the newest N runs.",
)  # fmt: skip
@connection_options
@json_option
def status_command(
    limit: int, app: str | None, store: str | None, broker: str | None, namespace: str | None, as_json: bool
) -> None:
    """Count the values of runs by the key that encrypted them. It needs no key; with -A it says what the app does with each.

    A key can be dropped when no run needs it any more.
    """
    target = find_target(app, store, broker, namespace)

    async def read(opened: Store, moment: Moment) -> KeyReport:
        functions = await opened.registry.known_functions()
        mine = [each for each in functions if target.app is None or each.startswith(f"{target.app.id}/")]
        return await find_key_use(opened, mine, limit=limit)

    report, moment = look(target, read)
    roles = roles_of(target.codecs)
    for key_id in roles:
        report.keys.setdefault(key_id, KeyUse(key_id))
    if as_json:
        rows = [{**use.to_json(), "role": role_of(roles, use.key_id)} for use in ordered(report)]
        print_json({"runs": len(report.seen), "has_more": report.has_more, "keys": rows})
        return
    show(report, roles, moment.now_ms)


def roles_of(codecs: Codecs) -> dict[str, str]:
    """Key id -> what the app does with the key."""
    encryption = codecs.encryption
    if encryption is None:
        return {}
    own = "decrypts" if encryption.decrypt_only else "encrypts"
    return {encryption.key.id: own} | {
        key.id: "decrypts" for key in encryption.fallback_keys if key.id != encryption.key.id
    }


def role_of(roles: dict[str, str], key_id: str) -> str | None:
    """What the app does with a key; None when there is no app, or the values don't name their key."""
    return roles.get(key_id, "unknown to the app") if roles and key_id else None


def ordered(report: KeyReport) -> list[KeyUse]:
    return sorted(report.keys.values(), key=lambda use: (-use.values, use.key_id))


def show(report: KeyReport, roles: dict[str, str], now_ms: int) -> None:
    screen, looked_at = Screen.of_stdout(), f"{len(report.seen):,} runs"
    if not report.keys:
        screen.print_line(plain(f"nothing is encrypted in the {looked_at} that were looked at", "dim"))
        return
    screen.table(
        [
            [
                plain(use.key_id or "(not named)", "bold"), plain(role_of(roles, use.key_id) or ""), plain(f"{use.values:,}"),
                plain(f"{use.runs:,}"), plain(f"{use.live_runs:,}"),
                plain(relative(use.newest_ms, now_ms=now_ms) if use.newest_ms else "never", "dim"),
            ]
            for use in ordered(report)
        ],
        header=("key", "", "values", "runs", "live", "newest run"), right=(2, 3, 4),
    )  # fmt: skip
    scope = (
        f"in the {looked_at} that were looked at; --limit looks at more"
        if report.has_more
        else f"in all {looked_at}"
    )
    screen.print_line(plain(scope, "dim"))
    for use in ordered(report):
        if roles.get(use.key_id) == "decrypts" and not use.runs and not report.has_more:
            screen.print_line(plain(f"no run needs key {use.key_id}: it can be dropped", "dim"))
