"""The local image store: names, dangling images, several writers [STO-2, IMG-11, IMG-21]."""

from __future__ import annotations

import json
import os
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from pybuild.cache.content.images import NAME, REF_NAME
from pybuild.cache.content.resolutions import Resolutions
from pybuild.cache.store import Store
from pybuild.model.descriptor import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest, canonical_json
from pybuild.model.errors import BlobMissing, EnvironmentFault, UserError
from pybuild.model.platform import LINUX_AMD64
from pybuild.model.reference import Reference
from tests.cache import children
from tests.clocks import FakeClock


def put_json(store: Store, media_type: str, value: object) -> Descriptor:
    data = canonical_json(value)
    return Descriptor(media_type, store.blobs.put(data), len(data))


def image(store: Store, seed: str, layers: list[Descriptor] | None = None) -> Descriptor:
    config = put_json(store, OCI_CONFIG, {"architecture": "amd64", "os": "linux", "seed": seed})
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers or []],
    }
    return put_json(store, OCI_MANIFEST, manifest)


def config_of(store: Store, descriptor: Descriptor) -> str:
    return str(json.loads(store.blobs.read(descriptor.digest))["config"]["digest"])


def index(root: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((root / "index.json").read_bytes())
    return value


def test_tag_writes_the_names_others_look_for(store: Store, root: Path) -> None:
    one = image(store, "1")
    store.images.tag("alpine:3.20", one)
    value = index(root)
    assert (value["schemaVersion"], value["mediaType"]) == (2, OCI_INDEX)
    assert value["manifests"] == [
        {
            "mediaType": OCI_MANIFEST,
            "digest": one.digest,
            "size": one.size,
            "annotations": dict.fromkeys((NAME, REF_NAME), "docker.io/library/alpine:3.20"),
        }
    ]


def test_several_names_of_one_image_are_listed_together(store: Store) -> None:
    one, two = image(store, "1"), image(store, "2")
    store.images.tag("b", one)
    store.images.tag("a", one)
    store.images.tag("ghcr.io/x/y:1", two)
    assert store.images.list() == [
        (("docker.io/library/a:latest", "docker.io/library/b:latest"), one),
        (("ghcr.io/x/y:1",), two),
    ]


def test_moved_tag_leaves_the_old_image_dangling(store: Store) -> None:
    one, two = image(store, "1"), image(store, "2")
    store.images.tag("a", one)
    store.images.tag("a", two)
    assert store.images.list() == [(("docker.io/library/a:latest",), two), ((), one)]
    store.images.tag("b", one)
    assert store.images.list()[-1] == (("docker.io/library/b:latest",), one)


def test_moved_tag_leaves_a_named_image_alone(store: Store) -> None:
    one, two = image(store, "1"), image(store, "2")
    store.images.tag("a", one)
    store.images.tag("b", one)
    store.images.tag("a", two)
    assert [names for names, _ in store.images.list()] == [
        ("docker.io/library/a:latest",),
        ("docker.io/library/b:latest",),
    ]


def test_tag_again_changes_nothing(store: Store, root: Path) -> None:
    one = image(store, "1")
    store.images.tag("a", one)
    before = store.images.signature()
    store.images.tag("a", one)
    assert store.images.signature() == before


def test_untag(store: Store) -> None:
    one = image(store, "1")
    store.images.tag("a", one)
    store.images.tag("b", one)
    assert store.images.untag("nosuch") is None
    assert store.images.untag("a") == one
    assert store.images.untag("b") == one
    assert store.images.list() == []


def test_add_dangling_keeps_names(store: Store) -> None:
    one, two = image(store, "1"), image(store, "2")
    store.images.tag("a", one)
    store.images.add_dangling(one)
    store.images.add_dangling(two)
    store.images.add_dangling(two)
    assert store.images.list() == [(("docker.io/library/a:latest",), one), ((), two)]


def test_tag_of_an_absent_manifest_is_refused(store: Store) -> None:
    absent = Descriptor(OCI_MANIFEST, Digest.of(b"absent"), 6)
    with pytest.raises(BlobMissing):
        store.images.tag("a", absent)
    with pytest.raises(BlobMissing):
        store.images.add_dangling(absent)
    assert store.images.list() == []


def test_invalid_reference_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="must be lowercase"):
        store.images.tag("Alpine", image(store, "1"))


