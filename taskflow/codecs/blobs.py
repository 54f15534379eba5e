"""Blobs: large values lie in an object store, and what is stored of them is a reference. Rule S12.4.

A blob's place is `namespace/owner/digest`: the owner is the run that wrote it, the digest that of its bytes. So to write one twice
changes nothing, no process can put other bytes in its place, and all blobs of a run are found by its id.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from taskflow.codecs.envelope import BLOB, blob_reference
from taskflow.errors import BlobUnavailable, ConfigError, DecodeError
from taskflow.values.record import record
from taskflow.values.sizes import MIB

if TYPE_CHECKING:
    from obstore.store import ObjectStore

# Pauses of 0.2, 0.4, ... s, with jitter.
MAX_RETRIES, FIRST_PAUSE = 5, timedelta(seconds=0.2)
RETRY_TIMEOUT = timedelta(seconds=10)
# What a process keeps of the blobs that it has read or written: a run that goes on here reads them again.
CACHE_BYTES = 64 * MIB


@record
class FoundBlob:
    path: str
    owner: str
    size: int  # bytes


class Blobs:
    """The blobs of one deployment. Credentials come from the environment, as AWS_ACCESS_KEY_ID."""

    def __init__(self, url: str, namespace: str) -> None:
        """Raises ConfigError when obstore is not installed, or can't use the URL."""
        self.url = url
        self.namespace = namespace
        self.cached: OrderedDict[str, bytes] = OrderedDict()
        self.cached_bytes = 0
        self._store = open_store(url)

    async def put(self, owner: str, text: bytes) -> bytes:
        """Write a value, as it would be stored; return the reference to store in its place. Raises BlobUnavailable."""
        import obstore

        digest = digest_of(text)
        with self.telling("written"):
            await obstore.put_async(self._store, self.path(owner, digest), text)
        self.keep(digest, text)
        return blob_reference(owner, digest, len(text))

    async def get(self, reference: Mapping[str, Any]) -> bytes:
        """What `put` was given. Raises BlobUnavailable, and DecodeError when the blob is gone or damaged."""
        owner, digest = reference.get(BLOB), reference.get("sha256")
        if not isinstance(owner, str) or not isinstance(digest, str):
            raise DecodeError("a reference to a blob names no blob")
        if (cached := self.cached.get(digest)) is not None:
            self.cached.move_to_end(digest)
            return cached
        path = self.path(owner, digest)
        text = await self.read(path)
        if text is None:
            raise DecodeError(
                f"blob {path} is gone from {self.url}: bring it back and rerun the run, or rerun the run from its start"
            )
        if digest_of(text) != digest:
            raise DecodeError(f"blob {path} in {self.url} is damaged: its bytes have another digest")
        self.keep(digest, text)
        return text

    async def read(self, path: str) -> bytes | None:
        """The bytes of a blob; None if it is gone. Raises BlobUnavailable."""
        import obstore

        with self.telling("read"):
            try:
                found = await obstore.get_async(self._store, path)
                return bytes(await found.bytes_async())
            except FileNotFoundError:
                # A bucket that is not there says the same of each blob. To list it then fails.
                await anext(aiter(obstore.list(self._store, f"{self.namespace}/")), None)
                return None

    async def remove(self, owner: str) -> int:
        """Remove all blobs of an owner; return how many. Raises BlobUnavailable."""
        return await self.remove_all([blob.path async for blob in self.found(owner)])

    async def remove_all(self, paths: Sequence[str]) -> int:
        """Remove blobs; one that is gone is no error. Raises BlobUnavailable."""
        import obstore

        for path in paths:
            with self.telling("removed"), suppress(FileNotFoundError):
                await obstore.delete_async(self._store, path)
        return len(paths)

    async def found(self, owner: str = "") -> AsyncIterator[FoundBlob]:
        """The blobs of the deployment, or of one owner. Raises BlobUnavailable."""
        import obstore

        prefix = f"{self.namespace}/{owner}/" if owner else f"{self.namespace}/"
        pages = aiter(obstore.list(self._store, prefix))
        while True:
            with self.telling("listed"):
                page = await anext(pages, None)
            if page is None:
                return
            for each in page:
                inner = each["path"].removeprefix(f"{self.namespace}/")
                yield FoundBlob(each["path"], inner.partition("/")[0], each["size"])

    def path(self, owner: str, digest: str) -> str:
        return f"{self.namespace}/{owner}/{digest}"

    def keep(self, digest: str, text: bytes) -> None:
        """Keep a blob at hand, until others take its room."""
        if len(text) > CACHE_BYTES // 2 or digest in self.cached:
            return
        self.cached[digest] = text
        self.cached_bytes += len(text)
        while self.cached_bytes > CACHE_BYTES:
            self.cached_bytes -= len(self.cached.popitem(last=False)[1])

    @contextmanager
    def telling(self, what: str) -> Iterator[None]:
        """Raise BlobUnavailable in place of what the object store's client raises."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise BlobUnavailable(f"blobs in {self.url} can't be {what}: {reason:.500}") from error


def digest_of(text: bytes) -> str:
    import hashlib

    return hashlib.sha256(text).hexdigest()


def check_installed() -> None:
    """Raise ConfigError, which names the extra, unless obstore is installed."""
    from importlib.util import find_spec

    if find_spec("obstore") is None:
        raise ConfigError("blobs need obstore: pip install 'taskflow-durable[blobs]'")


def open_store(url: str) -> ObjectStore:
    """The object store at s3://bucket/prefix, gs://..., az://... or file:///folder. Raises ConfigError."""
    check_installed()
    from obstore.exceptions import BaseError
    from obstore.store import LocalStore, from_url

    try:
        if url.startswith("file://"):
            return LocalStore(url.removeprefix("file://"), mkdir=True)
        # No client options: they would take the place of those in the environment, as AWS_ALLOW_HTTP.
        return from_url(
            url,
            retry_config={
                "max_retries": MAX_RETRIES,
                "retry_timeout": RETRY_TIMEOUT,
                "backoff": {"init_backoff": FIRST_PAUSE, "max_backoff": RETRY_TIMEOUT, "base": 2},
            },
        )
    except (BaseError, OSError, ValueError) as error:
        raise ConfigError(f"blobs={url!r} can't be used: {str(error).partition(chr(10))[0]:.500}") from error
