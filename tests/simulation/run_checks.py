"""Checks of runs: routed once, ended, memos written once, nothing executed or written out of turn. Rules S1, S4, S5, S6, S9."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from tests.simulation.codecs import read
from tests.simulation.evidence import NEVER, Claim, Evidence, Execution
from tests.simulation.forms import Write, queue_steered_in, sent_to_in, taken_from_in
from tests.simulation.observation import FINAL, StoredRun
from tests.simulation.workload import BODY

LONG_ENOUGH_US = 3_000_000  # for an outcome to reach the store, over a connection that was lost meanwhile


def every_run_ends(evidence: Evidence) -> Iterator[str]:
    for run in evidence.stored.runs.values():
        if run.status not in FINAL:
            yield f"S9.2: run {run.id} of {run.function} is {run.status!r}, and nothing happens to it any more"


def accepted_events_are_routed(evidence: Evidence) -> Iterator[str]:
    for record in evidence.of("accepted"):
        for number in record["numbers"]:
            if number not in evidence.uids:
                yield f"S9.1: event {number} was accepted from {record.process}, but never routed"


def one_run_per_function(evidence: Evidence) -> Iterator[str]:
    """Rules S1.3, S1.6, S9.1. What debounce makes of events has a check of its own."""
    counts: Counter[tuple[str, str]] = Counter()
    for run in evidence.stored.runs.values():
        events = [evidence.event_of(run), *map(json.loads, run.batch)]
        for uid in [event["uid"] for event in events]:
            counts[uid, run.function] += 1
    planned = {
        (arrival.uid, function) for arrival in evidence.arrivals for function, _, _ in arrival.functions
    }
    for uid, fields in evidence.stored.events.items():
        for plan in evidence.plan.functions:
            listens = (
                (uid, plan.name) in planned if evidence.plan.is_rolling else plan.event == fields["name"]
            )
            if not listens or plan.limits.debounce:
                continue
            is_extra = "duplicate_of" in fields and not plan.limits.batch
            expected = 0 if is_extra else 1
            if counts[uid, plan.name] != expected:
                yield f"S9.1: event {uid} is in {counts[uid, plan.name]} runs of {plan.name}, expected {expected}"


def ids_deduplicate(evidence: Evidence) -> Iterator[str]:
    originals: Counter[tuple[str, str]] = Counter()
    for fields in evidence.stored.events.values():
        event = json.loads(fields["event"])
        if event["id"] != event["uid"]:
            originals[event["name"], event["id"]] += "duplicate_of" not in fields
    for (name, public_id), count in originals.items():
        if count != 1:
            yield f"S1.3: {count} events {name!r} with the id {public_id!r} count as the first"


def memos_are_written_once(evidence: Evidence) -> Iterator[str]:
    outcomes: dict[tuple[str, str], tuple[int, Any]] = {}
    for write in evidence.writes:
        for key, memo in write.memos:
            if memo.get("state") not in ("done", "failed") or has_changed(evidence, write.run, key):
                continue
            outcome = outcome_of(memo)
            first = outcomes.setdefault((write.run, key), (write.place, outcome))
            if first[1] != outcome:
                yield f"S4.1: step {key} of {write.run} was committed as {first[1]} at {first[0]}, as {outcome} at {write.place}"
    for (run_id, key), (place, outcome) in outcomes.items():
        run = evidence.stored.runs.get(run_id)
        if run is not None and outcome_of(run.steps.get(key, {})) != outcome:
            yield f"S4.1: step {key} of {run_id} was committed as {outcome} at {place}, stored is {run.steps.get(key)}"


def outcome_of(memo: dict[str, Any]) -> tuple[Any, ...]:
    error = memo.get("error") or {}
    return (memo.get("state"), memo.get("data"), error.get("name"), error.get("message"))


def handlers_see_memos(evidence: Evidence) -> Iterator[str]:
    for record in evidence.of("saw"):
        if has_changed(evidence, record["run"], record["key"]):
            continue
        run = evidence.stored.runs.get(record["run"])
        memo = run.steps.get(record["key"], {}) if run else {}
        if memo.get("state") != "done" or read(memo["data"]) != record["value"]:
            seen = f"{record['value']} from {record['key']} of {record['run']}"
            yield f"S4.1: at {record.place} the handler saw {seen}, stored is {memo}"


def outputs_are_returned(evidence: Evidence) -> Iterator[str]:
    returned: defaultdict[str, list[Any]] = defaultdict(list)
    for record in evidence.of("returned"):
        returned[record["run"]].append(json.loads(json.dumps(record["output"])))
    for run in evidence.stored.runs.values():
        if evidence.functions[run.function].kind == "canvas":
            continue
        if run.status == "completed" and read(run.fields["output"]) not in returned[run.id]:
            yield f"S4.1: run {run.id} completed with {run.fields['output']}, but its handler never returned that"


def nothing_runs_after_its_commit(evidence: Evidence) -> Iterator[str]:
    for execution in evidence.executions:
        place = evidence.committed.get((execution.run, execution.key), NEVER)
        if execution.start > place and not has_changed(evidence, execution.run, execution.key):
            yield (
                f"S4.1: step {execution.key} of {execution.run} was executed by {execution.process} at {execution.start}, "
                f"though committed at {place}"
            )


def has_changed(evidence: Evidence, run_id: str, key: str) -> bool:
    """Whether the other release of the code calls another tool by this key, so that its memo does not last."""
    run = evidence.stored.runs.get(run_id)
    return run is not None and key in evidence.functions[run.function].changed_ids


def tools_give_what_is_theirs(evidence: Evidence) -> Iterator[str]:
    """Rule S4.5: also by an id that is another tool's in the other release of the code."""
    for record in evidence.of("saw", "sent"):
        if type(record["value"]) is not (int if record.what == "saw" else list):
            yield f"S4.5: at {record.place} {record['key']} of {record['run']} gave {record['value']!r}"