def test_resolve_by_name_and_id(store: Store) -> None:
    one, two = image(store, "1"), image(store, "2")
    store.images.tag("alpine", one)
    store.images.tag("ghcr.io/x/y:1", two)
    config = config_of(store, one)
    for text in (
        "alpine",
        "alpine:latest",
        "docker.io/library/alpine",
        f"alpine@{one.digest}",
        f"alpine:latest@{one.digest}",
        one.digest,
        one.digest.hex,
        one.digest.hex[:12],
        config,
        config.removeprefix("sha256:"),
        config.removeprefix("sha256:")[:12],
        config[:19],
    ):
        assert store.images.resolve(text) == one, text
    for text in ("alpine:3", "y:1", f"ghcr.io/x/y@{one.digest}", "f" * 64, "sha256:", "", "A b"):
        assert store.images.resolve(text) is None, text


def test_name_that_looks_like_an_id_wins(store: Store) -> None:
    one, two = image(store, "1"), image(store, "2")
    start = one.digest.hex[:6]
    store.images.tag("a", one)
    store.images.tag(start, two)
    assert store.images.resolve(start) == two
    assert store.images.resolve("sha256:" + start) == one


def test_ambiguous_start_of_an_id_is_refused(store: Store) -> None:
    seen: dict[str, Descriptor] = {}
    for number in range(100):
        one = image(store, str(number))
        first = one.digest.hex[0]
        if first in seen and first not in "0123456789":
            store.images.add_dangling(one)
            store.images.add_dangling(seen[first])
            with pytest.raises(UserError, match=f'image id "{first}" is ambiguous: '):
                store.images.resolve(first)
            return
        seen[first] = one
    raise AssertionError("no two digests began alike")


def test_one_config_is_one_image_whatever_manifests_it_has(store: Store) -> None:
    """IMG-11: built, and pulled back in another format; the one with a name goes before."""
    one = image(store, "1")
    document = json.loads(store.blobs.read(one.digest))
    others = [put_json(store, OCI_MANIFEST, {**document, "annotations": {"a": n}}) for n in "23"]
    store.images.add_dangling(others[0])
    store.images.tag("named", one)
    store.images.add_dangling(others[1])
    for text in (config_of(store, one), config_of(store, one).removeprefix("sha256:")[:12]):
        assert store.images.resolve(text) == one
    assert store.images.resolve(str(others[1].digest)) == others[1]


def test_image_of_several_platforms_is_found_by_each_config(store: Store) -> None:
    one = image(store, "1")
    absent = Descriptor(OCI_MANIFEST, Digest.of(b"other platform"), 14)
    both = put_json(
        store, OCI_INDEX, {"schemaVersion": 2, "manifests": [one.to_json(), absent.to_json()]}
    )
    store.images.tag("multi", both)
    assert store.images.resolve(config_of(store, one)) == both
    assert store.images.resolve(one.digest.short) == both


def test_entries_of_other_tools_are_kept(store: Store, root: Path) -> None:
    one = image(store, "1")
    foreign = {
        "mediaType": "application/vnd.example+json",
        "digest": str(Digest.of(b"x")),
        "size": 1,
        "artifactType": "application/x",
        "annotations": {REF_NAME: "v1", "org.example": "y"},
    }
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [foreign]}))
    store.images.tag("a", one)
    assert foreign in index(root)["manifests"]
    assert ("v1",) in [names for names, _ in store.images.list()]


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"manifests": 1}', '{"manifests": [1]}', '{"manifests": [{"digest": "x"}]}'],
)
def test_damaged_index_is_a_fault_and_stays(store: Store, root: Path, text: str) -> None:
    one = image(store, "1")
    (root / "index.json").write_text(text)
    with pytest.raises(EnvironmentFault, match="not an image index"):
        store.images.list()
    with pytest.raises(EnvironmentFault, match="not an image index"):
        store.images.tag("a", one)
    assert (root / "index.json").read_text() == text


@pytest.mark.slow
def test_processes_that_tag_at_once_lose_nothing(store: Store, root: Path) -> None:
    one = image(store, "1")
    program = (
        "d = Descriptor(OCI_MANIFEST, Digest.parse(sys.argv[2]), int(sys.argv[3]))\n"
        "for n in range(20): store.images.tag(f'x{sys.argv[4]}:{n}', d)"
    )
    running = [
        children.start(root, program, one.digest, str(one.size), str(number)) for number in range(3)
    ]
    for child in running:
        child.communicate(timeout=60)
        assert child.returncode == 0
    assert len(store.images.list()[0][0]) == 60


