"""Images over Docker's API: one for each platform, searches, configs of commits [EP-10…16, CTR-90]."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from pybuild.cache.store import Store
from pybuild.containers.committing import with_config
from pybuild.containers.events import EventStream
from pybuild.daemon.rest.committing import committed_config
from pybuild.daemon.rest.fields import read_object
from pybuild.daemon.rest.foldernotices import FolderNotices, until_set
from pybuild.daemon.rest.imageplatforms import image_for, manifest_entries, platform_of_json
from pybuild.daemon.rest.query import Query
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.daemon.rest.registryqueries import search_filters
from pybuild.engine.host import SystemClock
from pybuild.image.attestation import MANIFEST_KIND, REFERENCE_DIGEST, REFERENCE_TYPE
from pybuild.image.manifest import build_manifest
from pybuild.model.descriptor import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Descriptor
from pybuild.model.platform import Platform
from tests import watchdog

ARM, S390 = Platform("linux", "arm64"), Platform("linux", "s390x")


@pytest.fixture
def store(tmp_path: Path) -> Generator[Store]:
    with Store.open(tmp_path / "store", SystemClock()) as opened:
        yield opened


def put(store: Store, media_type: str, data: bytes, **more: Any) -> Descriptor:
    return Descriptor(media_type, store.blobs.put(data), len(data), **more)


def image(store: Store, platform: Platform) -> Descriptor:
    config = put(store, OCI_CONFIG, json.dumps({**platform.to_json(), "rootfs": {}}).encode())
    return put(store, OCI_MANIFEST, build_manifest(config, [], OCI_MANIFEST), platform=platform)


def index(store: Store, *children: Descriptor) -> Descriptor:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [one.to_json() for one in children],
    }
    return put(store, OCI_INDEX, json.dumps(document).encode())


def test_an_image_for_several_platforms(store: Store) -> None:
    arm, s390 = image(store, ARM), image(store, S390)
    both = index(store, arm, s390)
    assert image_for(store, both, ARM, "app").digest == arm.digest
    assert image_for(store, both, S390, "app").digest == s390.digest
    assert image_for(store, both, None, "app") in (both, arm, s390)
    assert image_for(store, arm, ARM, "app") == arm
    with pytest.raises(ApiRefusal, match="does not provide the specified platform") as caught:
        image_for(store, arm, S390, "app")
    assert caught.value.status == 404
    with pytest.raises(ApiRefusal):
        image_for(store, both, Platform("linux", "riscv64"), "app")


def test_events_tell_of_images_by_id_and_labels(store: Store) -> None:  # [ENG-45]
    settings = {"config": {"Labels": {"a": "b"}}, "rootfs": {}}
    config = put(store, OCI_CONFIG, json.dumps(settings).encode())
    labelled = put(store, OCI_MANIFEST, build_manifest(config, [], OCI_MANIFEST))
    unknown = Platform("unknown", "unknown")
    attested = index(store, labelled, put(store, OCI_MANIFEST, b"{}", platform=unknown))
    several = index(store, image(store, ARM), image(store, S390))
    stream = EventStream(store.root, since=0)
    for one in (labelled, attested, several):
        store.images.tag("app", one)
        store.images.remove(one.digest)
    told = [(e["Action"], e["Actor"]["ID"], e["Actor"]["Attributes"]) for e in stream.read() or ()]
    stream.close()
    id, labels = str(config.digest), {"a": "b"}
    expected = [
        ("tag", id, {**labels, "name": "app:latest"}),
        ("untag", id, {**labels, "name": "app:latest"}),
        ("delete", id, {**labels, "name": id}),
    ]
    assert told[:3] == told[3:6] == expected
    assert {id for _, id, _ in told[6:]} == {str(several.digest)}


def test_the_manifests_of_an_image(store: Store) -> None:
    """Those that are not here, and attestations, are listed too."""
    arm = image(store, ARM)
    about = {REFERENCE_TYPE: MANIFEST_KIND, REFERENCE_DIGEST: str(arm.digest)}
    unknown = Platform("unknown", "unknown")
    document = build_manifest(arm, [], OCI_MANIFEST)
    claim = put(store, OCI_MANIFEST, document, platform=unknown, annotations=about)
    absent = Descriptor(OCI_MANIFEST, arm.digest.of(b"elsewhere"), 9, platform=S390)
    shown = manifest_entries(store, index(store, arm, absent, claim))
    assert [(one["Kind"], one["Available"]) for one in shown] == [
        ("image", True),
        ("image", False),
        ("attestation", True),
    ]
    assert shown[0]["ImageData"]["Platform"] == {"architecture": "arm64", "os": "linux"}
    assert shown[2]["AttestationData"] == {"For": str(arm.digest)}
    assert manifest_entries(store, arm)[0]["ID"] == str(arm.digest)


def test_a_platform_in_a_query() -> None:
    assert platform_of_json("") is None
    assert platform_of_json('{"os":"linux","architecture":"arm64","variant":"v8"}') == ARM
    for text in ("linux/arm64", "{}", "[]", '{"os":"linux"}', '{"os":1}'):
        with pytest.raises(ApiRefusal) as caught:
            platform_of_json(text)
        assert caught.value.status == 400


def test_filters_of_a_search() -> None:
    assert search_filters([]) == (0, None)
    assert search_filters(["stars=3", "is-official=true", "is-automated=false"]) == (3, True)
    for text in ("stars=x", "is-official=perhaps", "name=x", "stars=99999999999"):
        with pytest.raises(ApiRefusal, match="invalid filter"):
            search_filters([text])


def test_a_config_that_a_commit_is_given() -> None:
    """A change comes over the container's config: maps and variables are joined, the rest is replaced."""
    body = read_object(
        b'{"Cmd":["new"],"Env":["A=2"],"Labels":{"b":"2"},"User":"","Volumes":null,'
        b'"Healthcheck":{"Test":["NONE"],"Retries":0}}'
    )
    given = committed_config(body)
    assert given == {
        "Cmd": ["new"],
        "Env": ["A=2"],
        "Labels": {"b": "2"},
        "Healthcheck": {"Test": ["NONE"]},
    }
    own = {"Cmd": ["old"], "Env": ["A=1", "B=1", "GONE"], "Labels": {"a": "1"}, "User": "me"}
    assert with_config(own, given) == {
        "Cmd": ["new"],
        "Env": ["A=2", "B=1"],
        "Labels": {"a": "1", "b": "2"},
        "User": "me",
        "Healthcheck": {"Test": ["NONE"]},
    }


def test_notices_of_a_folder(tmp_path: Path) -> None:
    """All who watch a directory hear of it; one that cannot be watched is looked at after a while."""

    async def work() -> None:
        notices = FolderNotices()
        with notices.watch(str(tmp_path)) as one, notices.watch(str(tmp_path)) as other:
            (tmp_path / "file").write_text("x")
            await one.wait()
            await other.wait()
        with notices.watch(str(tmp_path / "absent")) as never:
            await until_set(never, 0.0)
            assert not never.is_set()
        notices.close()
        notices.close()

    with watchdog.ends():
        asyncio.run(work())


def test_a_platform_that_there_is_not() -> None:
    """Clients look for docker's words."""
    assert Query({}).platform() is None
    assert Query({"platform": ["linux/arm64"]}).platform() == ARM
    words = '"foo": unknown operating system or architecture: invalid argument'
    with pytest.raises(ApiRefusal) as caught:
        Query({"platform": ["foo"]}).platform()
    assert (caught.value.status, caught.value.message) == (400, words)