def what_was_given_up_is_not_executed_again(evidence: Evidence) -> Iterator[str]:
    """Rule S4.1: from the first write on by which the run can tell the store. What failed or was offered before is left out."""
    writes: defaultdict[str, list[Write]] = defaultdict(list)
    for write in evidence.writes:
        writes[write.run].append(write)
    executions: defaultdict[str, list[Execution]] = defaultdict(list)
    for execution in evidence.executions:
        executions[execution.run].append(execution)
    for record in evidence.of("gave_up"):
        run_id, keys = record["run"], set(record["keys"])
        if any(
            key in keys
            for write in writes[run_id]
            for key, memo in write.memos
            if memo.get("state") in ("retry", "offer")
        ):
            continue
        begun = {
            execution.key
            for execution in executions[run_id]
            if execution.process == record.process and execution.start > record.place
        }
        told = [
            write.place
            for write in writes[run_id]
            if write.child == record.process and write.place > record.place
            and (write.ends_claim == "parked" or any(key in begun for key, _ in write.memos))
        ]  # fmt: skip
        for execution in executions[run_id]:
            if told and execution.key in keys and execution.start > told[0]:
                yield f"S4.1: step {execution.key} of {run_id}, given up at {record.place}, was executed at {execution.start}"


def began_late(execution: Execution) -> bool:
    """Whether it is a body that began after its claim was lost: its process was paused between the two.

    A step looks at the lease before it begins. A body begins with its claim, and a look for each run would cost too much.
    """
    claim = execution.claim
    return execution.key == BODY and claim is not None and claim.ended < execution.start


def no_step_runs_twice_at_once(evidence: Evidence) -> Iterator[str]:
    by_step: defaultdict[tuple[str, str], list[Execution]] = defaultdict(list)
    for execution in evidence.executions:
        if began_late(execution):
            continue
        for other in by_step[execution.run, execution.key]:
            if (
                other.over > execution.start
                and evidence.committed.get((other.run, other.key), NEVER) > execution.start
            ):
                yield (
                    f"S9.4: step {execution.key} of {execution.run} began in {execution.process} at {execution.start} while "
                    f"{other.process} executed it and held its claim"
                )
        by_step[execution.run, execution.key].append(execution)


