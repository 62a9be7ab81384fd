"""Annotations of an image: on manifests, the index and their descriptors [OUT-14].

They come as ``--annotation`` [BLD-17] and as attributes of an output, of which the flag is another
spelling.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError
from pybuild.model.platform import Platform

_PREFIX = "annotation"
_ATTRIBUTE = re.compile(r"annotation(?:-([a-z-]+))?(?:\[([^\]]*)\])?\.(.+)\Z", re.DOTALL)
_PLACE = re.compile(r"([a-z-]+)(?:\[([^\]]*)\])?\Z")


class AnnotationPlace(StrEnum):
    """The document that carries an annotation."""

    MANIFEST = "manifest"
    MANIFEST_DESCRIPTOR = "manifest-descriptor"
    INDEX = "index"
    INDEX_DESCRIPTOR = "index-descriptor"


@dataclass(frozen=True, slots=True)
class Annotation:
    """One of them; without *platform* it is for all."""

    place: AnnotationPlace
    platform: Platform | None
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Annotations:
    """All that one output carries."""

    items: tuple[Annotation, ...] = ()

    def of(self, place: AnnotationPlace, platform: Platform | None = None) -> dict[str, str]:
        """Return those of *place*; one for *platform* wins over one for all."""
        chosen = {a.key: a.value for a in self.items if a.place is place and a.platform is None}
        if platform is not None:
            own = {
                a.key: a.value for a in self.items if a.place is place and a.platform == platform
            }
            chosen |= own
        return chosen

    def for_others(self, platforms: Iterable[Platform]) -> list[Annotation]:
        """Return those for a platform that is none of *platforms*."""
        built = set(platforms)
        return [a for a in self.items if a.platform is not None and a.platform not in built]


def is_attribute(name: str) -> bool:
    """Whether an output's attribute is meant as an annotation."""
    return name.startswith(_PREFIX)


def is_annotation(name: str) -> bool:
    """Whether *name*, of an output's attribute or a result's metadata, has the form of one."""
    return _ATTRIBUTE.match(name) is not None


def from_attributes(attrs: Mapping[str, str]) -> Annotations:
    """Read ``annotation[-PLACE][[PLATFORM]].KEY`` attributes.

    Raises:
        UsageError: no such form, place or platform.
    """
    annotations: list[Annotation] = []
    for name, value in attrs.items():
        if not is_attribute(name):
            continue
        match = _ATTRIBUTE.match(name)
        if match is None:
            raise UsageError(
                f'output attribute "{name}": expected annotation[-TYPE][[PLATFORM]].KEY'
            )
        place, platform, key = match.groups()
        annotations.append(
            _annotation(place or AnnotationPlace.MANIFEST, platform, key, value, name)
        )
    return Annotations(tuple(annotations))


def attributes_of(flags: Sequence[str]) -> dict[str, str]:
    """Say ``--annotation [TYPE[[PLATFORM]],…:]KEY=VALUE`` as attributes of an output [BLD-17].

    Raises:
        UsageError: no such form, type or platform.
    """
    attrs: dict[str, str] = {}
    for flag in flags:
        head, equals, value = flag.partition("=")
        places, colon, key = head.rpartition(":")
        if not (equals and key) or (colon and not places):
            raise UsageError(f'invalid annotation "{flag}": expected [TYPE:]KEY=VALUE')
        for place in places.split(",") if colon else [AnnotationPlace.MANIFEST]:
            match = _PLACE.match(place)
            if match is None:
                raise UsageError(f'invalid annotation "{flag}": "{place}" is no type')
            made = _annotation(match[1], match[2], key, value, flag)
            where = f"[{made.platform}]" if made.platform else ""
            attrs[f"{_PREFIX}-{made.place}{where}.{key}"] = value
    return attrs


def _annotation(place: str, platform: str | None, key: str, value: str, shown: str) -> Annotation:
    if place not in set(AnnotationPlace):
        from difflib import get_close_matches

        near = get_close_matches(place, list(AnnotationPlace), n=1)
        hint = f" (did you mean {near[0]}?)" if near else f": one of {', '.join(AnnotationPlace)}"
        raise UsageError(f'annotation "{shown}": unknown type "{place}"{hint}')
    where = AnnotationPlace(place)
    if platform is None:
        return Annotation(where, None, key, value)
    if where in (AnnotationPlace.INDEX, AnnotationPlace.INDEX_DESCRIPTOR):
        raise UsageError(f'annotation "{shown}": an index is not of one platform')
    try:
        return Annotation(where, Platform.parse(platform), key, value)
    except ValueError as error:
        raise UsageError(f'annotation "{shown}": {error}') from error
