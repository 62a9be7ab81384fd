"""Builds once more without anything that is stored, on a store of its own, and compares the images.

What a build takes from its cache is what somebody once made; whether it would come out so again is
shown by making it. Both builds get the same SOURCE_DATE_EPOCH, for no two builds happen at one time.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace

from pybuild.builds.build import build
from pybuild.builds.request import BuildRequest
from pybuild.cache.content.images import references
from pybuild.cache.store import Store
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from pybuild.exporter.output import Output
from pybuild.image.compare import ImageDifference, compare_layouts
from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import BlobMissing
from pybuild.model.events import Emit
from pybuild.model.jsontext import parse

EPOCH = "SOURCE_DATE_EPOCH"
# Not uncompressed: layers of base images stay as they are, and which are is for a store to know.
_ATTRS = {"tar": "false", "rewrite-timestamp": "true"}
_MAX_MANIFEST_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome of two builds; equal digests mean that nothing differs.

    Attributes:
        differences: in a fixed order, as far as they are worth reading.
    """

    first: Digest
    second: Digest
    differences: tuple[ImageDifference, ...] = ()

    @property
    def is_same(self) -> bool:
        return self.first == self.second


async def verify(
    settings: Settings, request: BuildRequest, emit: Callable[[str], Emit], most: int = 100
) -> Verdict:
    """Build *request* twice and compare; the second time nothing stored is used.

    Args:
        emit: gives the listener of the "first" and the "second" build.
        most: so many differences are enough.

    Raises:
        PybuildError: one of the builds failed.
    """
    args = {EPOCH: "0", **request.build_args}
    plain = replace(request, build_args=args, tags=(), cache_to=(), attestations=None)
    async with Engine(settings) as engine:
        place = engine.store.scratch("verify")
        os.mkdir(place, 0o700)
        try:
            one, other = os.path.join(place, "first"), os.path.join(place, "second")
            first = await _build(engine, plain, one, emit("first"))
            fresh = replace(settings, root=os.path.join(place, "store"))
            async with Engine(fresh) as second_engine:
                await _lend(engine, second_engine.store)
                alone = replace(plain, cache_from=())
                second = await _build(second_engine, alone, other, emit("second"))
            compared = compare_layouts(one, other) if first != second else iter(())
            differences = tuple(
                difference for difference, _ in zip(compared, range(most), strict=False)
            )
        finally:
            engine.store.discard(place)
    return Verdict(first=first, second=second, differences=differences)


async def _build(engine: Engine, request: BuildRequest, dest: str, emit: Emit) -> Digest:
    output = Output(type="oci", dest=dest, attrs=_ATTRS)
    result = await build(engine, replace(request, outputs=(output,)), emit)
    assert result.image is not None
    return result.image.digest


async def _lend(engine: Engine, store: Store) -> None:
    """Give the second store the images that only the first one has; it pulls all others itself."""
    for request, _, is_local in engine.images.used:
        name = str(request.reference)
        image = engine.store.images.resolve(name) if is_local else None
        if image is not None:
            _copy(engine.store, store, image)
            store.images.tag(name, image)


def _copy(source: Store, target: Store, root: Descriptor) -> None:
    queue: list[Digest] = [root.digest]
    seen: set[Digest] = set()
    while queue:
        digest = queue.pop()
        if digest in seen:
            continue
        seen.add(digest)
        try:
            size = source.blobs.size(digest)
            if size <= _MAX_MANIFEST_BYTES:
                queue += [child for _, child in references(parse(source.blobs.read(digest)))]
        except BlobMissing:
            continue  # another platform's, or a layer that is pulled when it is needed
        path = target.scratch("lent")
        shutil.copyfile(source.blobs.path(digest), path)
        target.blobs.adopt(path, digest, size)


def verdict_text(verdict: Verdict) -> str:
    """Return a verdict as text for people."""
    if verdict.is_same:
        return f"the same image twice: {verdict.first}\n"
    lines = [f"two images: {verdict.first}", f"            {verdict.second}"]
    step: str | None = None
    for one in verdict.differences:
        if one.step != step:
            step = one.step
            platform = f" ({one.platform})" if one.platform and "/" in one.platform else ""
            lines += ["", f"{step or 'the image'}{platform}"]
        lines.append(f"  {_clause(one)}")
    # What an image is made of is not trusted with the terminal.
    shown = ["".join(char if char.isprintable() else "?" for char in line) for line in lines]
    return "\n".join(shown) + "\n"


def _clause(one: ImageDifference) -> str:
    name = f"/{one.path}" if one.step else one.path
    match one.what:
        case "content":
            return f"{name}: byte {one.offset} is {one.was}, then {one.now}"
        case "only in the first" | "only in the second":
            return f"{name}: {one.what} build"
        case "order or padding":
            return "the same files in another order"
        case "config":
            return f"{name}: {one.was}, then {one.now}"
        case _:
            return f"{name}: {one.what} is {one.was}, then {one.now}".lstrip(": ")