def steps_begin_under_a_claim(evidence: Evidence) -> Iterator[str]:
    for execution in evidence.executions:
        if began_late(execution):
            continue
        claim = execution.claim
        if claim is None or claim.ended < execution.start:
            lost = f"was {claim.how} at {claim.ended}" if claim else "there never was"
            where = f"in {execution.process} at {execution.start}"
            yield f"S9.4: step {execution.key} of {execution.run} began {where}, the claim for which {lost}"


def claims_outlast_their_steps(evidence: Evidence) -> Iterator[str]:
    """Rules S4.1, S4.3: a run is suspended, or set aside for a retry, when none of its steps executes."""
    for execution in evidence.executions:
        claim = execution.claim
        if claim and claim.how in ("parked", "retried") and execution.start < claim.ended < execution.end:
            yield f"S4.3: run {execution.run} was {claim.how} at {claim.ended}, while {execution.process} executed {execution.key}"


def suspended_runs_have_heard_all(evidence: Evidence) -> Iterator[str]:
    """Rule S9.2: nobody wakes a run for what was resolved before it was suspended. Of losers of races its handler hears nothing."""
    for record in evidence.of("suspended"):
        run = evidence.stored.runs.get(record["run"])
        missed = [
            key
            for key in record["untold"]
            if run and key.partition("#")[0] not in evidence.functions[run.function].given_up_ids
        ]
        if missed:
            what = ", ".join(missed)
            yield f"S9.2: run {record['run']} was suspended at {record.place}, and its handler had not heard of {what}"


def writes_own_their_run(evidence: Evidence) -> Iterator[str]:
    """Who writes holds the claim at that moment. A repeat of what ended a claim is no write."""
    for write in evidence.writes:
        granted = [
            claim
            for claim in evidence.claims_by_run.get((write.run, write.key), [])
            if claim.granted < write.place
        ]
        claim = granted[-1] if granted else None
        what = f"{write.script} at {write.place} by {write.child}"
        if claim is None or (claim.child, claim.fence) != (write.child, write.fence):
            yield f"S9.4: {what} with fence {write.fence}, but {write.run} is {told(claim)}"
        elif claim.ended < write.place and not (claim.how == write.ends_claim == "finished"):
            yield f"S9.4: {what}, which had lost {write.run} at {claim.ended} ({claim.how})"


def told(claim: Claim | None) -> str:
    return (
        "nobody's"
        if claim is None
        else f"held by {claim.child} with fence {claim.fence} since {claim.granted}"
    )


def cancelled_runs_are_cancelled(evidence: Evidence) -> Iterator[str]:
    for record in evidence.of("cancelled"):
        run = evidence.stored.runs.get(record["run"])
        if record["is_taken"] and run is not None and run.status != "cancelled":
            yield f"S6.2: run {run.id} is {run.status}, though its cancellation was accepted at {record.place}"


def cancelled_runs_go_no_further(evidence: Evidence) -> Iterator[str]:
    """Rule S6.2: who stores an outcome and learns that the run shall be cancelled keeps it from the handler."""
    told = {
        (write.run, key, write.child): write.place
        for write in evidence.writes
        if write.script == "commit_steps" and write.status == "cancel"
        for key, memo in write.memos
        if memo.get("ended") is not None
    }
    for record in evidence.of("saw"):
        place = told.get((record["run"], record["key"], record.process), NEVER)
        if record.place > place:
            yield f"S6.2: at {record.place} the handler of {record['run']} saw {record['key']}, cancelled at {place}"


def steps_are_not_cut_off(evidence: Evidence) -> Iterator[str]:
    """Rule S6.2: whatever ends a run here waits for its executing steps; only their time limit cuts them off."""
    for execution in evidence.executions:
        run = evidence.stored.runs.get(execution.run)
        plan = evidence.functions[run.function] if run else None
        if (
            execution.outcome == "stopped"
            and plan
            and not plan.step_timeout_ms
            and execution.key not in plan.ids_within("limit")
        ):
            yield f"S6.2: step {execution.key} of {execution.run} was cut off in {execution.process} at {execution.end}"


