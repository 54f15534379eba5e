"""Blobs in a folder, and in a server that speaks S3's protocol."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import orjson
import pytest
from moto.server import ThreadedMotoServer

from taskflow import BlobUnavailable, ConfigError, DecodeError, Encryption, TaskFlow
from taskflow.codecs.blobs import Blobs
from taskflow.codecs.codecs import NO_CODECS, BlobPlace, Codecs
from taskflow.values.stored import dump, load

LARGE = {"text": "x" * 1_000_000}


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The URL of a bucket on a server of moto's."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    urlopen(Request(f"{endpoint}/acme", method="PUT")).close()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }.items():  # fmt: skip
            environment.setenv(name, value)
        yield "s3://acme/some/prefix"
    server.stop()


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return f"file://{tmp_path}/blobs of it"
    found: str = request.getfixturevalue("s3")
    return found


def opened(url: str, namespace: str = "tf") -> Blobs:
    return Blobs(url, namespace)


async def test_blob_is_written_read_found_and_removed(url: str) -> None:
    blobs = opened(url)
    stored = dump(LARGE, what="it")
    reference = await blobs.put("run-1", stored)
    assert len(reference) < 200
    assert orjson.loads(reference)["size"] == len(stored)
    other = await blobs.put("run-2", b'"other"')
    reader = opened(url)
    assert await reader.get(orjson.loads(reference)) == stored
    found = {blob.owner: blob.size async for blob in reader.found()}
    assert found == {"run-1": len(stored), "run-2": 7}
    assert await reader.remove("run-1") == 1
    assert [blob.owner async for blob in reader.found()] == ["run-2"]
    assert await opened(url).get(orjson.loads(other)) == b'"other"'
    await reader.remove("run-2")


async def test_deployments_in_one_bucket_do_not_see_each_other(url: str) -> None:
    mine, other = opened(url, "mine"), opened(url, "other")
    await mine.put("run", b"1")
    assert [blob.owner async for blob in other.found()] == []
    assert await other.remove("run") == 0
    assert await mine.remove("run") == 1


async def test_to_write_a_blob_twice_changes_nothing(url: str) -> None:
    blobs = opened(url)
    assert await blobs.put("run", b"same") == await blobs.put("run", b"same")
    assert await blobs.remove("run") == 1


async def test_blob_that_is_gone_is_told(url: str) -> None:
    reference = orjson.loads(await opened(url).put("run", b"text"))
    await opened(url).remove("run")
    with pytest.raises(DecodeError, match=r"blob tf/run/.* is gone from") as caught:
        await opened(url).get(reference)
    assert not isinstance(caught.value, BlobUnavailable)


async def test_blob_with_other_bytes_is_refused(tmp_path: Path) -> None:
    blobs = opened(f"file://{tmp_path}")
    reference = orjson.loads(await blobs.put("run", b"text"))
    (tmp_path / "tf" / "run" / reference["sha256"]).write_bytes(b"TEXT")
    with pytest.raises(DecodeError, match="is damaged: its bytes have another digest"):
        await opened(f"file://{tmp_path}").get(reference)


async def test_bucket_that_is_not_there_is_an_unavailable_store(s3: str) -> None:
    blobs = opened("s3://nobody/prefix")
    with pytest.raises(BlobUnavailable, match=r"blobs in s3://nobody/prefix can't be written: "):
        await blobs.put("run", b"text")
    # What was written to a bucket is not gone because another one is asked.
    reference = orjson.loads(await opened(s3).put("run", b"text"))
    with pytest.raises(BlobUnavailable, match=r"can't be read: "):
        await blobs.get(reference)
    with pytest.raises(BlobUnavailable, match=r"can't be listed: "):
        await blobs.remove("run")


async def test_server_that_is_away_is_asked_again_and_then_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(BlobUnavailable, match=r"can't be written: .* after 5 retries"):
        await opened("s3://acme/x").put("run", b"text")


async def test_process_keeps_what_it_has_read(tmp_path: Path) -> None:
    blobs = opened(f"file://{tmp_path}")
    reference = orjson.loads(await blobs.put("run", b"text"))
    await blobs.remove("run")
    assert await blobs.get(reference) == b"text"


async def test_value_in_a_blob_is_encrypted_before(tmp_path: Path) -> None:
    codecs = Codecs(
        [Encryption("correct horse battery staple")], BlobPlace(f"file://{tmp_path}", 1_000, "tf")
    )
    reference = await codecs.blobs.put("run", dump(LARGE, codec=codecs, what="it"))
    (path,) = (tmp_path / "tf" / "run").iterdir()
    assert path.read_bytes().startswith(b'{"__ENCRYPTED__":true')
    assert load(await codecs.fetched(reference), codec=codecs, what="it") == LARGE
    assert codecs.shown(reference) == "in a blob, 1.3 MiB"
    with pytest.raises(BlobUnavailable, match="does not say where its blobs are"):
        await NO_CODECS.fetched(reference)


@pytest.mark.parametrize("blobs", ["nowhere", "ftp://host/x", "s3://", "file://"])
def test_url_that_is_none_is_a_config_error(blobs: str) -> None:
    with pytest.raises(ConfigError, match="blobs must be a URL"):
        TaskFlow("shop", blobs=blobs)


def test_missing_obstore_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'taskflow-durable\[blobs\]'"):
        TaskFlow("shop", blobs=f"file://{tmp_path}")
