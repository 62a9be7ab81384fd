"""Annotations as flags and as attributes of outputs [OUT-14, BLD-17]."""

from __future__ import annotations

import pytest

from pybuild.exporter.annotations import AnnotationPlace, attributes_of, from_attributes
from pybuild.model.errors import UsageError
from pybuild.model.platform import Platform

AMD64 = Platform.parse("linux/amd64")
ARM64 = Platform.parse("linux/arm64")


def test_flags_and_attributes_say_the_same() -> None:
    attrs = attributes_of(["a=1", "index,manifest-descriptor:b=2:3=4", "manifest[linux/arm64]:a=5"])
    assert attrs == {
        "annotation-manifest.a": "1",
        "annotation-index.b": "2:3=4",
        "annotation-manifest-descriptor.b": "2:3=4",
        "annotation-manifest[linux/arm64].a": "5",
    }
    notes = from_attributes(attrs)
    assert notes.of(AnnotationPlace.MANIFEST, AMD64) == {"a": "1"}
    assert notes.of(AnnotationPlace.MANIFEST, ARM64) == {"a": "5"}
    assert notes.of(AnnotationPlace.INDEX) == {"b": "2:3=4"}
    assert notes.of(AnnotationPlace.MANIFEST_DESCRIPTOR, AMD64) == {"b": "2:3=4"}
    assert [a.value for a in notes.for_others([AMD64])] == ["5"]


def test_an_attribute_without_a_place_is_the_manifest_s() -> None:
    notes = from_attributes({"annotation.org.x/Key": "v", "name": "app"})
    assert notes.of(AnnotationPlace.MANIFEST, AMD64) == {"org.x/Key": "v"}


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("a", 'invalid annotation "a": expected [TYPE:]KEY=VALUE'),
        ("=1", 'invalid annotation "=1": expected [TYPE:]KEY=VALUE'),
        (":a=1", 'invalid annotation ":a=1": expected [TYPE:]KEY=VALUE'),
        ("indx:a=1", 'annotation "indx:a=1": unknown type "indx" (did you mean index?)'),
        ("In dex:a=1", 'invalid annotation "In dex:a=1": "In dex" is no type'),
        ("index[linux/arm64]:a=1", 'annotation "index[linux/arm64]:a=1": an index is not of one'),
        ("manifest[linux/amd46]:a=1", 'unknown architecture "amd46"'),
    ],
)
def test_bad_flags_are_named(flag: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        attributes_of([flag])
    assert message in caught.value.message


def test_a_bad_attribute_is_named() -> None:
    with pytest.raises(UsageError, match=r"expected annotation\[-TYPE\]\[\[PLATFORM\]\].KEY"):
        from_attributes({"annotations.a": "1"})