def drained_bodies_begin_once(evidence: Evidence) -> Iterator[str]:
    """Rule S4.7: what a body came to in a process that drains is stored, and not thrown away to begin elsewhere.

    A process may lose its claim at the end of the drain timeout, by a pause, or with the store away: those are left out.
    """
    troubles = list(evidence.of("paused", "died", "store_away", "writes_refused"))
    drains = {record.process: record.place for record in evidence.of("drained")}
    by_run: defaultdict[str, list[Execution]] = defaultdict(list)
    for execution in evidence.executions:
        if execution.key == BODY:
            by_run[execution.run].append(execution)
    for run_id, executions in by_run.items():
        for execution, later in pairwise(executions):
            drained = drains.get(execution.process, NEVER)
            has_ended = execution.outcome == "done" and execution.end < execution.lost < NEVER
            if not has_ended or not execution.start < drained < execution.end:
                continue
            is_troubled = any(
                execution.start < trouble.place < execution.lost
                and trouble.process in ("", execution.process)
                for trouble in troubles
            )
            waited_us = evidence.records[execution.lost].at_us - evidence.records[execution.end].at_us
            if not is_troubled and waited_us > LONG_ENOUGH_US:
                yield (
                    f"S4.7: the body of {run_id} ended in {execution.process} at {execution.end} while that drained, "
                    f"but began again in {later.process} at {later.start}"
                )


def attempts_were_made(evidence: Evidence) -> Iterator[str]:
    """A crash counts as no attempt (S4.1), and there are no more of them than allowed (S5.1)."""
    failures: Counter[tuple[str, str]] = Counter()
    for execution in evidence.executions:
        failures[execution.run, execution.key] += execution.outcome in ("failed", "stopped")
    for run in evidence.stored.runs.values():
        for key, memo in run.steps.items():
            attempts, plan = memo.get("attempts") or [], evidence.functions[run.function]
            count = len(attempts)
            of_the_step = sum(
                attempt[4].startswith("step ") for attempt in attempts
            )  # not of code on the way to it
            if key.startswith(("step", "loop")) and of_the_step > failures[run.id, key]:
                yield f"S4.1: step {key} of {run.id} has {of_the_step} failed attempts, but {failures[run.id, key]} were made"
            if count > plan.retries + 1:
                yield f"S5.1: step {key} of {run.id} has {count} failed attempts, but only {plan.retries} retries"


def failed_attempts_are_stored(evidence: Evidence) -> Iterator[str]:
    """Rule S5.1: with what the claim wrote last, unless it was lost or the run ended. Of the loser of a race nothing is stored."""
    failures: Counter[tuple[str, str]] = Counter()
    for execution in evidence.executions:
        claim = execution.claim
        if execution.outcome == "failed" and claim and claim.how in ("parked", "retried"):
            failures[execution.run, execution.key] += execution.end < claim.ended
    for (run_id, key), count in failures.items():
        run = evidence.stored.runs.get(run_id)
        if (
            run is None
            or key == BODY
            or has_changed(evidence, run_id, key)
            or key.partition("#")[0] in evidence.functions[run.function].given_up_ids
        ):
            continue
        stored = len(run.steps.get(key, {}).get("attempts") or [])
        if stored < count:
            yield f"S5.1: step {key} of {run_id} has failed {count} times, but {stored} attempts are stored"


def errors_are_those_that_were_raised(evidence: Evidence) -> Iterator[str]:
    """Rule S5.4: whatever a step raises is a failed attempt, with its name."""
    raised: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for record in evidence.of("step_end"):
        raised[record["run"], record["key"]].add(record["error"])
    for run in evidence.stored.runs.values():
        for key, memo in run.steps.items():
            for _, _, _, name, message, _ in memo.get("attempts") or []:
                if message.startswith(f"step {key}") and name not in raised[run.id, key]:
                    yield f"S5.4: step {key} of {run.id} has failed by {name}, raised was {raised[run.id, key]}"


def headers_are_inherited(evidence: Evidence) -> Iterator[str]:
    """Rule S11.1. Who sends an event writes into its data which headers it should have."""
    for record in evidence.of("handler"):
        if record["headers"] != record["expected"]:
            yield f"S11.1: at {record.place} {record['run']} has the headers {record['headers']}, expected {record['expected']}"


