"""Store: one connection to the store, with one object for each group of methods."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from taskflow.codecs.codecs import NO_CODECS, Codecs
from taskflow.errors import StoreVersionMismatch
from taskflow.redis.address import parse_server_url
from taskflow.redis.client import StoreClient
from taskflow.redis.connection import CommandError
from taskflow.redis.scripts import Scripts, loading_commands
from taskflow.store.blob_owners import BlobOwners
from taskflow.store.bulk import Bulks
from taskflow.store.claims import Claims
from taskflow.store.clients import Clients
from taskflow.store.control import Steering
from taskflow.store.duties import Duties
from taskflow.store.history import History
from taskflow.store.keys import Keys
from taskflow.store.listing import Listing
from taskflow.store.messages import Messages
from taskflow.store.refusals import Refusals
from taskflow.store.registry import Registry
from taskflow.store.routing import Routing
from taskflow.store.webhooks import KeptWebhooks
from taskflow.values.clock import SystemClock
from taskflow.values.ids import new_secret

# The version of the keys and their content. A store with another version is refused: before 1.0 nothing is migrated.
DATA_VERSION = "2"
PACKAGE = "taskflow.store"

CLOCK_ERROR_MS = 50  # the error of a measurement of the store's clock up to which it is not repeated
CLOCK_TRIES = 3  # how often it is measured; a slow store does not give better answers later

logger = logging.getLogger("taskflow.store")


class Store:
    """The connected store. Connect with `await Store.open(url)`; close with `await store.close()`."""

    def __init__(self, client: StoreClient, keys: Keys, codecs: Codecs = NO_CODECS) -> None:
        """`codecs` are for its user, to write and read values: the methods here take and give these as they are stored."""
        self.codecs = codecs
        self.client = client
        self.keys = keys
        scripts = Scripts(client, keys.prefix, PACKAGE)
        self.scripts = scripts
        self.claims = Claims(scripts, keys)
        self.refusals = Refusals(scripts)
        self.routing = Routing(scripts)
        self.duties = Duties(scripts)
        self.registry = Registry(client, scripts, keys)
        self.history = History(client, keys)
        self.listing = Listing(scripts)
        self.steering = Steering(client, scripts, keys)
        self.clients = Clients(client, scripts, keys)
        self.messages = Messages(client, scripts, keys)
        self.blob_owners = BlobOwners(client, keys)
        self.bulks = Bulks(client, scripts, keys)
        self.webhooks = KeptWebhooks(client, scripts, keys)

    @classmethod
    async def open(
        cls, url: str, *, namespace: str = "tf", timeout_s: float = 3.0, codecs: Codecs = NO_CODECS
    ) -> Store:
        """Connect and check the version. Raises StoreUnavailable, StoreVersionMismatch or ConfigError."""
        keys = Keys(namespace)
        client = StoreClient(
            parse_server_url(url, what="store"),
            home_key=keys.prefix,
            on_connected=partial(loading_commands, PACKAGE),
        )
        store = cls(client, keys, codecs)
        try:
            async with asyncio.timeout(timeout_s):
                await client.connect(timeout_s=timeout_s)
                await store.check_version()
        except TimeoutError as error:  # the server accepted the connection, and then gave no answer
            await client.close()
            raise client.unavailable("no answer in time") from error
        except CommandError as refusal:
            await client.close()
            raise client.unavailable(f"it refused: {refusal}") from refusal
        except BaseException:
            await client.close()
            raise
        return store

    async def check_version(self) -> None:
        """Refuse a store whose data another major version wrote; learn the deployment's secret."""
        # A process that has the secret brings it back to a store that was emptied: what it derives stays the same.
        mine = self.registry.secret or new_secret()
        version, secret = await self.scripts.check_version(version=DATA_VERSION, secret=mine)
        found = version.decode()
        if found != DATA_VERSION:
            raise StoreVersionMismatch(
                f"the store at {self.client.address} holds data of taskflow's format {found}, but this version reads format "
                f"{DATA_VERSION}. Use the taskflow that wrote it, another database, or another TASKFLOW_NAMESPACE."
            )
        self.registry.secret = secret

    async def correct(self, clock: SystemClock) -> None:
        """Set the clock by the store's TIME. Rule S8.3.

        A slow answer, perhaps over a connection that was lost meanwhile, leaves the clock as wrong as it was: then it asks again.
        """
        for _ in range(CLOCK_TRIES):
            before_ms = clock.local_now_ms()
            seconds, micros = await self.client.call("TIME")
            after_ms = clock.local_now_ms()
            error_ms = (after_ms - before_ms) // 2
            clock.correct(
                int(seconds) * 1000 + int(micros) // 1000,
                local_now_ms=(before_ms + after_ms) // 2,
                error_ms=error_ms,
            )
            if error_ms <= CLOCK_ERROR_MS:
                return

    def flush(self) -> None:
        """Send the commands of this turn of the loop at once, and not at its end."""
        self.client.flush()

    async def close(self) -> None:
        await self.client.close()
