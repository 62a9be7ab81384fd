"""du and prune: what is needed stays, what goes is what was said [CMD-3, CMD-4, GC-1..6]."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pybuild.cache.disk.extent import measure
from pybuild.cache.records.results import Results
from pybuild.cache.space.mark import mark
from pybuild.cache.space.prune import (
    Policy,
    Pruned,
    choose,
    collect,
    default_policies,
    prune,
    wait_until_freed,
)
from pybuild.cache.space.usage import overhead, usage
from pybuild.cache.store import Store
from pybuild.model.descriptor import OCI_INDEX, OCI_LAYER, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault
from pybuild.model.named import NamedInputs
from pybuild.model.snapshot import Record, Snapshot
from tests.cache import children
from tests.cache.builders import Builder, assert_sound, ids
from tests.cache.test_images import image, put_json
from tests.clocks import FakeClock

DAY = 86400.0


def test_du_lists_deltas_with_all_that_is_known(
    store: Store, builder: Builder, clock: FakeClock
) -> None:
    base = builder.layer(name="FROM alpine", size=100_000)
    clock.advance(60)
    top = builder.layer(base, name="RUN make")
    created = clock.time
    clock.advance(3600)
    builder.use(top)
    by_id = {record.id: record for record in usage(store)}
    assert by_id[base].description == "FROM alpine"
    assert by_id[base].shared
    assert by_id[base].created == created - 60
    assert by_id[base].last_used == clock.time
    assert by_id[base].size >= 100_000
    assert by_id[base].parents == ()
    assert by_id[top].parents == (base,)
    assert by_id[top].use_count == 1
    assert by_id[top].type == "regular"
    assert not by_id[top].shared
    assert not by_id[top].in_use
    assert by_id[top].reclaimable


def test_size_is_measured_once_and_a_torn_note_is_not_believed(
    store: Store, builder: Builder
) -> None:
    id = builder.layer(size=100_000)
    size = usage(store)[0].size
    note = Path(store.deltas.path(id)).parent / "size"
    assert note.read_text() == f"{size}\n"
    note.write_text("123\n")
    assert usage(store)[0].size == 123
    note.write_text("12")
    assert usage(store)[0].size >= size


def test_the_note_of_the_size_is_counted_in_it(store: Store, builder: Builder) -> None:
    id = builder.layer(size=100_000)
    size = usage(store)[0].size
    assert size == measure(os.path.dirname(store.deltas.path(id)))


def test_measure_counts_links_once_and_follows_none(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(bytes(65536))
    alone = measure(str(tree))
    os.link(tree / "file", tree / "hard")
    (tree / "soft").symlink_to("/usr")
    assert alone >= 65536
    assert measure(str(tree)) - alone < 65536


def test_prune_frees_all_that_nobody_needs(store: Store, builder: Builder, root: Path) -> None:
    base = builder.layer()
    top = builder.layer(base)
    loose = builder.blob(b"loose")
    usage(store)  # leaves notes of sizes
    before = measure(str(root / "snapshots")) + measure(str(root / "blobs"))
    pruned = prune(store)
    assert sorted(ids(pruned)) == sorted([base, top, str(loose)])
    assert pruned.freed == sum(record.size for record in pruned.records)
    wait_until_freed(store)
    after = measure(str(root / "snapshots")) + measure(str(root / "blobs"))
    assert before - after == pruned.freed
    assert usage(store) == []
    assert list(store.records.items("result")) == []
    assert list(store.records.items("alias")) == []
    assert_sound(store)


def test_prune_tidies_what_was_about_records_now_gone(
    store: Store, builder: Builder, clock: FakeClock
) -> None:
    builder.layer()
    builder.use(builder.layer())
    clock.advance(DAY)
    kept = builder.layer()
    builder.use(kept)
    store.records.put("layer", "sha256-" + "a" * 64, {"digest": Digest.of(b"remote")})
    here = store.blobs.put(b"here")
    for digest in (here, Digest.of(b"gone")):
        store.records.put("pushed", digest, {"repositories": ["r.example/a"]})
    prune(store, Policy(keep_duration_s=DAY))
    key = Digest.of(kept.encode())
    assert [name for name, _ in store.records.items("result")] == [key]
    assert [name for name, _ in store.records.items("use")] == [key]
    assert [value["target"] for _, value in store.records.items("alias")] == [key]
    assert list(store.records.items("layer")) == []
    assert [digest for digest, _ in store.records.items("pushed")] == [here]


def test_prune_spares_what_images_need(store: Store, builder: Builder, root: Path) -> None:
    with Store.open(root, FakeClock()) as maker:
        layer = Descriptor(OCI_LAYER, maker.blobs.put(b"layer"), 5)
        tagged, last, inner = image(maker, "t", [layer]), image(maker, "d"), image(maker, "i")
        index = put_json(maker, OCI_INDEX, {"schemaVersion": 2, "manifests": [inner.to_json()]})
        maker.images.tag("a", tagged)
        maker.images.add_dangling(last, ("-", "Dockerfile", ""))
        maker.images.tag("multi", index)
        lost = image(maker, "lost")
    loose = builder.blob(b"loose")
    kept = {d for d, _ in store.blobs.list()} - {loose, lost.digest}
    pruned = prune(store, Policy(all=True))
    assert {loose, lost.digest} <= set(ids(pruned))
    left = {digest for digest, _ in store.blobs.list()}
    assert left == kept - (kept & set(ids(pruned)))
    assert layer.digest in left
    marked = mark(store)
    needed = marked.image_blobs | marked.last_results.keys()
    for descriptor in (tagged, last, inner, index):
        assert descriptor.digest in needed
    assert needed <= left


def test_untagged_image_is_freed(store: Store, root: Path) -> None:
    with Store.open(root, FakeClock()) as maker:
        maker.images.tag("a", image(maker, "1"))
    assert prune(store).records == []
    store.images.untag("a")
    assert len(prune(store).records) == 2
    assert list(store.blobs.list()) == []


@pytest.mark.slow
def test_prune_spares_what_is_leased_in_another_process(
    store: Store, builder: Builder, root: Path
) -> None:
    base = builder.layer()
    used = builder.layer(base)
    unused = builder.layer(base)
    key = Digest.of(used.encode())
    child = children.start(
        root,
        "r = Results(store).load(Digest.parse(sys.argv[2])); d = store.blobs.put(b'mine')\n"
        "print(d, flush=True); sys.stdin.readline()",
        key,
    )
    try:
        blob = children.line(child)
        assert ids(prune(store)) == [unused]
        assert store.deltas.has(base)
        assert store.deltas.has(used)
        assert store.blobs.has(blob)
        assert_sound(store)
    finally:
        children.kill(child)
    assert set(ids(prune(store))) == {base, used, blob}


def test_dry_choice_frees_nothing(store: Store, builder: Builder) -> None:
    id = builder.layer()
    assert ids(choose(store, Policy(), usage(store))) == [id]
    assert store.deltas.has(id)


def test_least_recently_used_goes_first(store: Store, builder: Builder, clock: FakeClock) -> None:
    layers: list[str] = []
    for _ in range(4):
        layers.append(builder.layer(size=100_000))
        clock.advance(DAY)
    builder.use(layers[0])
    sizes = {record.id: record.size for record in usage(store)}
    limit = sum(sizes.values()) - sizes[layers[1]] - 1
    pruned = prune(store, Policy(max_used_space=limit))
    assert ids(pruned) == [layers[1], layers[2]]
    assert store.deltas.has(layers[0])
    assert store.deltas.has(layers[3])
    assert_sound(store)


def test_children_go_before_what_they_lie_on(
    store: Store, builder: Builder, clock: FakeClock
) -> None:
    base = builder.layer()
    clock.advance(DAY)
    middle = builder.layer(base)
    clock.advance(DAY)
    top = builder.layer(base, middle)
    order = ids(prune(store))
    assert order == [top, middle, base]


def test_limits(store: Store, builder: Builder, clock: FakeClock) -> None:
    for _ in range(5):
        builder.layer(size=100_000)
        clock.advance(60)
    total = sum(record.size for record in usage(store))
    assert prune(store, Policy(max_used_space=total)).records == []
    assert prune(store, Policy(max_used_space=0, reserved_space=total)).records == []
    assert prune(store, Policy(min_free_space=0)).records == []
    assert len(prune(store, Policy(max_used_space=total - 1)).records) == 1
    assert len(prune(store, Policy(reserved_space=total // 2)).records) == 2
    assert len(prune(store, Policy(min_free_space=1 << 60)).records) == 2


def test_keep_duration(store: Store, builder: Builder, clock: FakeClock) -> None:
    old = builder.layer()
    clock.advance(2 * DAY)
    young = builder.layer()
    assert ids(prune(store, Policy(keep_duration_s=DAY))) == [old]
    assert store.deltas.has(young)


def test_clock_set_back_pins_nothing(store: Store, builder: Builder, clock: FakeClock) -> None:
    clock.advance(365 * DAY)
    future = builder.layer()
    builder.use(future)
    clock.advance(-365 * DAY)
    (record,) = usage(store)
    assert record.last_used == clock.time
    clock.advance(2 * DAY)
    assert ids(prune(store, Policy(max_used_space=0))) == [future]


def test_records_of_any_kind_hold_the_blobs_that_they_name(store: Store) -> None:
    one, two = store.blobs.put(b"one"), store.blobs.put(b"two")
    deep: dict[str, object] = {
        "list": [{"digest": str(two)}],
        "text": "sha256:short",
        "at": "no time",
    }
    store.records.put("other", "named", {"name": "a name", "description": "d", "digest": str(one)})
    store.records.put("other", "plain", deep)
    holders = {
        holder.name[1]: holder
        for holder in mark(store).holders.values()
        if holder.name[0] == "other"
    }
    assert (holders["named"].description, holders["named"].blobs) == ("a name", (one,))
    assert (holders["plain"].description, holders["plain"].blobs) == ("", (two,))
    assert (holders["plain"].last_used, holders["plain"].use_count) == (0.0, 0)


def test_cache_mounts_memos_and_damaged_databases(
    store: Store, root: Path, clock: FakeClock
) -> None:
    os.makedirs(root / "mounts" / "go-build" / "deep")
    (root / "memo" / "abc").write_text("x")
    (root / "records.damaged-1").mkdir()
    store.records.put("mount", "go-build", {"description": "/root/.cache", "at": clock.time})
    listed = {(r.kind, r.type, r.mutable): r for r in usage(store)}
    assert listed["mount", "exec.cachemount", True].description == "/root/.cache"
    with store.leases.create() as lease:
        lease.add("mount", "go-build")
        assert prune(store).records == []
    assert ids(prune(store)) == ["go-build"]
    assert store.records.get("mount", "go-build") is None
    assert not (root / "mounts" / "go-build").exists()
    assert set(ids(prune(store, Policy(all=True)))) == {"abc", "records.damaged-1"}


def test_layer_record_keeps_its_blob_and_goes_with_it(
    store: Store, builder: Builder, clock: FakeClock
) -> None:
    blob = builder.blob(b"compressed layer")
    id = "sha256-" + "a" * 64
    store.records.put("layer", id, {"digest": blob, "at": store.clock.now()})
    key = Digest.of(b"lazy")
    with store.leases.create() as lease:
        Results(store, lease).save(Record(key=key, snapshot=Snapshot((id,))))
        assert prune(store).records == []  # leased: nobody may pull the blob away
    assert ids(prune(store, Policy(keep_duration_s=DAY))) == []
    clock.advance(2 * DAY)
    assert str(blob) in ids(prune(store))
    assert store.records.get("layer", id) is None
    assert store.records.get("result", key) is None
    assert_sound(store)


def test_what_a_result_was_made_of_outlives_it_and_holds_nothing(store: Store, root: Path) -> None:
    """A freed result is explained as freed, not as never made."""
    key = Digest.of(b"k")
    with Store.open(root, FakeClock()) as maker:
        id = maker.deltas.commit(maker.deltas.begin())
        blob = maker.blobs.put(b"a manifest that the key names")
        record = Record(key=key, snapshot=Snapshot((id,)), name="step")
        Results(maker).save(record, NamedInputs({"identity": blob}))
    kinds = [record.kind for record in prune(store).records]
    assert kinds == ["blob", "delta"]
    assert Results(store).load(key) is None
    known = Results(store).inputs.get(key)
    assert known is not None
    assert known.name == "step"


def test_ruin_of_another_boot_is_freed(
    store: Store, builder: Builder, root: Path, clock: FakeClock
) -> None:
    id = builder.layer()
    (root / "snapshots" / id / "durable").unlink()
    (root / "snapshots" / id / "meta.json").write_text("")
    with Store.open(root, clock) as after:
        assert not after.deltas.has(id)
        assert ids(prune(after)) == [id]


def test_unreadable_index_frees_nothing(store: Store, builder: Builder, root: Path) -> None:
    id = builder.layer()
    (root / "index.json").write_text("{")
    with pytest.raises(EnvironmentFault):
        prune(store)
    assert store.deltas.has(id)


def test_default_policies_are_those_of_the_reference(store: Store) -> None:
    """[GC-3]: sources and cache mounts first, then by age, then by size, at last also internal."""
    sources, aged, sized, internal = default_policies(store)
    assert sources.filters == ("type~=^(source\\..*|exec\\.cachemount)$",)
    assert (sources.keep_duration_s, sources.max_used_space) == (2 * DAY, 512_000_000)
    assert (aged.keep_duration_s, sized.keep_duration_s) == (60 * DAY, None)
    assert [rule.all for rule in (sources, aged, sized, internal)] == [False, False, False, True]
    assert replace(internal, all=False) == sized == replace(aged, keep_duration_s=None)
    disk = os.statvfs(store.root)
    size = disk.f_blocks * disk.f_frsize
    assert sized.max_used_space == min(size * 8 // 10, 100 * 1000**3)
    assert sized.reserved_space == min(size // 10, 10 * 1000**3)
    assert sized.min_free_space == size // 5


def test_default_policies_run(store: Store, builder: Builder, clock: FakeClock) -> None:
    builder.layer()
    clock.advance(61 * DAY)
    with_room = collect(store, default_policies(store))
    assert isinstance(with_room, Pruned)
    assert_sound(store)


def test_what_a_store_needs_for_itself_cannot_be_freed(store: Store, root: Path) -> None:
    before = overhead(store)
    (root / "records.damaged-1").write_bytes(b"x" * 100_000)  # which usage() tells of
    (root / "tmp/file").write_bytes(b"x" * 100_000)
    assert overhead(store) == before
    assert before.size > 0 and not before.reclaimable
    (root / "more").write_bytes(b"x" * 100_000)
    assert overhead(store).size >= before.size + 100_000