def runs_by_hand_are_there(evidence: Evidence) -> Iterator[str]:
    for record in evidence.of("started"):
        if record["run"] not in evidence.stored.runs:
            yield f"S9.1: run {record['run']} was started at {record.place}, and is not there"


def queues_are_kept(evidence: Evidence) -> Iterator[str]:
    """A run waits in its own queue, and is claimed by who serves that, and not while it is paused (S10.4)."""
    serves = {record["worker"]: record["queues"] for record in evidence.of("serves")}
    sent_to = dict(sent for record in evidence.of("script") for sent in sent_to_in(record))
    paused = paused_spans(evidence)
    queues = {
        run.id: sent_to.get(run.id, evidence.functions[run.function].queue)
        for run in evidence.stored.runs.values()
    }
    for record in evidence.of("script"):
        for run_id, found_in in taken_from_in(record):
            if run_id in queues and found_in != queues[run_id]:
                yield f"S2.5: {run_id} of the queue {queues[run_id]} waited in the queue {found_in} (place {record.place})"
    for claim in evidence.claims:
        run = evidence.stored.runs.get(claim.run)
        if run is None:
            continue
        queue = queues[run.id]
        if queue not in serves[claim.child.rpartition(":")[0]]:
            yield f"S2.5: {run.id} of the queue {queue} was claimed at {claim.granted} by {claim.child}, which does not serve it"
        if any(start < claim.granted < end for start, end in paused[queue]):
            yield f"S10.4: {run.id} was claimed at {claim.granted}, though the queue {queue} was paused"


def paused_spans(evidence: Evidence) -> dict[str, list[tuple[int, int]]]:
    spans: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    since: dict[str, int] = {}
    for record in evidence.of("script"):
        for queue, is_paused in queue_steered_in(record):
            if is_paused:
                since.setdefault(queue, record.place)
            elif queue in since:
                spans[queue].append((since.pop(queue), record.place))
    for queue, place in since.items():
        spans[queue].append((place, NEVER))
    return spans


def invocations_give_outputs(evidence: Evidence) -> Iterator[str]:
    for record in evidence.of("invoked"):
        run = evidence.stored.runs.get(record["run"])
        if run is None or "result" not in record.about or has_changed(evidence, run.id, record["key"]):
            continue
        child = evidence.stored.runs.get(run.steps[record["key"]].get("child", ""))
        if child is None or child.status != "completed" or read(child.fields["output"]) != record["result"]:
            yield f"S3.6: {record['key']} of {run.id} gave {record['result']}, but its run is {child and child.fields}"


def ends_are_told(evidence: Evidence) -> Iterator[str]:
    told_of: Counter[str] = Counter()
    for fields in evidence.stored.events.values():
        if fields["name"] in ("taskflow/function.failed", "taskflow/function.cancelled"):
            told_of[json.loads(fields["event"])["data"]["run_id"]] += 1
    for run in evidence.stored.runs.values():
        if told_of[run.id] != expected_news(run):
            yield f"S5.5: run {run.id} is {run.status}, and {told_of[run.id]} events tell of its end"


def expected_news(run: StoredRun) -> int:
    return int(run.status in ("failed", "cancelled"))


RUN_CHECKS = (
    every_run_ends,
    accepted_events_are_routed,
    one_run_per_function,
    ids_deduplicate,
    memos_are_written_once,
    handlers_see_memos,
    outputs_are_returned,
    nothing_runs_after_its_commit,
    no_step_runs_twice_at_once,
    steps_begin_under_a_claim,
    claims_outlast_their_steps,
    suspended_runs_have_heard_all,
    writes_own_their_run,
    cancelled_runs_are_cancelled,
    cancelled_runs_go_no_further,
    steps_are_not_cut_off,
    drained_bodies_begin_once,
    attempts_were_made,
    failed_attempts_are_stored,
    errors_are_those_that_were_raised,
    headers_are_inherited,
    runs_by_hand_are_there,
    queues_are_kept,
    tools_give_what_is_theirs,
    what_was_given_up_is_not_executed_again,
    invocations_give_outputs,
    ends_are_told,
)
