"""Results found in caches of others, and their way into this store [CCH-12, CCH-13]."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pybuild.cache.records.imported import ImportedCache, is_link
from pybuild.cache.records.layers import (
    LAYER,
    delta_made_into,
    keep_delta_made_into,
    keep_layer,
    layer_facts,
)
from pybuild.cache.records.results import Results
from pybuild.cache.store import Store
from pybuild.image.cacheformat.config import CacheContents, CachedLayer, CachedResult
from pybuild.model.descriptor import OCI_LAYER_GZIP, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.layerfacts import LayerFacts
from pybuild.model.snapshot import Record, Snapshot
from tests.clocks import FakeClock

KEY, ALIAS, LINK, LINK_ALIAS = (Digest.of(name) for name in (b"key", b"alias", b"link", b"above"))
DIFFS = tuple(Digest.of(name) for name in (b"low", b"top"))
DELTAS = tuple("sha256-" + diff_id.hex for diff_id in DIFFS)


def cache(store: Store, ref: str = "reg.example/c:1", key: Digest = KEY) -> ImportedCache:
    layers = {
        diff_id: CachedLayer(
            diff_id=diff_id, blob=Descriptor(OCI_LAYER_GZIP, Digest.of(diff_id.encode()), 9)
        )
        for diff_id in DIFFS
    }
    results = (
        CachedResult(
            key=key, layers=DIFFS, aliases=(ALIAS,), created=5.0, seconds=2.0, name="RUN make"
        ),
        CachedResult(key=LINK, aliases=(LINK_ALIAS,)),
    )
    return ImportedCache(store, ref, CacheContents(layers, results), {"reference": ref})


def test_a_hit_becomes_a_record_whose_layers_can_be_pulled(store: Store) -> None:
    results = Results(store)
    expected = Record(key=KEY, snapshot=Snapshot(DELTAS), seconds=2.0, created=5.0, name="RUN make")
    assert results.load(KEY) is None
    with results.importing([cache(store)]):
        assert results.load(KEY) == expected
    assert results.load(KEY) == expected, "it is the store's own now"
    facts = store.records.get(LAYER, DELTAS[1])
    assert facts is not None
    assert (facts["reference"], facts["diff_id"], facts["parents"]) == (
        "reg.example/c:1",
        DIFFS[1],
        [DELTAS[0]],
    )
    assert not store.blobs.has(facts["descriptor"]["digest"])


def test_what_does_not_hit_leaves_no_trace(store: Store) -> None:
    results = Results(store)
    with results.importing([cache(store)]):
        assert results.load(Digest.of(b"another")) is None
        assert results.alias(Digest.of(b"another")) is None
    assert results.load(KEY) is None
    assert store.records.kinds() == []


def test_what_hits_is_leased(root: Path, clock: FakeClock) -> None:
    with Store.open(root, clock) as store:
        results = Results(store)
        with results.importing([cache(store)]):
            results.load(KEY)
        assert {("delta", delta) for delta in DELTAS} <= store.leases.held()


def test_the_store_is_asked_first_and_the_sources_in_their_order(store: Store) -> None:
    results = Results(store)
    with results.importing([cache(store, "one"), cache(store, "two")]):
        results.load(KEY)
    facts = store.records.get(LAYER, DELTAS[0])
    assert facts is not None and facts["cache"] == "one"
    own = store.deltas.commit(store.deltas.begin())
    results.save(Record(key=KEY, snapshot=Snapshot((own,))))
    with results.importing([cache(store, "two")]):
        record = results.load(KEY)
    assert record is not None and record.snapshot.deltas == (own,)


def test_an_alias_of_ours_gives_way_when_nothing_is_stored_for_it(store: Store) -> None:
    results = Results(store)
    lost = Digest.of(b"lost")
    results.save_alias(ALIAS, lost)
    with results.importing([cache(store)]):
        assert results.alias(ALIAS) == KEY
    assert results.alias(ALIAS) == lost
    own = store.deltas.commit(store.deltas.begin())
    results.save(Record(key=lost, snapshot=Snapshot((own,))))
    with results.importing([cache(store)]):
        assert results.alias(ALIAS) == lost


def test_a_layer_that_was_made_here_is_not_pulled(store: Store) -> None:
    own = store.deltas.commit(store.deltas.begin())
    keep_delta_made_into(store.records, DIFFS[0], own)
    results = Results(store)
    with results.importing([cache(store)]):
        record = results.load(KEY)
    assert record is not None and record.snapshot.deltas == (own, DELTAS[1])


def test_a_layer_that_came_in_an_image_gets_the_time_that_a_cache_tells(store: Store) -> None:
    # Images of definitions without steps have the times of their layers [CCH-12].
    facts = LayerFacts(
        diff_id=DIFFS[0],
        descriptor=Descriptor(OCI_LAYER_GZIP, Digest.of(b"0"), 9),
        reference="reg.example/i:1",
    )
    keep_layer(store.records, DELTAS[0], facts)
    layer = CachedLayer(
        diff_id=DIFFS[0],
        blob=Descriptor(OCI_LAYER_GZIP, Digest.of(b"1"), 9),
        created=7.0,
    )
    contents = CacheContents({DIFFS[0]: layer}, (CachedResult(key=KEY, layers=DIFFS[:1]),))
    results = Results(store)
    with results.importing([ImportedCache(store, "c", contents, {"reference": "c"})]):
        assert results.load(KEY) is not None
    assert layer_facts(store.records, DELTAS[0]) == replace(facts, created=7.0)


def test_a_damaged_record_of_what_a_layer_was_made_from_counts_as_none(store: Store) -> None:
    store.records.put("made-from", DIFFS[0], {"delta": ["x"]})
    assert delta_made_into(store.records, DIFFS[0]) is None
    keep_delta_made_into(store.records, DIFFS[0], "x")
    assert delta_made_into(store.records, DIFFS[0]) == "x"
    assert store.records.get("made-from", DIFFS[0]) == {"delta": "x"}  # as stores have it


def test_a_base_images_layer_keeps_its_place(store: Store) -> None:
    base: dict[str, object] = {
        "diff_id": DIFFS[0],
        "descriptor": {},
        "reference": "reg.example/base@x",
        "parents": [],
    }
    store.records.put(LAYER, DELTAS[0], base)
    results = Results(store)
    with results.importing([cache(store)]):
        assert results.load(KEY) is not None
    assert store.records.get(LAYER, DELTAS[0]) == base


def test_a_link_hits_and_is_never_stored(store: Store) -> None:
    results = Results(store)
    with results.importing([cache(store)]):
        assert results.alias(LINK_ALIAS) == LINK
        record = results.load(LINK)
        assert record is not None and is_link(record.snapshot.deltas)
        results.save(record)
        results.forget(record.snapshot.deltas[0], everywhere=False)
        assert results.load(LINK) is None, "who needs one needs them all"
        assert results.load(KEY) is not None
    assert results.load(LINK) is None


def test_what_was_found_gone_is_not_offered_again(store: Store) -> None:
    results = Results(store)
    with results.importing([cache(store)]):
        assert results.load(KEY) is not None
        results.forget(DELTAS[1], everywhere=False)
        assert store.records.get(LAYER, DELTAS[0]) is not None
        assert results.load(KEY) is None
    assert results.load(KEY) is None


def test_a_place_that_is_gone_takes_what_was_not_fetched_with_it(store: Store) -> None:
    results = Results(store)
    here = store.deltas.commit(store.deltas.begin(), DELTAS[0])
    other = Digest.of(b"other")
    with results.importing([cache(store)]):
        assert results.load(KEY) is not None
    with results.importing([cache(store, "elsewhere", other)]):
        pass
    store.records.put(LAYER, here, {"cache": "reg.example/c:1", "descriptor": {}})
    results.forget(DELTAS[1], everywhere=True)
    assert store.records.get(LAYER, DELTAS[1]) is None
    assert store.records.get(LAYER, here) is not None, "it is here, wherever it came from"
