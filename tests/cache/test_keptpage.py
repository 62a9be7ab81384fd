"""The holders of a thing of the store, as people and programs read them [GC-5]."""

from __future__ import annotations

from dataclasses import replace

from pybuild.cache.records.results import RESULT
from pybuild.cache.space.keptpage import kept_document, kept_text
from pybuild.cache.space.usage import UsageRecord
from pybuild.cache.space.whykept import Kept

RECORD = UsageRecord(kind="delta", id="d1", type="regular", size=1_500)
KEPT = Kept(
    record=RECORD, images=(), last_of=(), processes=(), children=(), value=0.5, place=0, way_out="pybuild prune"
)  # fmt: skip


def test_a_thing_without_results_is_said_to_be_found_as_none() -> None:
    assert kept_text(KEPT).splitlines() == [
        "delta d1",
        "  what        regular, 1.50kB",
        "  last used   never",
        "  kept until  space is needed; it goes first",
        "  to free it  pybuild prune",
    ]


def test_results_are_counted_and_holders_named() -> None:
    record = replace(RECORD, records=((RESULT, "a"), (RESULT, "b"), ("alias", "c")))
    kept = replace(KEPT, record=record, images=("app",), containers=("c" * 64,), place=2)
    text = kept_text(kept)
    assert "found as    the result of 2 cache keys\n" in text
    assert "needed by   image app\n" in text and f"needed by   container {'c' * 12}\n" in text
    assert "space is needed; 2 other things would go before it" in text
    one = kept_text(replace(kept, record=replace(RECORD, records=((RESULT, "a"),)), place=1))
    assert "the result of 1 cache key\n" in one and "1 other thing would" in one
    assert "the next build" in kept_text(replace(KEPT, last_of=("dir",)))
    assert "nothing needs it any more" in kept_text(replace(KEPT, place=None))


def test_programs_read_all_of_it() -> None:
    document = kept_document(replace(KEPT, images=("app",)))
    assert (document["id"], document["size"], document["images"]) == ("d1", 1_500, ["app"])
    assert (document["place"], document["way_out"], document["records"]) == (0, "pybuild prune", [])


def test_how_often_a_thing_was_used_is_said() -> None:
    for count, words in (
        (0, "ago, not reused so far"),
        (1, "ago, reused 1 time"),
        (2, "ago, reused 2 times"),
    ):
        record = replace(RECORD, last_used=1.0, use_count=count)
        (line,) = (
            one
            for one in kept_text(replace(KEPT, record=record)).splitlines()
            if "last used" in one
        )
        assert line.endswith(words)
