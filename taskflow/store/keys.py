"""Keys: the names of all keys, and the only place that spells "tf:".

The scripts make the same names from the prefix, in `lua/includes/keys.lua`.
"""

from __future__ import annotations

from dataclasses import field

from taskflow.values.record import record

SEPARATOR = "\x1f"  # between the names of which a member or field is made


@record
class Keys:
    """The keys of one partition. `prefix` is "tf:{0}:": the hash tag keeps them in one cluster slot."""

    namespace: str = "tf"
    partition: int = 0
    prefix: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", f"{self.namespace}:{{{self.partition}}}:")

    def run(self, run_id: str) -> str:
        return f"{self.prefix}run:{run_id}"

    def steps(self, run_id: str) -> str:
        return f"{self.prefix}steps:{run_id}"

    def batch(self, run_id: str) -> str:
        return f"{self.prefix}batch:{run_id}"

    def runs(self, function_id: str, kind: str = "") -> str:
        """The runs of a function, all or those of a kind: live, failed, cancelled or skipped."""
        return f"{self.prefix}runs:{function_id}{f'{SEPARATOR}{kind}' if kind else ''}"

    def children(self, run_id: str) -> str:
        return f"{self.prefix}children:{run_id}"

    @property
    def counts(self) -> str:
        return f"{self.prefix}counts"

    @property
    def ended(self) -> str:
        return f"{self.prefix}ended"

    def bulk(self, bulk_id: str) -> str:
        return f"{self.prefix}bulk:{bulk_id}"

    @property
    def bulks(self) -> str:
        return f"{self.prefix}bulks"

    @property
    def bulks_open(self) -> str:
        return f"{self.prefix}bulks_open"

    def webhook(self, request_id: str) -> str:
        return f"{self.prefix}webhook:{request_id}"

    @property
    def webhooks(self) -> str:
        return f"{self.prefix}webhooks"

    def ready(self, function_id: str, queue: str, lane: str = "") -> str:
        """The ready runs of a function in a queue: those without limits, or those of a lane."""
        rest = f"{SEPARATOR}{lane}" if lane else ""
        return f"{self.prefix}ready:{queue}:{function_id}{rest}"

    def places(self, limit_id: str) -> str:
        return f"{self.prefix}places:{limit_id}"

    def throttle(self, throttle_id: str) -> str:
        return f"{self.prefix}throttle:{throttle_id}"

    def claims(self, child_id: str) -> str:
        return f"{self.prefix}claims:{child_id}"

    def event(self, uid: str) -> str:
        return f"{self.prefix}event:{uid}"

    def events(self, name: str) -> str:
        return f"{self.prefix}events:{name}"

    def event_id(self, public_id: str) -> str:
        return f"{self.prefix}event_id:{public_id}"

    def functions(self, app_id: str) -> str:
        return f"{self.prefix}functions:{app_id}"

    def codes(self, app_id: str) -> str:
        return f"{self.prefix}codes:{app_id}"

    def code(self, app_id: str, code: str) -> str:
        return f"{self.prefix}code:{app_id}{SEPARATOR}{code}"

    def app(self, app_id: str) -> str:
        return f"{self.prefix}app:{app_id}"

    def channel(self, name: str) -> str:
        """The messages of a channel; also the name under which the store tells of new ones."""
        return f"{self.prefix}channel:{name}"

    def channel_count(self, name: str) -> str:
        """The id of the last message of a channel."""
        return f"{self.prefix}channel_count:{name}"

    def watch_channel(self, run_id: str) -> str:
        return f"{self.prefix}watch:{run_id}"

    def done_channel(self, run_id: str) -> str:
        return f"{self.prefix}done:{run_id}"

    def child_channel(self, child_id: str) -> str:
        return f"{self.prefix}child:{child_id}"

    def pauses_channel(self, app_id: str) -> str:
        return f"{self.prefix}pauses:{app_id}"

    @property
    def paused(self) -> str:
        return f"{self.prefix}paused"

    @property
    def apps(self) -> str:
        return f"{self.prefix}apps"

    @property
    def known_functions(self) -> str:
        return f"{self.prefix}known_functions"

    @property
    def queues(self) -> str:
        return f"{self.prefix}queues"

    def queue(self, app_id: str, name: str) -> str:
        return f"{self.prefix}queue:{app_id}:{name}"

    @property
    def outbox(self) -> str:
        return f"{self.prefix}outbox"

    @property
    def event_names(self) -> str:
        return f"{self.prefix}event_names"

    @property
    def timers(self) -> str:
        return f"{self.prefix}timers"

    @property
    def nudge(self) -> str:
        return f"{self.prefix}nudge"

    @property
    def leader(self) -> str:
        return f"{self.prefix}leader"

    @property
    def crons(self) -> str:
        return f"{self.prefix}crons"

    @property
    def workers(self) -> str:
        return f"{self.prefix}workers"

    @property
    def running(self) -> str:
        return f"{self.prefix}running"

    @property
    def serving(self) -> str:
        return f"{self.prefix}serving"

    @property
    def blobs(self) -> str:
        return f"{self.prefix}blobs"

    def blob_users(self, owner: str) -> str:
        return f"{self.prefix}blob_users:{owner}"

    @property
    def dead_letters(self) -> str:
        return f"{self.prefix}dead_letters"

    @property
    def keys(self) -> str:
        return f"{self.prefix}keys"

    @property
    def keys_used(self) -> str:
        return f"{self.prefix}keys_used"

    @property
    def audit(self) -> str:
        return f"{self.prefix}audit"


def signal_key(app_id: str, name: str) -> str:
    """The field of an app's signal in the hash `signals`."""
    return f"{app_id}{SEPARATOR}{name}"
