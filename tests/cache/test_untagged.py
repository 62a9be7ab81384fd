"""Images without a name are garbage, but for the last result of each build [STO-2, GC-4]."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pybuild.cache.content.origins import LAST_RESULT_OF, Origin, origins_of, with_last_result
from pybuild.cache.disk.extent import measure
from pybuild.cache.space.evictor import Evictor
from pybuild.cache.space.mark import mark
from pybuild.cache.space.prune import Policy, prune
from pybuild.cache.space.unusedimages import prune_images
from pybuild.cache.space.usage import usage
from pybuild.cache.space.whykept import why_kept
from pybuild.cache.store import Store
from pybuild.model.descriptor import OCI_INDEX, OCI_LAYER, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault
from tests.cache import children
from tests.cache.builders import Builder, assert_sound, ids
from tests.cache.test_anomalies import FailingDisk
from tests.cache.test_images import config_of, image, put_json
from tests.clocks import FakeClock

KB = 1000
HERE = str(Path(__file__).parent)
ONE: Origin = (HERE, "Dockerfile", "")
OTHER: Origin = (HERE, "Dockerfile", "test")


class Images:
    """Fills a store with images as builds do, each a minute after the other, and ends."""

    def __init__(self, root: Path, clock: FakeClock) -> None:
        self.root, self.clock = root, clock
        self.made = 0

    def build(self, name: str = "", origin: Origin | None = None, size: int = 0) -> Descriptor:
        self.made += 1
        with Store.open(self.root, self.clock) as store:
            data = os.urandom(size) if size else f"{self.made}".encode()
            layer = Descriptor(OCI_LAYER, store.blobs.put(data), len(data))
            made = image(store, f"{self.made}", [layer])
            if name:
                store.images.tag(name, made, origin)
            else:
                store.images.add_dangling(made, origin)
            self.date(store, made)
        return made

    def date(self, store: Store, made: Descriptor) -> None:
        self.clock.advance(60)
        parts = json.loads(store.blobs.read(made.digest))
        for digest in (made.digest, parts["config"]["digest"], parts["layers"][0]["digest"]):
            os.utime(store.blobs.path(digest), (self.clock.time, self.clock.time))


@pytest.fixture
def images(root: Path, clock: FakeClock) -> Images:
    return Images(root, clock)


def there(store: Store) -> set[Digest]:
    return {image.digest for _, image in store.images.list()}


def test_an_image_whose_name_went_to_another_is_freed(store: Store, images: Images) -> None:
    old, new = images.build("same:1"), images.build("same:1")
    pruned = prune(store, Policy(all=True))
    assert len(pruned.records) == 3  # manifest, config and layer
    assert there(store) == {new.digest}
    assert not store.blobs.has(old.digest)
    assert mark(store).leftover == []
    assert_sound(store)


def test_the_last_result_stays_until_the_next_build_of_the_same(
    store: Store, images: Images
) -> None:
    first, other = images.build(origin=ONE), images.build(origin=OTHER)
    assert prune(store, Policy(all=True)).records == []
    second = images.build(origin=ONE)
    assert len(prune(store).records) == 3
    assert there(store) == {other.digest, second.digest}
    assert not store.blobs.has(first.digest)


def test_a_last_result_stays_though_its_name_goes_to_another_build(
    store: Store, images: Images
) -> None:
    mine = images.build("app", ONE)
    theirs = images.build("app", OTHER)
    assert prune(store).records == []
    assert store.images.list() == [(("docker.io/library/app:latest",), theirs), ((), mine)]
    images.build("app", ONE)
    prune(store)
    assert mine.digest not in there(store)
    assert theirs.digest in there(store)  # the last result of OTHER, without a name now


def test_one_image_may_be_the_last_result_of_several_builds(store: Store, images: Images) -> None:
    made = images.build("a", ONE)
    store.images.tag("b", made, OTHER)
    store.images.untag("b")
    assert [origins_of(entry) for entry in store.images.entries()] == [[ONE, OTHER]]
    images.build(origin=ONE)
    store.images.tag("a", images.build())
    prune(store)
    assert made.digest in there(store)
    images.build(origin=OTHER)
    prune(store)
    assert made.digest not in there(store)


def test_a_removed_last_result_is_gone(store: Store, images: Images) -> None:
    made = images.build(origin=ONE)
    store.images.remove(made.digest)
    assert len(prune(store).records) == 3
    named = images.build("a", ONE)
    store.images.untag("a")
    prune(store)
    assert not store.blobs.has(named.digest)


def test_a_directory_that_is_gone_has_had_its_last_build(
    store: Store, images: Images, tmp_path: Path
) -> None:
    (tmp_path / "context").mkdir()
    images.build(origin=(str(tmp_path / "context"), "Dockerfile", ""))
    remote = images.build(origin=("https://git.example/app.git", "Dockerfile", ""))
    assert prune(store).records == []
    (tmp_path / "context").rmdir()
    assert len(prune(store).records) == 3
    assert there(store) == {remote.digest}


def test_marks_of_strangers_are_no_marks() -> None:
    for text in ("", "[", "7", '[["a"]]', '[["a", "b", "c", "d"], "abc"]', "null"):
        assert origins_of({"annotations": {LAST_RESULT_OF: text}}) == []
    assert origins_of({}) == []
    assert origins_of({"annotations": None}) == []
    entries: list[dict[str, Any]] = [
        {"digest": "a", "annotations": {"k": "v"}},
        {"digest": "b"},
    ]
    changed = with_last_result(entries, "a", ONE, entries)
    assert [origins_of(entry) for entry in changed] == [[ONE], []]
    assert with_last_result(changed, "b", ONE, changed)[0] == entries[0]


def test_the_oldest_goes_first_and_no_more_than_must(
    store: Store, root: Path, images: Images
) -> None:
    made = [images.build(size=500 * KB) for _ in range(4)]
    evictor = Evictor(store, 0)
    before = measure(str(root))
    assert evictor.free(lambda: measure(str(root)) - (before - 900 * KB), 0)
    assert there(store) == {one.digest for one in made[2:]}
    assert_sound(store)


def test_the_ceiling_takes_last_results_only_beyond_their_part(
    store: Store, root: Path, images: Images
) -> None:
    made = [images.build(origin=(HERE, f"{n}", ""), size=500 * KB) for n in range(4)]
    evictor = Evictor(store, 1100 * KB)
    evictor.free(lambda: measure(str(root)), 0)  # everything is too much
    assert there(store) == {one.digest for one in made[2:]}
    evictor.insist()
    with evictor.succeeding((HERE, "3", "")):  # it is built again, and there is no other room
        evictor.free(lambda: measure(str(root)), 0)
    assert there(store) == {made[2].digest}
    assert_sound(store)


@pytest.mark.slow
def test_an_image_in_use_stays_whoever_takes_its_name(
    store: Store, root: Path, images: Images
) -> None:
    made = images.build("app")
    child = children.start(
        root,
        "print(store.images.held('app', store.lease).digest, flush=True); sys.stdin.readline()",
    )
    try:
        assert children.line(child) == made.digest
        images.build("app")
        assert prune(store, Policy(all=True)).records == []
        assert prune_images(store, all=True)[0] != []  # the other one
        assert there(store) == {made.digest}
        store.images.remove(made.digest)
        assert prune(store).records == []
        assert store.blobs.verify(Digest.parse(config_of(store, made)))
    finally:
        children.kill(child)
    assert len(prune(store).records) == 3


def test_held_looks_again_when_the_index_changed_meanwhile(
    store: Store, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, other = images.build("app"), images.build()
    lease = store.leases.create()
    add = lease.add_all

    def move(things: list[tuple[str, str]]) -> None:
        if not lease.holds([("blob", made.digest)]):
            store.images.tag("app", other)
        add(things)

    monkeypatch.setattr(lease, "add_all", move)
    held = store.images.held("app", lease)
    assert held is not None
    assert held.digest == other.digest
    assert store.images.held("nosuch", lease) is None
    lease.close()


def test_an_entry_without_its_manifest_or_blobs_of_its_own_goes(
    store: Store, root: Path, images: Images
) -> None:
    lost = images.build(origin=ONE)
    store.blobs.delete(lost.digest)
    with Store.open(root, FakeClock()) as maker:
        inner = image(maker, "inner")
        index = put_json(maker, OCI_INDEX, {"schemaVersion": 2, "manifests": [inner.to_json()]})
        maker.images.tag("multi", index)
        maker.images.add_dangling(inner)
    prune(store)
    assert store.images.list() == [(("docker.io/library/multi:latest",), index)]
    assert store.blobs.has(inner.digest)


def test_an_index_of_several_platforms_goes_whole(store: Store, root: Path) -> None:
    with Store.open(root, FakeClock()) as maker:
        parts = [image(maker, name) for name in ("amd64", "arm64")]
        children = {"schemaVersion": 2, "manifests": [part.to_json() for part in parts]}
        maker.images.add_dangling(put_json(maker, OCI_INDEX, children))
    assert len(prune(store).records) == 5
    assert list(store.blobs.list()) == []
    assert store.images.list() == []


def test_du_and_why_kept_say_what_it_is(store: Store, images: Images) -> None:
    old, last = images.build(), images.build(origin=OTHER)
    by_id = {record.id: record for record in usage(store)}
    assert by_id[old.digest].reclaimable
    assert by_id[old.digest].description == "untagged image"
    assert not by_id[last.digest].reclaimable
    assert by_id[last.digest].description == f"last result of {HERE} (target test)"
    (kept,) = why_kept(store, str(last.digest).removeprefix("sha256:"))[:1]
    assert kept.last_of == (f"{HERE} (target test)",)
    assert kept.images == (last.digest,)
    assert kept.way_out == (
        f"pybuild rmi {last.digest}, then pybuild prune; or the next build of {HERE} (target test)"
    )
    (garbage, *_) = why_kept(store, str(old.digest))
    assert garbage.images == (old.digest,)
    assert garbage.way_out == f"pybuild prune --filter id={garbage.record.id}"


@pytest.mark.slow
def test_prune_that_fails_anywhere_leaves_nothing_for_ever(root: Path, clock: FakeClock) -> None:
    for at in range(1, 200):
        folder = root / str(at)
        images = Images(folder, clock)
        for _ in range(2):
            images.build("same:1", ONE)
        kept = images.build("same:1", ONE)
        disk = FailingDisk(at)
        failed = False
        with Store.open(folder, clock, disk=disk) as store:
            try:
                prune(store, Policy(all=True))
            except EnvironmentFault:
                failed = True
        with Store.open(folder, clock) as store:
            assert_sound(store)
            prune(store, Policy(all=True))
            assert there(store) == {kept.digest}
            assert len(list(store.blobs.list())) == 3
        if not failed and disk.calls < at:
            break
    else:
        raise AssertionError("more calls than were counted on")


def test_image_prune_takes_what_has_no_name_and_spares_layers_of_cached_results(
    store: Store, root: Path, images: Images, clock: FakeClock
) -> None:
    builder = Builder(root, clock)
    cached = builder.layer(name="RUN make")
    dangling, last, named = images.build(), images.build(origin=ONE), images.build("app")
    layer = json.loads(store.blobs.read(dangling.digest))["layers"][0]["digest"]
    store.records.put("layer", cached, {"blobs": {"gzip": {"digest": layer}}})
    config = config_of(store, dangling)
    removed, pruned = prune_images(store)
    assert [image.digest for image in removed] == [dangling.digest]
    assert set(ids(pruned)) == {dangling.digest, config}
    assert store.blobs.has(layer)
    assert there(store) == {last.digest, named.digest}
    removed, _ = prune_images(store, all=True)
    assert [image.names for image in removed] == [("docker.io/library/app:latest",), ()]
    assert store.images.list() == []
    assert [digest for digest, _ in store.blobs.list()] == [layer]
    assert store.deltas.has(cached)


def test_image_prune_of_what_is_older(store: Store, images: Images, clock: FakeClock) -> None:
    old = images.build()
    moment = clock.time
    young = images.build()
    removed, _ = prune_images(store, before=moment)
    assert [image.digest for image in removed] == [old.digest]
    assert there(store) == {young.digest}


@pytest.mark.slow
def test_naming_and_freeing_in_two_processes_neither_block_nor_lose(
    store: Store, root: Path, images: Images
) -> None:
    base = images.build("base")
    child = children.start(
        root,
        "for n in range(40):\n"
        "    held = store.images.held('base', store.lease)\n"
        "    store.images.tag('same', held); store.images.untag('same')\n"
        "    data = b'{\"n\": %d}' % n; d = Descriptor(OCI_MANIFEST, store.blobs.put(data), len(data))\n"
        "    store.images.add_dangling(d)\n"
        "print('done', flush=True)",
    )
    while child.poll() is None:
        prune(store)
    assert children.line(child) == "done"
    children.kill(child)
    prune(store)
    assert store.images.list() == [(("docker.io/library/base:latest",), base)]
    assert_sound(store)
