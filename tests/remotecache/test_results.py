"""The results of a build that its cache is made of, and those that each mode takes [CCH-10]."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.cache.records.imported import ImportedCache
from pybuild.cache.records.layers import keep_layer
from pybuild.cache.records.results import Results
from pybuild.cache.store import Store
from pybuild.image.cacheformat.config import CacheContents, CachedResult
from pybuild.image.cacheformat.read import read_inline
from pybuild.image.config import INLINE_CACHE
from pybuild.image.manifest import Manifest
from pybuild.model.descriptor import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.layerfacts import LayerFacts
from pybuild.model.named import NamedInputs
from pybuild.model.ops import Vertex
from pybuild.model.snapshot import Record, Snapshot
from pybuild.remotecache.results import StepResult, inline_text, is_origins, step_results, within
from pybuild.solver.solution import Known
from tests.clocks import FakeClock
from tests.solver.builders import copy, image, local, run, scratch

FIRST, SECOND, THIRD = (Digest.of(name) for name in (b"first", b"second", b"third"))
BASE = image()
MAKE = run("make", BASE)
TEST = run("test", MAKE)
DELTA, OTHER = ("sha256-" + Digest.of(name).hex for name in (b"delta", b"other"))


@pytest.fixture
def store(tmp_path: Path) -> Generator[Store]:
    with Store.open(tmp_path / "s", FakeClock()) as opened:
        yield opened


def stored(store: Store, key: Digest, *deltas: str) -> Results:
    """Results that have a record of *key*, whose layers can be pulled."""
    for delta in deltas:
        keep_layer(store.records, delta, LayerFacts(reference="base"))
    results = Results(store)
    record = Record(key=key, snapshot=Snapshot(deltas), seconds=2.0, created=5.0, name="it")
    results.save(record, NamedInputs({"op": {}}))
    return results


def test_a_stored_result_is_taken_with_all_that_is_known_of_it(store: Store) -> None:
    results = stored(store, FIRST, DELTA, OTHER)
    (found,) = step_results(results, [Known({}, {MAKE.digest: FIRST})], [MAKE])
    assert (found.key, found.deltas, found.aliases) == (FIRST, (DELTA, OTHER), ())
    assert (found.created, found.seconds, found.name) == (5.0, 2.0, "it")
    assert found.packed_inputs == results.packed_inputs(FIRST) != ""
    assert found.cached([SECOND]) == CachedResult(
        key=FIRST,
        layers=(SECOND,),
        created=5.0,
        seconds=2.0,
        name="it",
        packed_inputs=found.packed_inputs,
    )


def test_steps_without_a_key_or_a_result_have_no_part(store: Store) -> None:
    results = stored(store, FIRST, DELTA)
    assert step_results(results, [Known()], [MAKE]) == []
    assert step_results(results, [Known({}, {MAKE.digest: SECOND})], [MAKE]) == []
    assert step_results(results, [], [MAKE]) == []


@pytest.mark.parametrize("target", [local(), scratch()])
def test_directories_and_the_empty_tree_have_no_part(store: Store, target: Vertex) -> None:
    results = stored(store, FIRST, DELTA)
    assert step_results(results, [Known({}, {target.digest: FIRST})], [target]) == []


def test_inputs_come_first_and_each_key_once(store: Store) -> None:
    results = stored(store, FIRST, DELTA)
    stored(store, SECOND, OTHER)
    known = Known({}, {BASE.digest: FIRST, MAKE.digest: SECOND, TEST.digest: FIRST})
    found = step_results(results, [known, known], [TEST])
    assert [one.key for one in found] == [FIRST, SECOND]


def test_one_of_several_solves_knows_the_key(store: Store) -> None:
    results = stored(store, FIRST, DELTA)
    found = step_results(results, [Known(), Known({}, {MAKE.digest: FIRST})], [MAKE])
    assert [one.key for one in found] == [FIRST]


def test_what_was_found_earlier_is_not_looked_up_again(store: Store) -> None:
    results = stored(store, FIRST, DELTA)
    earlier = {SECOND: StepResult(key=SECOND, name="earlier")}
    known = Known({}, {BASE.digest: SECOND, MAKE.digest: FIRST, TEST.digest: SECOND})
    found = step_results(results, [known], [TEST], earlier)
    assert [one.name for one in found] == ["earlier", "it"]


def test_a_key_that_another_stands_for_is_a_link_without_a_result(store: Store) -> None:
    target = copy("COPY a b", BASE, local())
    known = Known({}, {target.digest: FIRST, BASE.digest: SECOND, local().digest: THIRD})
    alias = known.alias(target)
    assert alias is not None
    (found,) = step_results(Results(store), [known], [target])
    assert found == StepResult(key=FIRST, aliases=(alias,), name="COPY a b")


def test_what_an_import_only_links_to_is_a_link_here(store: Store) -> None:
    link = CachedResult(key=FIRST, aliases=(SECOND,), name="linked")
    cache = ImportedCache(store, "c", CacheContents({}, (link,)), {})
    results = Results(store)
    with results.importing([cache]):
        (found,) = step_results(results, [Known({}, {MAKE.digest: FIRST})], [MAKE])
    assert (found.deltas, found.name) == ((), "linked")


def result(*deltas: str, alias: bool = False) -> StepResult:
    aliases = (THIRD,) if alias else ()
    return StepResult(key=FIRST, deltas=deltas, aliases=aliases, created=5.0, seconds=2.0, name="x")


def test_the_least_mode_takes_what_the_result_is_made_of() -> None:
    whole, part, other = result("a", "b"), result("a"), result("a", "c")
    assert within([whole, part, other], [["a", "b"]]) == [whole, part]
    assert within([whole, part, other], [["x"], ["c", "a"]]) == [part, other]
    assert within([whole], []) == []


def test_the_least_mode_keeps_links_and_no_more_of_what_it_leaves_out() -> None:
    assert within([result("c", alias=True)], [["a"]]) == [
        StepResult(key=FIRST, aliases=(THIRD,), name="x")
    ]
    assert within([result(alias=True)], [["a"]]) == [result(alias=True)]
    assert within([result()], [["a"]]) == []


@pytest.mark.parametrize(
    ("facts", "image"),
    [
        (None, ""),
        (LayerFacts(reference="base:1"), "base:1"),
        (LayerFacts(reference="cache:1", cache="c"), ""),
        (LayerFacts(reference="base:1", cache="c", is_origins=True), "base:1"),
        (LayerFacts(layout="/l"), ""),
    ],
)
def test_a_layer_of_an_image_is_found_there(
    store: Store, facts: LayerFacts | None, image: str
) -> None:
    if facts is not None:
        keep_layer(store.records, DELTA, facts)
    assert is_origins(store, DELTA) == image


def test_an_image_carries_the_results_that_its_layers_make() -> None:
    diff_ids = {"a": FIRST, "b": SECOND}
    assert inline_text([], diff_ids) == ""
    assert inline_text([result("c")], diff_ids) == ""
    assert inline_text([result("c", alias=True)], diff_ids) == ""
    text = inline_text([result("a", "b")], diff_ids)
    layers = tuple(Descriptor(OCI_LAYER, Digest.of(b"blob%d" % n), 1) for n in range(2))
    manifest = Manifest(OCI_MANIFEST, Descriptor(OCI_CONFIG, THIRD, 1), layers)
    config = {INLINE_CACHE: text, "rootfs": {"diff_ids": [FIRST, SECOND]}}
    carried = read_inline(manifest, config)
    assert carried is not None
    assert [(one.key, one.layers) for one in carried.results] == [(FIRST, (FIRST, SECOND))]
