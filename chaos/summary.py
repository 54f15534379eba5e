"""What happened, as a table."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict

from chaos.evidence import Evidence

NS_PER_S = 1e9


def table(evidence: Evidence, *, left_out: int, healed_s: float, problems: int, errors: Counter[str]) -> str:
    """`healed_s`: from the end of the chaos to the end of the last run. `errors`: what processes logged as errors."""
    refused = len(evidence.sent) - len(evidence.accepted)
    failed = sum(execution.is_failed for execution in evidence.executions)
    rows = [
        ("events accepted", f"{len(evidence.accepted):,}"),
        ("sends refused", f"{refused:,}"),
        ("slowest send", f"{max((each.took_s for each in evidence.sent), default=0):.2f} s"),
        ("runs", f"{len(evidence.runs):,}"),
        *((f"  {status}", f"{count:,}") for status, count in sorted(evidence.statuses.items())),
        ("steps executed", f"{len(evidence.executions):,}"),
        ("  failed on purpose", f"{failed:,}"),
        ("  repeated", f"{evidence.repeats:,}"),
        ("strikes", f"{len(evidence.blows):,}"),
        *(
            (f"  {what}", f"{count:,}")
            for what, count in sorted(
                Counter(f"{each.action} {each.target}" for each in evidence.blows).items()
            )
        ),
        ("  left out", f"{left_out:,}"),
        ("slowest: a step goes on after", ""),
        *((f"  kill {target}", f"{wait_s:.2f} s") for target, wait_s in sorted(slowest_s(evidence).items())),
        ("slowest: a run ends after", ""),
        *((f"  {what} ended", f"{wait_s:.2f} s") for what, wait_s in sorted(silence_s(evidence).items())),
        ("all runs ended after the chaos", f"{healed_s:.1f} s"),
        ("errors logged", f"{errors.total():,}"),
        *((f"  {text}", f"{count:,}") for text, count in errors.most_common(10)),
        ("problems", f"{problems:,}"),
    ]
    width = max(len(title) for title, _ in rows)
    return "\n".join(f"{title:<{width}}  {value:>10}".rstrip() for title, value in rows)


def slowest_s(evidence: Evidence) -> dict[str, float]:
    """The longest time, by what was killed, until a step that the kill interrupted was executed again.

    Other strikes may have delayed it.
    """
    slowest: defaultdict[str, float] = defaultdict(float)
    cut_short = [each for each in evidence.executions if each.end_ns is None]
    for blow in evidence.blows:
        if blow.action != "kill" or not blow.family:
            continue
        for execution in cut_short:
            if execution.pid in blow.family and execution.start_ns < blow.from_ns:
                later = evidence.by_step[execution.run_id, execution.step]
                starts = [each.start_ns for each in later if each.start_ns > blow.from_ns]
                if starts:
                    wait_s = (min(starts) - blow.from_ns) / NS_PER_S
                    slowest[blow.target] = max(slowest[blow.target], wait_s)
    return dict(slowest)


def silence_s(evidence: Evidence) -> dict[str, float]:
    """The longest time, by outage, until a step ended again, wherever."""
    ends = sorted(each.end_ns for each in evidence.executions if each.end_ns is not None)
    slowest: defaultdict[str, float] = defaultdict(float)
    for blow in evidence.blows:
        if blow.target not in ("store", "broker", "events") or not blow.until_ns:
            continue
        at = bisect_right(ends, blow.until_ns)
        if at < len(ends):
            what = f"{blow.action} {blow.target}"
            slowest[what] = max(slowest[what], (ends[at] - blow.until_ns) / NS_PER_S)
    return dict(slowest)
