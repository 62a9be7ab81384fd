"""Caches that several builds write to one place are put together and kept within bounds [CCH-11]."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pybuild.image.cacheformat import merge
from pybuild.image.cacheformat.config import CacheContents, CachedLayer, CachedResult, write_config
from pybuild.image.cacheformat.merge import Retention, merged, united
from pybuild.image.cacheformat.read import read_config
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest

NOW = 1_800_000_000.0
DAY = 86400.0


def layer(name: str, size: int = 10, origin: str = "") -> CachedLayer:
    digest = Digest.of(name.encode())
    return CachedLayer(diff_id=digest, blob=Descriptor("t", digest, size), origin=origin)


def result(name: str, *layers: CachedLayer, used: float = 0.0, alias: str = "") -> CachedResult:
    return CachedResult(
        key=Digest.of(b"key" + name.encode()),
        layers=tuple(one.diff_id for one in layers),
        aliases=(Digest.of(alias.encode()),) if alias else (),
        used=used,
        name=name,
    )


def cache(*pairs: tuple[CachedResult, list[CachedLayer]]) -> CacheContents:
    layers = {one.diff_id: one for _, several in pairs for one in several}
    return CacheContents(layers, tuple(found for found, _ in pairs))


def one(name: str, size: int = 10, used: float = 0.0, alias: str = "") -> CacheContents:
    own = layer(name, size)
    return cache((result(name, own, used=used, alias=alias), [own]))


def both(*several: CacheContents) -> CacheContents:
    layers = {k: v for contents in several for k, v in contents.layers.items()}
    return CacheContents(layers, tuple(r for contents in several for r in contents.results))


def names(contents: CacheContents) -> list[str]:
    assert set(contents.layers) == {d for found in contents.results for d in found.layers}
    return sorted(found.name for found in contents.results)


def test_what_others_have_put_there_stays() -> None:
    found = merged(one("mine"), one("theirs", used=NOW - DAY), Retention(), NOW)
    assert names(found) == ["mine", "theirs"]
    assert {r.name: r.used for r in found.results} == {"mine": NOW, "theirs": NOW - DAY}


def test_what_nobody_has_used_for_long_goes_and_its_layers_with_it() -> None:
    old = both(one("old", used=NOW - 15 * DAY), one("young", used=NOW - 13 * DAY))
    assert names(merged(one("mine"), old, Retention(), NOW)) == ["mine", "young"]
    short = Retention(max_age_s=DAY)
    assert names(merged(one("mine"), old, short, NOW)) == ["mine"]


def test_the_last_used_has_the_room_and_this_build_always() -> None:
    there = both(*(one(str(age), size=40, used=NOW - age * DAY) for age in range(1, 5)))
    kept = merged(one("mine", size=20), there, Retention(max_bytes=100), NOW)
    assert names(kept) == ["1", "2", "mine"]
    kept = merged(one("mine", size=200), there, Retention(max_bytes=100), NOW)
    assert names(kept) == ["mine"]


def test_layers_that_are_shared_or_a_base_images_take_no_room() -> None:
    base, shared = layer("base", 1000, origin="docker.io/library/a:1"), layer("shared", 60)
    mine = cache((result("mine", base, shared), [base, shared]))
    there = cache((result("theirs", base, shared, used=NOW - DAY), [base, shared]))
    assert names(merged(mine, there, Retention(max_bytes=60), NOW)) == ["mine", "theirs"]


def test_a_use_is_noted_once_in_hours() -> None:
    """A build that changes nothing writes nothing."""
    before = merged(one("mine"), CacheContents(), Retention(), NOW)
    again = merged(one("mine"), before, Retention(), NOW + 3600)
    assert write_config(again) == write_config(before)
    later = merged(one("mine"), before, Retention(), NOW + DAY)
    assert later.results[0].used == NOW + DAY
    backwards = merged(one("mine"), before, Retention(), NOW - DAY)
    assert backwards.results[0].used == NOW - DAY


def test_a_link_does_not_hide_the_result_that_is_there() -> None:
    """Another job has uploaded what this one only knows by name."""
    there = one("x", used=NOW)
    link = CacheContents({}, (replace(there.results[0], layers=(), aliases=(Digest.of(b"a"),)),))
    found = merged(link, there, Retention(), NOW).results[0]
    assert (found.layers, found.aliases) == (there.results[0].layers, (Digest.of(b"a"),))


def test_an_alias_means_what_was_said_last() -> None:
    there = both(one("old", used=NOW - 1, alias="definition"), one("other", used=NOW - 1))
    found = merged(one("new", alias="definition"), there, Retention(), NOW)
    assert {r.name: len(r.aliases) for r in found.results} == {"old": 0, "other": 0, "new": 1}
    linked = CacheContents({}, (replace(there.results[0], layers=()),))
    assert names(merged(one("new", alias="definition"), linked, Retention(), NOW)) == ["new"]


def test_the_number_is_bounded_whatever_others_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "MOST_RESULTS", 3)
    there = both(*(one(str(age), used=NOW - age) for age in range(1, 9)))
    assert names(merged(one("mine"), there, Retention(), NOW)) == ["1", "2", "mine"]
    monkeypatch.setattr(merge, "MOST_LAYERS", 2)
    assert names(merged(one("mine"), there, Retention(), NOW)) == ["1", "mine"]


def test_a_document_never_grows_too_long_to_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stacks that begin alike are written once; those that do not, each for itself."""
    monkeypatch.setattr(merge, "MOST_PLACES", 6)
    layers = [layer(str(number)) for number in range(4)]
    alike = cache(*((result(str(n), *layers[:n], used=NOW - n), layers[:n]) for n in range(1, 5)))
    assert names(merged(one("mine"), alike, Retention(), NOW)) == ["1", "2", "3", "mine"]
    turned = [layers[n:] + layers[:n] for n in range(4)]
    unlike = cache(*((result(str(n), *turned[n], used=NOW - n), turned[n]) for n in range(4)))
    assert names(merged(one("mine"), unlike, Retention(), NOW)) == ["0", "mine"]


def test_the_order_of_what_is_put_together_leaves_no_trace() -> None:
    first = merged(one("a"), merged(one("b"), CacheContents(), Retention(), NOW), Retention(), NOW)
    second = merged(one("b"), merged(one("a"), CacheContents(), Retention(), NOW), Retention(), NOW)
    assert write_config(first) == write_config(second)
    assert merged(CacheContents(), read_config(write_config(first)), Retention(), NOW) == first


def test_of_several_caches_a_result_wins_over_a_link_and_the_first_of_two() -> None:
    one, other = layer("a", 10), layer("a", 20)
    link, full = result("k"), result("k", one)
    assert united([CacheContents(results=(link,)), CacheContents(results=(full,))]).results == (
        full,
    )
    assert united([CacheContents(results=(full,)), CacheContents(results=(link,))]).results == (
        full,
    )
    second = replace(full, used=7.0)
    both = [
        CacheContents({one.diff_id: one}, (full,)),
        CacheContents({one.diff_id: other}, (second,)),
    ]
    assert united(both) == CacheContents({one.diff_id: one}, (full,))
    more = layer("b")
    added = united([both[0], CacheContents({more.diff_id: more}, (result("l", more),))])
    assert added.layers == {one.diff_id: one, more.diff_id: more}
    assert added.results == (full, result("l", more))
    assert united([]) == CacheContents()