def test_reader_never_sees_half_an_index(store: Store, root: Path, clock: FakeClock) -> None:
    one = image(store, "1")
    with Store.open(root, clock) as reader:
        for number in range(10):
            store.images.tag(f"a:{number}", one)
            assert len(reader.images.list()[0][0]) == number + 1


def test_names_are_those_of_the_owner_whose_view_it_is(store: Store) -> None:
    made, theirs = image(store, "mine"), image(store, "theirs")
    store.images.tag("app", made)
    with store.view("names/1") as view:
        assert view.images.resolve("app") is None
        view.images.tag("app", theirs)
        assert view.images.resolve("app") == theirs
        assert view.images.resolve(made.digest) is None
    with store.view("names/2") as other:
        assert other.images.list() == []
    assert store.images.resolve("app") == made


def test_what_any_owner_names_is_not_freed(store: Store) -> None:
    made = image(store, "theirs")
    before = store.images.signature()
    with store.view("names/1") as view:
        view.images.tag("app", made)
    assert store.images.signature() != before
    assert made.digest in store.images.others()


def test_an_owners_index_keeps_so_many_images_without_a_name(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing keeps what they name, so there is no end to them otherwise; the store's own user prunes his."""
    monkeypatch.setattr("pybuild.cache.content.images.MOST_NAMELESS", 3)
    made = [image(store, f"{number}") for number in range(10)]
    with store.view("names/1") as view:
        for one in made:
            view.images.tag("app", one)
            store.images.tag("app", one)
        assert len(view.images.list()) == 4 and len(store.images.list()) == 10
        assert view.images.resolve("app") == made[-1]
        assert view.images.resolve(made[-2].digest) == made[-2]


def test_an_owner_has_so_many_names(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pybuild.cache.content.images.MOST_NAMES", 3)
    made, other = image(store, "made"), image(store, "other")
    with store.view("names/1") as view:
        for number in range(3):
            view.images.tag(f"app:{number}", made)
        with pytest.raises(UserError, match="more than 3 names of images"):
            view.images.tag("app:3", made)
        view.images.tag("app:2", other)
        view.images.untag("app:1")
        view.images.tag("app:3", made)
    for number in range(5):
        store.images.tag(f"app:{number}", made)


def test_answers_of_registries_are_kept_for_an_owner_who_has_no_folder_yet(store: Store) -> None:
    reference = Reference.parse("app")
    with store.view("names/1") as view:
        made = image(store, "theirs")
        Resolutions(view.names_dir).put(reference, LINUX_AMD64, made)
        assert Resolutions(view.names_dir).get(reference, LINUX_AMD64) == made
    assert Resolutions(store.names_dir).get(reference, LINUX_AMD64) is None


def test_the_oldest_answers_of_registries_are_forgotten_by_several_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two processes that thin them out, each finds some gone that it has just seen."""
    monkeypatch.setattr("pybuild.cache.content.resolutions.MOST", 3)
    made, known = image(store, "made"), Resolutions(store.names_dir)
    # Their names are digests, of which one of 256 is an occasion.
    occasions = (
        reference
        for reference in (Reference.parse(f"app:{number}") for number in range(10_000))
        if os.path.basename(known.path(reference, LINUX_AMD64)).startswith("00")
    )
    last, *references = islice(occasions, 7)
    for at, reference in enumerate(references):
        known.put(reference, LINUX_AMD64, made)
        os.utime(known.path(reference, LINUX_AMD64), (at, at))
    gone = known.path(references[3], LINUX_AMD64)
    listed = os.scandir

    def scandir(path: str) -> AbstractContextManager[list[os.DirEntry[str]]]:
        with listed(path) as entries:
            found = list(entries)
        os.unlink(gone)
        return nullcontext(found)

    monkeypatch.setattr("pybuild.cache.content.resolutions.os.scandir", scandir)
    known.put(last, LINUX_AMD64, made)
    there = [known.get(reference, LINUX_AMD64) is not None for reference in references]
    assert there == [False, False, False, False, True, True]
    assert known.get(last, LINUX_AMD64) == made


@pytest.mark.slow
def test_answers_of_registries_are_so_many(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pybuild.cache.content.resolutions.MOST", 10)
    made, known = image(store, "made"), Resolutions(store.names_dir)
    for number in range(1_000):
        known.put(Reference.parse(f"app:{number}"), LINUX_AMD64, made)
    folder = os.path.dirname(known.path(Reference.parse("app"), LINUX_AMD64))
    assert len(os.listdir(folder)) < 900
    assert known.get(Reference.parse("app:999"), LINUX_AMD64) == made
