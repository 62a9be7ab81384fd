"""Azure's blob store: attributes, requests and their signatures [CCH-6]."""

from __future__ import annotations

import asyncio
import base64

import pytest

from pybuild.model.errors import UsageError
from pybuild.remotecache.places.azureoptions import (
    AzurePlace,
    attrs_of_url,
    azure_place,
    with_account,
)
from pybuild.remotecache.places.azurestore import AzureContainer, AzureFault
from tests.azureserver import ACCOUNT, KEY, blob_store


def place(url: str) -> AzurePlace:
    return AzurePlace(url=url, account=ACCOUNT, container="c", secret=base64.b64decode(KEY))


def test_attributes_are_the_references_own() -> None:
    found = azure_place(
        {"account_url": "https://acme.blob.core.windows.net/", "name": "a;b", "prefix": "p/"}, "x"
    )
    assert (found.account, found.container, found.names) == ("acme", "buildkit-cache", ("a", "b"))
    assert found.manifest("a") == "p/manifests/a"
    assert found.blob("sha256:1") == "p/blobs/sha256:1"
    with pytest.raises(UsageError, match="not base64"):
        azure_place({"account_url": "https://h", "secret_access_key": "?"}, "x")
    env = {"BUILDKIT_AZURE_STORAGE_CONTAINER": "c", "AZURE_STORAGE_KEY": "k"}
    assert with_account({}, env) == {"container": "c", "secret_access_key": "k"}
    assert with_account({"container": "d"}, {"BUILDKIT_AZURE_STORAGE_CONTAINER": "c"}) == {
        "container": "d"
    }


def test_one_flag_names_account_container_and_folder() -> None:
    assert attrs_of_url("azblob://acme/caches/a/b?name=x") == {
        "account_url": "https://acme.blob.core.windows.net",
        "account_name": "acme",
        "container": "caches",
        "prefix": "a/b",
        "name": "x",
    }
    for text, why in (("azblob://acme", "expected azblob://"), ("azblob://a/c?x=1", '"x"')):
        with pytest.raises(UsageError, match=why):
            attrs_of_url(text)


def test_a_blob_is_written_under_a_condition_and_read_back() -> None:
    async def work(url: str) -> None:
        container = AzureContainer(place(url))
        try:
            await container.create()
            await container.create()  # by somebody else, at the same time
            assert await container.get("d/n", 10) is None
            assert await container.head("d/n") is None
            first = await container.put("d/n", b"one", "")
            assert first
            assert await container.put("d/n", b"two", "") is None
            assert await container.put("d/n", b"two", '"other"') is None
            second = await container.put("d/n", b"two!", first)
            assert await container.get("d/n", 10) == (b"two!", second)
            with pytest.raises(AzureFault, match="more than 3 bytes"):
                await container.get("d/n", 3)
            blob = await container.head("d/n")
            assert blob is not None and (blob.size, blob.etag) == (4, second)
            assert b"".join([piece async for piece in container.pieces("d/n", 4)]) == b"two!"
            with pytest.raises(AzureFault, match="4 of 5 bytes"):
                [piece async for piece in container.pieces("d/n", 5)]
        finally:
            await container.close()

    with blob_store() as (url, store):
        asyncio.run(work(url))
        assert store.refused == 0
