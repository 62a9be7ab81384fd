"""Differences between two images that should be equal: step, file and byte.

Reads OCI layout directories that were just written, layers uncompressed or in gzip.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

from pybuild.model.dataclass import dataclass

_PIECE = 1 << 20
_NEAR = 16
_HEADERS = ("type", "mode", "uid", "gid", "mtime", "linkname", "devmajor", "devminor")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageDifference:
    """One thing that is not the same.

    Attributes:
        step: the instruction that made the layer; empty for what is of the image itself.
        path: of a file in the layer, or of a field of the config.
        what: ``content``, ``only there``, ``mode``, ``mtime``…, ``config``, ``layers``.
        offset: of the first byte that differs, for contents.
        platform: of images for several.
    """

    what: str
    step: str = ""
    path: str = ""
    was: str | None = None
    now: str | None = None
    offset: int | None = None
    platform: str = ""


def compare_layouts(was: str, now: str) -> Iterator[ImageDifference]:
    """Yield how the images of two layout directories differ, layers first, base first.

    Raises:
        OSError, ValueError: one is not as we write them.
    """
    one, other = _Layout(was), _Layout(now)
    before, after = dict(one.manifests()), dict(other.manifests())
    if sorted(before) != sorted(after):
        yield ImageDifference(what="platforms", was=", ".join(before), now=", ".join(after))
    for platform in sorted(before.keys() & after.keys()):
        if before[platform] != after[platform]:
            yield from _images(one, before[platform], other, after[platform], platform)


class _Layout:
    def __init__(self, path: str) -> None:
        self._path = path

    def json(self, digest: str) -> dict[str, Any]:
        with self.open(digest) as file:
            document: dict[str, Any] = json.load(file)
        return document

    def open(self, digest: str) -> IO[bytes]:
        return open(os.path.join(self._path, "blobs", *digest.split(":", 1)), "rb")

    def manifests(self) -> Iterator[tuple[str, str]]:
        """Yield the platform (or a number) and the digest of each image."""
        with open(os.path.join(self._path, "index.json"), "rb") as file:
            queue: list[Mapping[str, Any]] = list(json.load(file)["manifests"])
        number = 0
        while queue:
            entry = queue.pop(0)
            document = self.json(entry["digest"])
            if "manifests" in document:
                queue += document["manifests"]
                continue
            platform: dict[str, str] = entry.get("platform") or {}
            fields = ("os", "architecture", "variant")
            names = [platform[name] for name in fields if name in platform]
            number += 1
            yield "/".join(names) or f"image {number}", entry["digest"]


def _images(
    one: _Layout, was: str, other: _Layout, now: str, platform: str
) -> Iterator[ImageDifference]:
    before, after = one.json(was), other.json(now)
    configs = one.json(before["config"]["digest"]), other.json(after["config"]["digest"])
    layers = [layer["digest"] for layer in before["layers"]]
    others = [layer["digest"] for layer in after["layers"]]
    if len(layers) != len(others):
        yield ImageDifference(
            what="layers", was=str(len(layers)), now=str(len(others)), platform=platform
        )
    steps = _steps(configs[0])
    for number, (old, new) in enumerate(zip(layers, others, strict=False)):
        if old == new:
            continue
        step = steps[number] if number < len(steps) else f"layer {number + 1}"
        differs = False
        with one.open(old) as left, other.open(new) as right:
            for difference in _tars(left, right, step, platform):
                differs = True
                yield difference
        if not differs:
            yield ImageDifference(what="order or padding", step=step, platform=platform)
    # Digests of layers are told where the layers are; what else the config has is its own.
    for path, left_text, right_text in _fields("", *configs):
        if not path.startswith(".rootfs"):
            yield ImageDifference(
                what="config", path=path[1:], was=left_text, now=right_text, platform=platform
            )


def _steps(config: Mapping[str, Any]) -> list[str]:
    history: list[dict[str, Any]] = config.get("history") or []
    return [str(item.get("created_by") or "") for item in history if not item.get("empty_layer")]


def _fields(path: str, was: Any, now: Any) -> Iterator[tuple[str, str | None, str | None]]:
    if was == now:
        return
    if isinstance(was, dict) and isinstance(now, dict):
        names: set[str] = {*was, *now}  # pyright: ignore[reportUnknownArgumentType]
        for name in sorted(names):
            yield from _fields(f"{path}.{name}", was.get(name), now.get(name))  # pyright: ignore
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):  # pyright: ignore
        for number, (left, right) in enumerate(zip(was, now, strict=True)):  # pyright: ignore
            yield from _fields(f"{path}[{number}]", left, right)
    else:
        yield path, _json(was), _json(now)


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, sort_keys=True)[:500]


def _tars(was: IO[bytes], now: IO[bytes], step: str, platform: str) -> Iterator[ImageDifference]:
    with tarfile.open(fileobj=was) as left, tarfile.open(fileobj=now) as right:
        before = {member.name: member for member in left}
        after = {member.name: member for member in right}
        for name in sorted({*before, *after}):
            old, new = before.get(name), after.get(name)
            if old is None or new is None:
                was_there, is_there = ("yes", None) if new is None else (None, "yes")
                what = "only in the first" if new is None else "only in the second"
                yield ImageDifference(
                    what=what, step=step, path=name, was=was_there, now=is_there, platform=platform
                )
                continue
            for what, one, other in _headers(old, new):
                yield ImageDifference(
                    what=what, step=step, path=name, was=one, now=other, platform=platform
                )
            if old.isreg() and new.isreg():
                difference = _contents(left.extractfile(old), right.extractfile(new))
                if difference is not None:
                    offset, one, other = difference
                    yield ImageDifference(
                        what="content",
                        step=step,
                        path=name,
                        was=one,
                        now=other,
                        offset=offset,
                        platform=platform,
                    )


def _headers(was: tarfile.TarInfo, now: tarfile.TarInfo) -> Iterator[tuple[str, str, str]]:
    for name in _HEADERS:
        one, other = getattr(was, name), getattr(now, name)
        if one != other:
            yield (
                (name, f"{one:04o}", f"{other:04o}")
                if name == "mode"
                else (name, str(one), str(other))
            )
    ours, theirs = was.pax_headers, now.pax_headers
    for name in sorted({*ours, *theirs} - {"mtime", "path", "linkpath", "size"}):
        if ours.get(name) != theirs.get(name):
            yield name, repr(ours.get(name)), repr(theirs.get(name))


def _contents(was: IO[bytes] | None, now: IO[bytes] | None) -> tuple[int, str, str] | None:
    """Return the offset of the first difference of two files, and what each has there."""
    if was is None or now is None:
        return None
    at = 0
    while True:
        one, other = was.read(_PIECE), now.read(_PIECE)
        if one != other:
            start = _first_difference(one, other)
            return at + start, _shown(one[start:]), _shown(other[start:])
        if not one:
            return None
        at += len(one)


def _first_difference(one: bytes, other: bytes) -> int:
    # In halves, since nobody compares a megabyte byte by byte in Python.
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _shown(data: bytes) -> str:
    return repr(data[:_NEAR])[1:] if data else "the end"
