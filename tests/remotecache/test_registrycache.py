"""A cache under a name in a registry: which requests it makes of a client, and what it makes of answers [CCH-2]."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pybuild.cache.records.results import PUSHED
from pybuild.cache.store import Store
from pybuild.engine.progress import InternalStep
from pybuild.model.descriptor import DOCKER_INDEX, OCI_INDEX, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.reference import Reference
from pybuild.net.http1.faults import HttpFault
from pybuild.registry.client.faults import UnresolvedImage
from pybuild.remotecache.place import ANY_CONTENT
from pybuild.remotecache.places.registry import RegistryCache
from tests.daemon.peers import open_store

REFERENCE = Reference.parse("r.example/app:cache")
BLOB = Descriptor("application/octet-stream", Digest.of(b"blob"), 4)


def made(text: str, media_type: str = OCI_INDEX) -> Descriptor:
    return Descriptor(media_type, Digest.of(text.encode()), len(text))


class Client:
    """A registry that is one tag; *others* are what another writer leaves there before each look."""

    def __init__(self) -> None:
        self.named: Descriptor | None = None
        self.others: list[Descriptor] = []
        self.calls: list[object] = []
        self.fault: Exception | None = None

    async def resolve(self, reference: Reference, *, at_origin: bool) -> Descriptor:
        assert reference == REFERENCE and at_origin
        if self.others:
            self.named = self.others.pop(0)
        if self.named is None:
            raise UnresolvedImage("not found")
        return self.named

    async def push_manifest(self, reference: Reference, media_type: str, data: bytes) -> None:
        assert reference == REFERENCE
        self.named = Descriptor(media_type, Digest.of(data), len(data))

    async def delete(self, reference: Reference, *, refers: bool) -> None:
        self.calls.append(("delete", str(reference), refers))
        if self.fault is not None:
            raise self.fault

    async def manifest(
        self, reference: Reference, blob: Descriptor | None = None
    ) -> tuple[Descriptor, bytes]:
        return made("root"), b"manifest" if blob else b"root"

    async def blob(self, reference: Reference, blob: Descriptor, *, limit: int) -> bytes:
        return b"blob up to %d" % limit

    async def blob_exists(self, reference: Reference, blob: Descriptor) -> bool:
        return blob == BLOB

    async def push_blob(
        self,
        reference: Reference,
        blob: Descriptor,
        _blobs: object,
        mounts: Sequence[str],
        _tell: object,
    ) -> None:
        self.calls.append((str(reference), blob.digest, list(mounts)))


def cache(client: Client, store: Store | None = None, *, needed: bool = False) -> RegistryCache:
    engine = SimpleNamespace(
        client=lambda: client if needed else None,
        cache_client=lambda: None if needed else client,
        store=store,
        near=lambda place: [f"{place}/near", place],  # pyright: ignore[reportUnknownLambdaType]
    )
    return RegistryCache(cast(Any, engine), REFERENCE, needed=needed)


def finish(place: RegistryCache, text: str, expected: Any, media_type: str = OCI_INDEX) -> bool:
    return asyncio.run(place.finish(made(text, media_type), text.encode(), expected))


@pytest.mark.parametrize("needed", [False, True])
def test_what_is_needed_is_waited_for(needed: bool) -> None:
    place = cache(Client(), needed=needed)
    assert asyncio.run(place.root()) == (made("root"), b"root")
    assert place.place == {"reference": "r.example/app:cache"} and place.shared is place
    assert asyncio.run(place.collect(0.0)) == 0
    asyncio.run(place.check())


def test_manifests_and_blobs_are_read_where_they_are() -> None:
    place = cache(Client())
    assert asyncio.run(place.read(BLOB, 7)) == b"blob up to 7"
    assert asyncio.run(place.read(made("x", OCI_MANIFEST), 7)) == b"manifest"
    assert asyncio.run(place.has(BLOB)) and not asyncio.run(place.has(made("x")))


def test_a_name_that_is_not_there_is_no_error() -> None:
    client = Client()
    assert asyncio.run(cache(client).named()) is None
    client.named = made("x")
    assert asyncio.run(cache(client).named()) == made("x")


def test_a_name_is_written_where_it_is_what_was_expected() -> None:
    client = Client()
    place = cache(client)
    assert finish(place, "one", None)
    assert not finish(place, "two", None)
    assert not finish(place, "two", Digest.of(b"other"))
    assert client.named == made("one")
    assert finish(place, "two", Digest.of(b"one"))
    assert client.named == made("two")


def test_another_writer_in_between_is_seen() -> None:
    client = Client()
    theirs = made("theirs")
    client.others = [made("before"), theirs]
    assert not finish(cache(client), "ours", Digest.of(b"before"))
    client.others = []
    assert finish(cache(client), "ours", ANY_CONTENT)
    assert client.named == made("ours")


def test_what_this_build_wrote_on_its_way_is_deleted() -> None:
    client = Client()
    place = cache(client)
    for text in ("one", "two", "two"):
        assert finish(place, text, ANY_CONTENT)
    assert client.calls == [("delete", f"r.example/app@{Digest.of(b'one')}", False)]
    assert finish(place, "docker", ANY_CONTENT, DOCKER_INDEX)
    assert len(client.calls) == 1


@pytest.mark.parametrize(
    ("fault", "deletes"), [(UnresolvedImage("gone"), 2), (HttpFault("no", status=405), 1)]
)
def test_a_registry_that_deletes_nothing_is_asked_once(fault: Exception, deletes: int) -> None:
    client = Client()
    client.fault = fault
    place = cache(client)
    for text in ("one", "two", "three"):
        assert finish(place, text, ANY_CONTENT)
    assert len(client.calls) == deletes


def test_blobs_are_mounted_from_where_they_are_known_to_be(tmp_path: Path) -> None:
    client = Client()
    with open_store(tmp_path) as store:
        known = [f"r.example/other{n}" for n in range(8)]
        store.records.put(PUSHED, BLOB.digest, {"repositories": ["else.example/x", *known]})
        place = cache(client, store)
        asyncio.run(place.put(BLOB, cast(InternalStep, SimpleNamespace(transfer=None))))
        mounts = [word for n in range(8) for word in (f"other{n}/near", f"other{n}")]
        assert client.calls == [("r.example/app:cache", BLOB.digest, mounts)]
        places = store.records.get(PUSHED, BLOB.digest)
        assert places == {"repositories": ["r.example/app", "else.example/x", *known[:6]]}
        asyncio.run(place.put(BLOB, cast(InternalStep, SimpleNamespace(transfer=None))))
        assert store.records.get(PUSHED, BLOB.digest) == places
