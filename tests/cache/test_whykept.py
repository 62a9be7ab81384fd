"""``why-kept`` names what holds a thing, and its way out is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pybuild.cache.space.prune import Policy, prune
from pybuild.cache.space.whykept import Kept, why_kept
from pybuild.cache.store import Store
from pybuild.model.descriptor import OCI_LAYER, Descriptor
from pybuild.model.errors import UserError
from tests.cache.builders import Builder
from tests.cache.test_images import image
from tests.clocks import FakeClock


def one(store: Store, text: str) -> Kept:
    (kept,) = why_kept(store, text)
    return kept


def test_an_image_a_build_a_child_and_a_record_are_named(
    store: Store, root: Path, clock: FakeClock
) -> None:
    builder = Builder(root, clock)
    base = builder.layer(name="FROM base")
    top = builder.layer(base, name="RUN make")
    with Store.open(root, clock) as maker:
        layer = Descriptor(OCI_LAYER, maker.blobs.put(b"layer"), 5)
        maker.images.tag("app", image(maker, "x", [layer]))
    blob = one(store, layer.digest)
    assert blob.images == ("docker.io/library/app:latest",)
    assert blob.place is None
    assert blob.way_out == "pybuild rmi docker.io/library/app:latest, then pybuild prune"
    assert one(store, base[:8]).children == (top,)
    assert one(store, base).way_out == f"pybuild prune --filter id={base}"
    assert {kind for kind, _ in one(store, top).record.records} == {"result"}
    assert one(store, top).place == 0
    assert one(store, base).place == 1
    with Store.open(root, clock) as other:
        other.lease.add("delta", top)
        held = one(store, top)
        assert held.processes == (os.getpid(),)
        assert f"when the build of {os.getpid()} has ended" in held.way_out
        assert held.place is None


def test_the_parts_of_an_image_are_explained_by_its_name(store: Store, root: Path) -> None:
    with Store.open(root, FakeClock()) as maker:
        maker.images.tag("app", image(maker, "x"))
    kept = why_kept(store, "app")
    assert len(kept) == 2  # manifest and config
    assert all(part.images == ("docker.io/library/app:latest",) for part in kept)
    store.images.untag("app")
    assert {record.id for record in prune(store).records} == {part.record.id for part in kept}


def test_the_way_out_frees_it(store: Store, root: Path, clock: FakeClock) -> None:
    id = Builder(root, clock).layer()
    filter = one(store, id).way_out.removeprefix("pybuild prune --filter ")
    assert [record.id for record in prune(store, Policy(filters=(filter,))).records] == [id]


def test_what_is_not_there_or_several_is_said(
    store: Store, root: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match='holds nothing called "nosuch"'):
        why_kept(store, "nosuch")
    for id in ("abcd1", "abcd2"):
        store.deltas.commit(store.deltas.begin(), id)
    with pytest.raises(UserError, match='"abcd" may be any of abcd1, abcd2'):
        why_kept(store, "abcd")
